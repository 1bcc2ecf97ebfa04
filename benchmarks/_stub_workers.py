"""The pipeline's workers with nothing to do: images that are there already, a model that looks vectors up.

What is left is the engine's own work: snapshot, shards, batches, joining, Parquet, commits, Ray. The stub's numbers are
no model's, so a run with it sets `engine.canaries: false`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from aistudio.config import ImageSpec
from aistudio.pipeline.actors import EncodeWorker, FetchWorker, FusedWorker, RunContext, _Worker
from aistudio.schema import Status
from aistudio.scoring.core_lock import CoreLock
from aistudio.scoring.encoders import Encoders, Models, find_towers
from aistudio.scoring.image_source import ImageRow, Request

SIZE, DIM = 224, 512
THUMBNAIL_BYTES = 2_000  # as a 160 px WebP of a photograph


class StubSource:
    """Every request succeeds at once; the pixels are one array, copied wherever the pipeline copies pixels."""

    cache_problem: str | None = None

    def __init__(self, thumbnails: bool) -> None:
        self._pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        self._thumbnail = bytes(THUMBNAIL_BYTES) if thumbnails else None

    def images(self, requests: Sequence[Request], *_: Any) -> Iterator[ImageRow]:
        """One good image per request."""
        for number in range(len(requests)):
            yield ImageRow(
                number, Status.OK, http_status=200, num_bytes=30_000, width=400, height=533,
                content_hash=f"{number:064x}", thumbnail=self._thumbnail, pixels=(self._pixels,), decode_s=1e-6,
                fetched=True,
            )  # fmt: skip


class StubModel:
    """Vectors (N, 512) that depend on the images' first pixel and on the texts' length only."""

    image_spec, dim, normalised = ImageSpec(size=SIZE), DIM, True
    fingerprint = image_tower_fingerprint = "stub"

    def __init__(self) -> None:
        vectors = np.random.default_rng(1).normal(size=(256, DIM)).astype(np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        return self._vectors[pixels[:, 0, 0, 0]]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors[[len(t) % 256 for t in texts]]


class StubEncoders(Encoders):
    """As Encoders, around the stub model."""

    def __init__(self, batch_size: int) -> None:
        self.recall: Any = StubModel()
        self.ranking = None
        self.towers = find_towers(Models(self.recall, None, {}))
        self._specs, self.crops = (StubModel.image_spec,), {}
        self._core_lock, self._thread = CoreLock(), None
        self.batch_size = batch_size


def _thumbnails(worker: _Worker) -> bool:
    return worker.config.images.thumbnail_px > 0


class StubFused(FusedWorker):
    """Fused plan."""

    def __init__(self, run: RunContext) -> None:
        _Worker.__init__(self, run)
        self.encoders = StubEncoders(run.plan.batch_size)
        self.source: Any = StubSource(_thumbnails(self))


class StubFetch(FetchWorker):
    """Staged plan, first half."""

    def __init__(self, run: RunContext) -> None:
        _Worker.__init__(self, run)
        self.source: Any = StubSource(_thumbnails(self))


class StubEncode(EncodeWorker):
    """Staged plan, second half."""

    def __init__(self, run: RunContext) -> None:
        _Worker.__init__(self, run)
        self.encoders = StubEncoders(run.plan.batch_size)
