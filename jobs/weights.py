"""`python -m jobs.weights`: the code is aistudio/jobs/weights.py."""

from aistudio.jobs.common import run
from aistudio.jobs.weights import main

if __name__ == "__main__":
    run(main)
