"""The attempts at a run: the newest one alone may write; an older one that is still alive stops before it commits.

An attempt's number is taken with an exclusive create. A worker looks for a newer number before each commit.
"""

import os
import socket

from aistudio.errors import FencedError
from aistudio.runs import layout
from aistudio.runs.record import now
from aistudio.store import Store


def claim_attempt(store: Store) -> int:
    """Take the next attempt number; from now on older attempts may not commit."""
    number = latest_attempt(store)
    claimed = False
    while not claimed:
        number += 1
        about = {"attempt": number, "host": socket.gethostname(), "pid": os.getpid(), "started_at": now()}
        claimed = store.write_json(layout.attempt_key(number), about, overwrite=False)
    return number


def latest_attempt(store: Store) -> int:
    """The newest attempt's number, 0 when there was none."""
    return max((layout.attempt_number(e.key) or 0 for e in store.list(layout.ATTEMPTS)), default=0)


def refuse_if_fenced(store: Store, attempt: int) -> None:
    """Raises FencedError when a newer attempt has taken over the run folder."""
    newest = latest_attempt(store)
    if newest > attempt:
        raise FencedError(f"attempt {newest} has taken over {store.root}; this one ({attempt}) stops")
