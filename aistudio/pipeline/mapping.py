"""Chooses where stored rows are worked on: in this process for a small run, as Ray tasks for a large one.

Ray is imported only when it is needed: a small aggregation ends before Ray would have started.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from aistudio.config import EngineSettings
from aistudio.runs.mapper import InProcess, Mapper

PARALLEL_BYTES = 400 * 2**20  # of score files: below, starting Ray costs more than it saves


@contextmanager
def mapper_for(total_bytes: int, settings: EngineSettings) -> Iterator[Mapper]:
    """Yield a mapper for work over score files of `total_bytes` in all."""
    if total_bytes < PARALLEL_BYTES:
        yield InProcess()
        return
    from aistudio.pipeline.tasks import ray_tasks

    with ray_tasks(settings) as tasks:
        yield tasks
