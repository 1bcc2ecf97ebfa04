"""`python -m jobs.demo`: the code is aistudio/jobs/demo.py."""

from aistudio.jobs.common import run
from aistudio.jobs.demo import main

if __name__ == "__main__":
    run(main)
