"""Where `aggregate` does its work: in this process for a small run (Ray's start would take longer), else as Ray tasks.

Leaves out: the work.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import ray
import ray.exceptions

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline import engine

PARALLEL_BYTES = 400 * 2**20  # of score files: below, starting Ray costs more than it saves
TASKS_PER_CPU = 4  # so that an unlucky task does not hold up the rest

T = TypeVar("T")


class Workers:
    """Maps a function over groups of files: in this process, or as Ray tasks with a bounded number in flight."""

    def __init__(self, num: int, gpu: bool) -> None:
        """`num`: CPUs (or GPUs) of the cluster; 0: in this process."""
        self.num, self.device = num, "cuda" if gpu else None

    def groups(self, files: Sequence[T]) -> list[list[T]]:
        """Consecutive files together, so that the order within a group is the manifest's."""
        parts = min(len(files), max(1, self.num * TASKS_PER_CPU))
        return [[files[i] for i in part] for part in np.array_split(np.arange(len(files)), parts)]

    def map(self, work: Callable[..., Any], groups: Sequence[Any], *shared: Any, gpu: bool = False) -> Iterator[Any]:
        """`work(group, *shared)` for each group, in the order of the groups."""
        if not self.num:
            yield from (work(group, *shared) for group in groups)
            return
        on_gpu = gpu and self.device is not None
        task = ray.remote(work).options(num_cpus=1, num_gpus=1 if on_gpu else 0, max_retries=2)
        held = [ray.put(value) for value in shared]
        running: list[Any] = []
        todo = iter(groups)
        try:
            while True:
                while len(running) < 2 * self.num and (group := next(todo, None)) is not None:
                    running.append(task.remote(group, *held))
                if not running:
                    return
                yield ray.get(running.pop(0))
        except ray.exceptions.RayError as e:
            raise engine.our_error(e) or AIStudioError(f"aggregation failed under Ray: {e}") from None


@contextmanager
def workers(total_bytes: int, settings: EngineSettings) -> Iterator[Workers]:
    """Ray for a large run, this process for a small one (and where a Ray address is set: there)."""
    if total_bytes < PARALLEL_BYTES:
        yield Workers(0, gpu=False)
        return
    with engine.engine(settings) as resources:
        yield Workers(max(1, int(resources.gpus or resources.cpus)), gpu=resources.gpus >= 1)
