"""Starts something that may hang in a thread of its own, so that limits hold and signals are heard meanwhile.

Ray's processes die with the *thread* that started them (PR_SET_PDEATHSIG), so that thread stays until they are done
with. What a failed start leaves behind is killed by process id; the thread itself, deep in foreign code, cannot be
ended: `stopping.leave` then ends the process without waiting for it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aistudio.pipeline import stopping

_PROC = Path("/proc")


class StartTimeout(Exception):
    """The start was not over in time."""


class Start:
    """Something that begins at once in a thread of its own; that thread stays until it is done with."""

    def __init__(self, begin: Callable[[], object]) -> None:
        self._others = set(descendants())
        self._errors: list[BaseException] = []
        self._over, self._free = threading.Event(), threading.Event()
        threading.Thread(target=self._work, args=(begin,), name="start", daemon=True).start()

    def _work(self, begin: Callable[[], object]) -> None:
        try:
            begin()
        except BaseException as e:  # noqa: BLE001 - handed to the thread that waits
            self._errors.append(e)
        self._over.set()
        self._free.wait()

    @contextmanager
    def finished(self, limit_s: float) -> Iterator[None]:
        """Wait for the end of the start, keep its thread for the block; raises as `started` does."""
        try:
            if not self._over.wait(limit_s):
                raise StartTimeout
            if self._errors:
                raise self._errors[0]
        except BaseException:
            self.abandon()
            raise
        try:
            yield
        finally:
            self._free.set()

    @property
    def is_over(self) -> bool:
        """Whether the start has ended, well or not."""
        return self._over.is_set()

    def abandon(self) -> None:
        """Kill what it started; one that is not over yet is left behind when the process ends."""
        if not self._over.is_set():
            stopping.leave_behind_at_exit()
        kill_descendants(keep=self._others)
        self._free.set()


@contextmanager
def started(begin: Callable[[], object], limit_s: float) -> Iterator[None]:
    """Run `begin` in a thread, wait for its end, keep the thread for the block.

    Raises:
        StartTimeout: not over within `limit_s`. Whatever `begin` raises, and KeyboardInterrupt while it works; in all
            these cases the processes that it started are killed.
    """
    with Start(begin).finished(limit_s):
        yield


def kill_descendants(keep: set[int] | None = None) -> None:
    """SIGKILL to every process that this one has started, and to those that they have; but not to `keep`."""
    for pid in descendants():
        if pid not in (keep or ()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def descendants() -> list[int]:
    """Children of this process and theirs, as /proc lists them at this moment."""
    parents: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a process that has just ended
            parents[int(entry.parent.name)] = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
