"""Work that takes a processor, a few requests at a time: others wait in a queue that has an end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from aistudio.serving.counters import Counters
from aistudio.serving.errors import Refused

T = TypeVar("T")


class Gate:
    """Runs work on `workers` threads; who comes when `queue` others wait is refused with 429."""

    def __init__(self, workers: int, queue: int, counters: Counters) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="work")
        self._workers, self._queue, self._counters = workers, queue, counters
        self._inside = 0  # touched by the event loop alone

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns. Raises Refused (429) when too many wait, and what `work` raises."""
        if self._inside >= self._workers + self._queue:
            raise Refused(429, "too many requests wait already; try again in a few seconds")
        self._inside += 1
        self._tell()
        loop, future = asyncio.get_running_loop(), self._pool.submit(work)
        # counted until the thread is free: a visitor who goes away does not make room
        future.add_done_callback(lambda _: self._leave(loop))
        return await asyncio.wrap_future(future)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        def left() -> None:
            self._inside -= 1
            self._tell()

        with suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(left)

    def _tell(self) -> None:
        self._counters.working.set(min(self._inside, self._workers))
        self._counters.waiting.set(max(self._inside - self._workers, 0))

    def close(self) -> None:
        """Begin nothing further."""
        self._pool.shutdown(wait=False, cancel_futures=True)
