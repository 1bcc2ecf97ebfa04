"""`python -m jobs.submit`: the code is aistudio/jobs/submit.py."""

from aistudio.jobs.common import run
from aistudio.jobs.submit import main

if __name__ == "__main__":
    run(main)
