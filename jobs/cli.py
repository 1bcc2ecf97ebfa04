"""`python -m jobs.cli <verb>`: the same as `aistudio <verb>`."""

import sys

if not __package__:  # `python jobs/x.py`: the checkout goes where jobs/ is, whose select.py would hide Python's own
    sys.path[0] = f"{sys.path[0]}/.."

from aistudio.jobs.cli import main

if __name__ == "__main__":
    main()
