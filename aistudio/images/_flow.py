"""Book-keeping of a Downloader: the queue of a host, the state of one stream, and the bytes that wait. No I/O."""

import asyncio
import queue
from collections import deque
from collections.abc import Mapping, Sequence

from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images.host_gate import Gate
from aistudio.images.host_limits import Allotment
from aistudio.images.validators import Validators
from aistudio.schema import Status

Request = tuple[str, str | None]  # image_url, fallback_url

_FIRST_GUESS_BYTES = 256_000  # size of a body before any has been seen


class Door:
    """Requests that wait for their host's gate, first come first served. Used in the loop's thread alone."""

    def __init__(self, gate: Gate, *, shared: bool) -> None:
        """`shared`: its limits come from an exchange with the other workers."""
        self.gate, self.shared = gate, shared
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self) -> None:
        """Wait for this request's turn. Raises FetchFailed: the host does not answer anybody."""
        self._refuse_dead()
        if not self._waiters and self.gate.enter(asyncio.get_running_loop().time()) == 0.0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._let_in()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.leave()  # it had its turn
            raise

    def leave(self) -> None:
        """A request that entered is back."""
        self.gate.leave()
        self._let_in()

    def set(self, allotment: Allotment) -> None:
        """Take new limits."""
        self.gate.set(allotment, asyncio.get_running_loop().time())
        self._let_in()

    def _refuse_dead(self) -> None:
        if self.gate.allotment.dead:
            status, _, text = self.gate.allotment.dead.partition(": ")
            raise FetchFailed(Status(status), f"{text}; the host answered nobody lately and is left alone for a while")

    def _let_in(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiters:
            if self._waiters[0].done():  # cancelled
                self._waiters.popleft()
                continue
            try:
                self._refuse_dead()
            except FetchFailed as e:
                self._waiters.popleft().set_exception(e)
                continue
            wait = self.gate.enter(loop.time())
            if wait is None:
                return
            if wait > 0:
                self._timer = loop.call_later(wait, self._let_in)
                return
            self._waiters.popleft().set_result(None)


class Stream:
    """One stream() call. `owed_*` belong to the consumer's thread, `results` to both, the rest to the loop."""

    def __init__(self, requests: Sequence[Request], window: int, known: Mapping[int, Validators] | None = None) -> None:
        self.requests, self.known = requests, known or {}
        self.window = window
        self.results: queue.SimpleQueue[tuple[int, Fetched | BaseException]] = queue.SimpleQueue()
        self.owed_rows = self.owed_bytes = 0
        self.begun = self.held_bytes = 0
        self.present = 0  # rows let in by the budget and not yet consumed
        self.tasks: set[asyncio.Task[None]] = set()


class Budget:
    """Bytes that are waiting or expected. Used in the loop's thread alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0.0
        self._mean = float(_FIRST_GUESS_BYTES)
        self._waiters: deque[tuple[Stream, asyncio.Future[None]]] = deque()

    async def reserve(self, stream: Stream) -> float:
        """Waits for room for one body of mean size.

        A stream of which nothing is there is always let in: otherwise the unread results of one stream could hold
        up another for ever, and with it the thread that reads both.
        """
        while stream.present and self._used + self._mean > self._limit:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((stream, waiter))
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()  # it may have been this one's turn
                raise
        amount = self._mean
        stream.present += 1
        self._used += amount
        return amount

    def settle(self, reserved: float, kept: int) -> None:
        """A row is done: its reservation becomes its real size."""
        if kept:
            self._mean += (kept - self._mean) / 64
        self._used += kept
        self.release(reserved)

    def release(self, amount: float) -> None:
        self._used -= amount
        if self._used < 1:  # rounding of many reservations must not leave a rest
            self._used = 0.0
        self._wake()

    def consumed(self, stream: Stream, num_rows: int, num_bytes: int) -> None:
        """The consumer has taken rows and their bodies."""
        stream.present -= num_rows
        self.release(num_bytes)
        if not stream.present:
            waiting = next((w for s, w in self._waiters if s is stream and not w.done()), None)
            if waiting is not None:
                waiting.set_result(None)

    def _wake(self) -> None:
        # One at a time is too slow after a large body went, all at once is a stampede: wake what might fit.
        fits = max(1, int((self._limit - self._used) / max(self._mean, 1.0))) if self._used < self._limit else 0
        while fits and self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                fits -= 1
