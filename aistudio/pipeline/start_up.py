"""Says what a job is doing, from the first half second on: a line on standard error as each step begins."""

import sys
import time
from contextlib import suppress
from typing import IO, TextIO

_begun = time.monotonic()  # this module is among the first that a job imports


def announce(text: str) -> None:
    """Say what begins, after the seconds that have passed since the job began."""
    say(f"{time.monotonic() - _begun:6.1f} s  {text}")


def say(text: str, out: TextIO | IO[str] | None = None) -> None:
    """Print a line, by default to standard error, with escapes for what its encoding lacks; never raises.

    A closed or full stream is passed over.
    """
    out = out or sys.stderr
    if out is None:  # closed before the process began
        return
    with suppress(OSError, ValueError):
        encoding = getattr(out, "encoding", None) or "utf-8"
        # In one call: `print` writes the end of the line by itself, and another thread may come between.
        out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        out.flush()
