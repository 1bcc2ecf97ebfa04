"""Running a tower on single rows, several at a time in threads of their own, so that no row can feel its neighbours.

Sums of float32 numbers depend on their order, and libraries choose the order by the shape of a batch, by a row's place
in it and by the number of threads. A row that is computed alone, unpadded and in one thread has none of these.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from aistudio.models._optimise import NeighbourlessLinear

T = TypeVar("T")
R = TypeVar("R")
_START_S = 60  # a thread starts in microseconds; a process that may not start one must not wait for ever


def wants_single_rows(tower: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    """Must this tower be given one row at a time for its results to be the same bits in every batch?

    The convolutional towers that `ready_tower` rebuilt for oneDNN need not: they are made of parts that have no such
    choice. Low precision and GPUs are compared within a tolerance, and want large batches.
    """
    rebuilt = any(isinstance(module, NeighbourlessLinear) for module in tower.modules())
    return device.type == "cpu" and dtype == torch.float32 and not rebuilt


class OneByOne:
    """Computes rows in as many threads as the first caller may use, each with a single torch thread of its own."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def map(self, compute: Callable[[T], R], rows: Sequence[T]) -> list[R]:
        """`compute` of each row, in order; an exception of any row is raised here."""
        with self._starting:
            self._pool = self._pool or _started(torch.get_num_threads())
        return list(self._pool.map(compute, rows))


def _started(num_threads: int) -> ThreadPoolExecutor:
    """Threads that have their setting before any other thread can copy it from the process.

    `torch.set_num_threads` sets the calling thread and what threads to come begin with, hence the second call.
    """
    pool = ThreadPoolExecutor(num_threads, "one_by_one", _one_thread)
    all_here = threading.Barrier(num_threads)
    list(pool.map(lambda _: all_here.wait(_START_S), range(num_threads)))
    torch.set_num_threads(num_threads)
    return pool


def _one_thread() -> None:
    torch.get_num_threads()  # a thread copies the process's number when it first asks, over one that was set before
    torch.set_num_threads(1)
