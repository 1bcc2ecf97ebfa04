"""Chooses where stored rows are worked on and queries encoded: in this process when they are few, else on Ray.

Ray is imported only when it is needed: a small aggregation ends before Ray would have started.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from aistudio.config import EngineSettings, JobConfig
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.scoring.pinned_models import PinnedModel
from aistudio.scoring.query_vectors import QueryEncoder, QueryVectors

PARALLEL_BYTES = 400 * 2**20  # of score files: below, starting Ray costs more than it saves
MANY_QUERIES = 20_000  # half a minute of one core; below, starting Ray and loading a model in each actor costs more
PICTURE_WEIGHT = 20  # what fetching, decoding and encoding a picture costs, in composed queries


@contextmanager
def mapper_for(total_bytes: int, settings: EngineSettings) -> Iterator[Mapper]:
    """Yield a mapper for work over score files of `total_bytes` in all."""
    if total_bytes < PARALLEL_BYTES:
        yield InProcess()
        return
    from aistudio.pipeline.tasks import ray_tasks

    with ray_tasks(settings) as tasks:
        yield tasks


@contextmanager
def encoder_for(config: JobConfig, model: PinnedModel, num_texts: int, num_pictures: int) -> Iterator[QueryVectors]:
    """Yield an encoder for `num_texts` texts, alone or to be composed, and `num_pictures` new pictures.

    Raises:
        WeightsError, ConfigError: the model cannot be loaded. AIStudioError: Ray fails, or has no room.
    """
    if num_texts + PICTURE_WEIGHT * num_pictures < MANY_QUERIES:
        yield QueryEncoder(config, model, "cuda" if config.engine.device == "cuda" else "cpu")
        return
    from aistudio.pipeline.query_actors import actor_encoder

    with actor_encoder(config, model) as encoder:
        yield encoder
