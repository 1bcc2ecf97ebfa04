"""`python -m jobs.retry`: the code is aistudio/jobs/retry.py."""

from aistudio.jobs.common import run
from aistudio.jobs.retry import main

if __name__ == "__main__":
    run(main)
