"""`python -m jobs.score`: the code is aistudio/jobs/score.py."""

from aistudio.jobs.common import run
from aistudio.jobs.score import main

if __name__ == "__main__":
    run(main)
