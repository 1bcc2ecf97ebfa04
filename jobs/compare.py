"""`python -m jobs.compare`: the code is aistudio/jobs/compare.py."""

from aistudio.jobs.common import run
from aistudio.jobs.compare import main

if __name__ == "__main__":
    run(main)
