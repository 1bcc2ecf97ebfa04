"""`python -m jobs.train`: the code is aistudio/jobs/train.py."""

from aistudio.jobs.common import run
from aistudio.jobs.train import main

if __name__ == "__main__":
    run(main)
