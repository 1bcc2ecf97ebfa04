"""`python -m jobs.aggregate`: the code is aistudio/jobs/aggregate.py."""

from aistudio.jobs.aggregate import main
from aistudio.jobs.common import run

if __name__ == "__main__":
    run(main)
