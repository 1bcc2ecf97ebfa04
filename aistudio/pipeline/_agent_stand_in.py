"""A process that stands for one of a raylet's agents and does nothing; lean_ray.py has it started. Imports no Ray.

A raylet wants its agents to be there: it ends when one of them does, and ends them when it ends. When a raylet is
killed, this process ends within a second.
"""

import os
import time


def wait_for_the_end_of(parent: int) -> None:
    """Return when the process that started this one is no longer there."""
    while parent > 1 and os.getppid() == parent:
        time.sleep(1)


if __name__ == "__main__":
    wait_for_the_end_of(os.getppid())
