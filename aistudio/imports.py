"""Importing large libraries without the garbage collector, which would look at all of their objects time and again."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block nothing is collected, and what is there at its end is not looked at again.

    torch, pandas and Ray are some 300,000 objects that stay: importing them takes a fifth less of CPU time so.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
