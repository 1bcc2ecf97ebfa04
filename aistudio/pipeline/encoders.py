"""Both models of a run, run on the same pixels: one pass when they share an image tower, else two."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from aistudio.config import ImageSpec, JobConfig, load_model_config
from aistudio.models import load_model
from aistudio.models.poi_table import PoiTable
from aistudio.pipeline.plan import Plan
from aistudio.store import open_store

_TEXT_CACHE = 50_000  # distinct texts; at 512 float32 each about 100 MB


def read_poi_table(config: JobConfig) -> PoiTable | None:
    """The table at models.poi_table, local or S3; None when there is none."""
    if not config.models.poi_table:
        return None
    folder, _, name = config.models.poi_table.rpartition("/")
    return PoiTable.from_arrow(open_store(folder or ".", config.store).read_table(name))


class Encoders:
    """Recall model, ranking model or none, and the text cache. Calls are serialised: one model, one caller."""

    def __init__(self, config: JobConfig, plan: Plan) -> None:
        engine = config.engine
        options: dict[str, Any] = {"device": plan.device, "precision": engine.precision, "compile": engine.compile}
        self.recall = load_model(load_model_config(config.models.recall), **options)
        self.ranking: Any = None
        if config.models.ranking:
            pois = read_poi_table(config)
            self.ranking = load_model(load_model_config(config.models.ranking), poi_table=pois, **options)
        self.shared = self.ranking is not None and (
            self.ranking.image_tower_fingerprint == self.recall.image_tower_fingerprint
            and self.ranking.image_spec == self.recall.image_spec
        )
        self._lock = threading.Lock()
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def specs(self) -> tuple[ImageSpec, ...]:
        """Pixel formats that `encode` takes, in order: one, or two when the models differ."""
        if self.ranking is None or self.ranking.image_spec == self.recall.image_spec:
            return (self.recall.image_spec,)
        return (self.recall.image_spec, self.ranking.image_spec)

    @property
    def rank_dim(self) -> int | None:
        """Width of the ranking model's own image vectors, None when it has none of its own."""
        return self.ranking.dim if self.ranking is not None and not self.shared else None

    def facts(self) -> dict[str, str]:
        """For run.json: which case of image towers this run is."""
        return {} if self.ranking is None else {"image_tower": "shared" if self.shared else "own"}

    def encode(self, pixels: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray | None]:
        """Images -> (recall vectors (N, D) float32, ranking vectors (N, D) float32 or None when shared)."""
        stacked = [np.stack(p) for p in zip(*pixels, strict=True)]
        with self._lock:
            recall = self.recall.encode_images(stacked[0])
            if self.ranking is None or self.shared:
                return recall, None
            return recall, self.ranking.encode_images(stacked[-1])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Distinct texts -> (N, D) float32 unit vectors, from the cache where possible."""
        with self._lock:
            missing = [t for t in texts if t not in self._texts]
            if missing:
                self._texts.update(zip(missing, self.recall.encode_texts(missing), strict=True))
            vectors = [self._texts[t] for t in texts]
            for text in texts:
                self._texts.move_to_end(text)
            while len(self._texts) > max(_TEXT_CACHE, len(texts)):
                self._texts.popitem(last=False)
        return np.stack(vectors) if vectors else np.zeros((0, self.recall.dim), np.float32)

    def rank(self, vectors: np.ndarray, texts: Sequence[str], poi_names: Sequence[str | None]) -> np.ndarray:
        """Ranking scores (N,) float32 of image vectors with their rows' texts and POI names."""
        with self._lock:
            return self.ranking.rank(vectors, list(texts), list(poi_names))
