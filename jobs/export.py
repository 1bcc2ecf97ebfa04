"""`python -m jobs.export`: the code is aistudio/jobs/export.py."""

import sys

if not __package__:  # `python jobs/x.py`: the checkout goes where jobs/ is, whose select.py would hide Python's own
    sys.path[0] = f"{sys.path[0]}/.."

from aistudio.jobs.common import run
from aistudio.jobs.export import main

if __name__ == "__main__":
    run(main)
