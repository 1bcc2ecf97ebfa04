"""`python -m jobs.select`: the code is aistudio/jobs/select.py."""

import sys

if not __package__:  # `python jobs/x.py`: the checkout goes where jobs/ is, whose select.py would hide Python's own
    sys.path[0] = f"{sys.path[0]}/.."

from aistudio.jobs.common import run
from aistudio.jobs.select import main

if __name__ == "__main__":
    run(main)
