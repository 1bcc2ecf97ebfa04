"""`python -m jobs.verify`: the code is aistudio/jobs/verify.py."""

from aistudio.jobs.common import run
from aistudio.jobs.verify import main

if __name__ == "__main__":
    run(main)
