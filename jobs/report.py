"""`python -m jobs.report`: the code is aistudio/jobs/report.py."""

from aistudio.jobs.common import run
from aistudio.jobs.report import main

if __name__ == "__main__":
    run(main)
