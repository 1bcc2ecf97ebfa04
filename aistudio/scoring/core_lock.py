"""The lock on the one core that an actor has, and a clock that does not count the waiting for it."""

import threading
import time


class CoreLock:
    """`with core_lock: ...`, one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()

    def __enter__(self) -> None:
        started = time.perf_counter()
        self._lock.acquire()
        self._mine.waited_s = self._waited_s() + time.perf_counter() - started

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def clock(self) -> float:
        """As time.perf_counter(), but it stands still while the calling thread waits for the lock."""
        return time.perf_counter() - self._waited_s()

    def _waited_s(self) -> float:
        return getattr(self._mine, "waited_s", 0.0)
