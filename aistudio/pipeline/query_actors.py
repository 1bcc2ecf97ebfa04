"""Encodes the many queries of a large search on Ray's actors: the parallel twin of `scoring.query_vectors`.

The driver sends each distinct text and each picture once, to one actor. Results have the same bits either way.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions

from aistudio.config import JobConfig
from aistudio.errors import AIStudioError
from aistudio.pipeline import cluster
from aistudio.pipeline.plan import Plan, make_plan
from aistudio.scoring.image_source import Request
from aistudio.scoring.pinned_models import PinnedModel
from aistudio.scoring.query_vectors import (
    Encoded,
    FreshImage,
    QueryEncoder,
    Vectors,
    distinct_texts,
    joined,
    spread,
    with_reasons,
)

_TEXTS, _ROWS, _PICTURES = 512, 2_048, 64  # of a call
_CALLS_AHEAD = 2  # for each actor


@contextmanager
def actor_encoder(config: JobConfig, model: PinnedModel) -> Iterator["ActorEncoder"]:
    """Connect to Ray for the block, with as many actors as a scoring run of this model would have.

    Raises:
        WeightsError, ConfigError: the model cannot be loaded. AIStudioError: Ray fails, or has no room.
    """
    with cluster.connect(config.engine) as resources:
        plan = make_plan(config.engine, resources, sum(file.size_bytes or 0 for file in model.config.files))
        cluster.wait_for_room(plan.bundles()[:1], config.engine, resources)
        encoder = ActorEncoder(config, model, plan)
        try:
            yield encoder
        except ray.exceptions.RayError as e:
            raise cluster.our_error(e) or AIStudioError(f"encoding the queries failed under Ray: {e}") from None
        finally:
            encoder.close()


class _Encoder:
    """A QueryEncoder in a process of its own. What loading refuses is raised by the first call: of a constructor's
    error Ray makes mere text."""

    def __init__(self, config: dict[str, Any], model: PinnedModel, plan: Plan) -> None:
        import torch

        torch.set_num_threads(plan.torch_threads)
        self._refusal: AIStudioError | None = None
        try:
            self._encoder = QueryEncoder(JobConfig.model_validate(config), model, plan.device)
        except AIStudioError as e:
            self._refusal = e

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the QueryEncoder; what it yields comes as a list."""
        if self._refusal is not None:
            raise self._refusal
        found = getattr(self._encoder, method)(*args)
        return list(found) if method == "images" else found


class ActorEncoder:
    """The actors of one search, asked in turn."""

    def __init__(self, config: JobConfig, model: PinnedModel, plan: Plan) -> None:
        options = {"num_cpus": plan.cpus_per_actor, "num_gpus": plan.gpus_per_actor}
        actor = ray.remote(_Encoder).options(**options, max_restarts=2, max_task_retries=2)
        settings = config.model_dump(mode="json")
        self._actors = [actor.remote(settings, model, plan) for _ in range(plan.min_actors or plan.num_actors)]

    def texts(self, texts: Sequence[str]) -> Encoded:
        """As `QueryEncoder.texts`."""
        distinct, place_N = distinct_texts(texts)
        return spread(joined(list(self._each("encode", _parts(_TEXTS, distinct))), 0), place_N)

    def compose(self, images_ND: Vectors, texts: Sequence[str]) -> Encoded:
        """As `QueryEncoder.compose`."""
        distinct, place_N = distinct_texts(texts)
        given = joined(list(self._each("text_vectors", _parts(_TEXTS, distinct))), 0)
        cuts = range(0, len(texts), _ROWS)
        parts = ((images_ND[i : i + _ROWS], given.vectors_ND[place_N[i : i + _ROWS]]) for i in cuts)
        return with_reasons(
            joined(list(self._each("mix", parts)), images_ND.shape[1]), spread(given, place_N).problems
        )  # fmt: skip

    def images(self, requests: Sequence[Request], batch_size: int) -> Iterator[FreshImage]:
        """As `QueryEncoder.images`."""
        parts = ((part, batch_size) for (part,) in _parts(_PICTURES, requests))
        for number, found in enumerate(self._each("images", parts)):
            for image in found:
                row = image.row._replace(number=number * _PICTURES + image.row.number)
                yield image._replace(row=row)

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _each(self, method: str, parts: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of a call for each part, in order; a bounded number of calls at a time."""
        running: deque[Any] = deque()
        for number, part in enumerate(parts):
            if len(running) == _CALLS_AHEAD * len(self._actors):
                yield ray.get(running.popleft())
            running.append(self._actors[number % len(self._actors)].call.remote(method, *part))
        while running:
            yield ray.get(running.popleft())


def _parts(size: int, values: Sequence[Any]) -> Iterator[tuple[Sequence[Any]]]:
    return ((values[i : i + size],) for i in range(0, len(values), size))
