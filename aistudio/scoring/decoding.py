"""Threads that decode groups of images, and the time limit of each image: a decoder that hangs is left behind."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")
Row = TypeVar("Row")


@dataclass
class Group(Generic[Job, Row]):
    """Jobs that one thread does one after the other."""

    jobs: Sequence[Job]
    rows: list[Row] = field(default_factory=list)  # of the first jobs
    future: Future[None] | None = None
    pool: ThreadPoolExecutor | None = None
    in_hand: tuple[int, float] | None = None  # job's number, begun when (monotonic seconds); None: waits for a thread
    left_behind: bool = False

    @property
    def done(self) -> bool:
        """Nothing is left to wait for."""
        return len(self.rows) == len(self.jobs)


class Decoders(Generic[Job, Row]):
    """`do` (must not raise) for every job of a group, in order, at most `limit_s` seconds each; else `too_slow`.

    May be called from several threads at once.
    """

    def __init__(
        self, do: Callable[[Job], Row], too_slow: Callable[[Job], Row], num_threads: int, limit_s: float
    ) -> None:
        self._do, self._too_slow, self._num_threads, self._limit_s = do, too_slow, num_threads, limit_s
        self._lock = threading.Lock()
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")

    def submit(self, jobs: Sequence[Job]) -> Group[Job, Row]:
        """Begin a group as soon as a thread is free."""
        return self._begin(Group(jobs))

    def rows(self, group: Group[Job, Row]) -> list[Row]:
        """The group's rows, in the order of its jobs, once all are there."""
        while not group.done:
            assert group.future is not None
            in_hand = group.in_hand
            left = self._limit_s if in_hand is None else in_hand[1] + self._limit_s - time.monotonic()
            try:
                group.future.result(timeout=max(left, 0.0))
            except CancelledError:
                self._begin(group)  # its pool was given up because of another image
            except TimeoutError:
                if in_hand is not None and group.in_hand == in_hand:  # all its time went into the same job
                    group = self._give_up(group, in_hand[0])
        return group.rows

    def close(self) -> None:
        """Drop the work that has not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, group: Group[Job, Row]) -> Group[Job, Row]:
        with self._lock:
            group.pool, group.future = self._pool, self._pool.submit(self._run, group)
        return group

    def _run(self, group: Group[Job, Row]) -> None:
        for number in range(len(group.rows), len(group.jobs)):
            group.in_hand = number, time.monotonic()
            row = self._do(group.jobs[number])
            if group.left_behind:
                return
            group.rows.append(row)

    def _give_up(self, group: Group[Job, Row], stuck: int) -> Group[Job, Row]:
        # A thread cannot be stopped: it is left behind with its pool, and what waited there starts again in a new one.
        group.left_behind = True
        with self._lock:
            if group.pool is self._pool:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = self._new_pool()
        rest = Group(group.jobs, [*group.rows[:stuck], self._too_slow(group.jobs[stuck])])
        return rest if rest.done else self._begin(rest)
