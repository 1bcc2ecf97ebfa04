"""`python -m jobs.select`: the code is aistudio/jobs/select.py."""

from aistudio.jobs.common import run
from aistudio.jobs.select import main

if __name__ == "__main__":
    run(main)
