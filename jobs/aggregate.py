"""`python -m jobs.aggregate`: the code is aistudio/jobs/aggregate.py."""

import sys

if not __package__:  # `python jobs/x.py`: the checkout goes where jobs/ is, whose select.py would hide Python's own
    sys.path[0] = f"{sys.path[0]}/.."

from aistudio.jobs.aggregate import main
from aistudio.jobs.common import run

if __name__ == "__main__":
    run(main)
