"""Runs a function over groups of score files as Ray tasks: the parallel twin of `runs.mapper.InProcess`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import ray
import ray.exceptions

from aistudio.config import EngineSettings
from aistudio.errors import AIStudioError
from aistudio.pipeline import cluster

TASKS_PER_CPU = 4  # so that an unlucky task does not hold up the rest

T = TypeVar("T")


class RayTasks:
    """Maps as Ray tasks, a bounded number in flight."""

    tells_steps = False

    def __init__(self, num: int, gpu: bool) -> None:
        """`num`: CPUs (or GPUs, if `gpu`) of the cluster."""
        self.num, self.device = num, "cuda" if gpu else None

    def groups(self, items: Sequence[T]) -> list[list[T]]:
        """Cut into TASKS_PER_CPU groups for each CPU, at most one for each item."""
        parts = min(len(items), self.num * TASKS_PER_CPU)
        return [[items[i] for i in part] for part in np.array_split(np.arange(len(items)), parts)] if parts else []

    def map(self, work: Callable[..., Any], groups: Sequence[Any], *shared: Any, gpu: bool = False) -> Iterator[Any]:
        """Yield `work(group, *shared)` for each group, in the order of the groups.

        Raises:
            AIStudioError: what a task raised, or that Ray failed.
        """
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
            raise cluster.our_error(e) or AIStudioError(f"a task over stored files failed under Ray: {e}") from None


@contextmanager
def ray_tasks(settings: EngineSettings) -> Iterator[RayTasks]:
    """Connect to Ray for the block; one task for each CPU of the cluster, or for each GPU if it has any."""
    with cluster.connect(settings) as resources:
        yield RayTasks(max(1, int(resources.gpus or resources.cpus)), gpu=resources.gpus >= 1)
