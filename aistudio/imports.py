"""Importing large libraries without the garbage collector, which would look at all of their objects time and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block nothing is collected: torch, pandas and Ray are some 300,000 objects that stay.

    Nothing is frozen: garbage that waits to be collected may hold what has to end, such as a failed run's actors.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
