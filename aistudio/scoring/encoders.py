"""All models of a run on the same pixels: towers that give equal vectors run once."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from aistudio.config import JobConfig
from aistudio.models import ImageEncoder, LoadKeywords, RankingModel, RecallModel, load_model, load_ranking, load_recall
from aistudio.schema import EMBEDDING, RANK_EMBEDDING, encoder_column
from aistudio.scoring.batch_size import LARGEST, SMALLEST, CudaMemory, DeviceMemory, find_batch_size, largest_useful
from aistudio.scoring.canaries import fixed_inputs
from aistudio.scoring.core_lock import CoreLock
from aistudio.scoring.pinned_models import PinnedModels, load_pinned, load_poi_table

R = TypeVar("R")


class Device(NamedTuple):
    """Where one actor's models run, and with how many images at once."""

    name: str  # "cpu" or "cuda"
    batch_size: int  # images per forward pass; 0: the GPU's actor finds its own
    gpu_share: float = 1.0  # part of the GPU's memory that this actor may use


class Models(NamedTuple):
    """The loaded models of a run, by role."""

    recall: RecallModel | None
    ranking: RankingModel | None
    encoders: Mapping[str, ImageEncoder]


class Towers(NamedTuple):
    """The image towers that a run needs, each once, and what becomes of their vectors."""

    models: tuple[ImageEncoder, ...]
    columns: dict[str, int]  # stored vector column -> tower
    rank: int | None  # tower of the ranking model

    @property
    def widths(self) -> dict[str, int]:
        """Width of each stored vector column."""
        return {column: self.models[tower].dim for column, tower in self.columns.items()}

    def tower_of(self, column: str) -> int:
        """Return the tower of a model by the column that its vectors have where they are stored for it alone."""
        return self.rank if column == RANK_EMBEDDING and self.rank is not None else self.columns[column]


def find_towers(models: Models) -> Towers:
    """Give each vector column its tower; models whose towers and pixels are equal share one.

    The ranking model's vectors have a column only when they are not the recall model's.
    """
    found: list[ImageEncoder] = []

    def place(model: ImageEncoder) -> int:
        for i, other in enumerate(found):
            known = model.image_tower_fingerprint is not None
            if known and (model.image_tower_fingerprint, model.image_spec) == (
                other.image_tower_fingerprint,
                other.image_spec,
            ):
                return i
        found.append(model)
        return len(found) - 1

    columns: dict[str, int] = {}
    if models.recall is not None:
        columns[EMBEDDING] = place(models.recall)
    rank = None if models.ranking is None else place(models.ranking)
    if rank is not None and rank != columns.get(EMBEDDING):
        columns[RANK_EMBEDDING] = rank
    columns |= {encoder_column(name): place(model) for name, model in models.encoders.items()}
    return Towers(tuple(found), columns, rank)


class Encoders:
    """The models of one actor.

    Calls are serialised: one model, one caller. Images on a GPU are not, see models/_encode.py. `batch_size` is how
    many images `encode` should be given at once.
    """

    def __init__(self, config: JobConfig, device: Device, models: PinnedModels) -> None:
        """Load the models. Raises WeightsError and ConfigError as `load_pinned`."""
        loaded = _load(config, device, models)
        self.recall, self.ranking = loaded.recall, loaded.ranking
        self.towers = find_towers(loaded)
        self._specs, self.crops = models.specs, models.crops
        self._core_lock = CoreLock()
        self._thread = None if device.name == "cuda" else ThreadPoolExecutor(1, thread_name_prefix="model")
        self.batch_size = device.batch_size
        self._facts: dict[str, str] = {}
        if device.name == "cuda":  # on a CPU the first batch is as slow as a warm-up would be
            self._warm_up(CudaMemory(device.gpu_share), largest_useful(config.engine.shard_rows))

    def _warm_up(self, memory: DeviceMemory, largest: int) -> None:
        """Run everything once, so that no row waits for kernels to load; find the batch size if it is not set."""
        if self.recall is not None:
            self.recall.encode_texts([""])
        if self.ranking is not None:
            self.ranking.rank(np.zeros((1, self.ranking.dim), np.float32), [""], [None])
        if self.batch_size:
            self._pass(min(self.batch_size, SMALLEST))
            return
        found = find_batch_size(self._pass, memory, largest)
        self.batch_size = found.batch_size
        self._facts[f"batch_size on {memory.name()}"] = found.text()

    def _pass(self, num_images: int) -> None:
        """Send black images through every tower."""
        self._encode([np.broadcast_to(np.uint8(0), (num_images, s.size, s.size, 3)) for s in self._specs])

    @property
    def core_lock(self) -> CoreLock | None:
        """Held while a model works; None on a GPU, where images need none."""
        return None if self._thread is None else self._core_lock

    def clock(self) -> float:
        """Return seconds, without those in which the calling thread waited for its turn."""
        return self._core_lock.clock()

    def facts(self) -> dict[str, str]:
        """Say for run.json which columns share an image tower, and what was found out about the GPU."""
        facts = dict(self._facts)
        if self.ranking is not None:
            facts["image_tower"] = "own" if RANK_EMBEDDING in self.towers.columns else "shared"
        by_tower: dict[int, list[str]] = {}
        for column, tower in self.towers.columns.items():
            by_tower.setdefault(tower, []).append(column)
        shared = [" = ".join(columns) for columns in by_tower.values() if len(columns) > 1]
        return facts | ({"shared_towers": "; ".join(shared)} if shared else {})

    def encode(self, pixels: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """Encode images by each tower: (N,D) float32 vectors in the order of `towers.models`.

        An image is given in each pixel format that the models take, in the order of `PinnedModels.specs`.
        """
        return self._encode([np.stack(p) for p in zip(*pixels, strict=True)])

    def _encode(self, stacked: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self.core_lock or nullcontext():
            return [
                self._run(lambda m=model: m.encode_images(stacked[self._specs.index(m.image_spec)]))  # type: ignore[misc]
                for model in self.towers.models
            ]

    def _run(self, call: Callable[[], R]) -> R:
        """On a CPU always in the same thread: each thread has memory of its own, which caches would have to hold."""
        return call() if self._thread is None else self._thread.submit(call).result()

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as (N,D) float32 unit vectors; the run has a recall model."""
        assert self.recall is not None
        with self._core_lock:
            return self._run(partial(self.recall.encode_texts, list(texts)))

    def rank(self, vectors: np.ndarray, texts: Sequence[str], poi_names: Sequence[str | None]) -> np.ndarray:
        """Score (N,D) image vectors with their rows' texts and POI names: (N,) float32; there is a ranking model."""
        assert self.ranking is not None
        with self._core_lock:
            return self._run(partial(self.ranking.rank, vectors, list(texts), list(poi_names)))


def _load(config: JobConfig, device: Device, models: PinnedModels) -> Models:
    options: LoadKeywords = {
        "device": device.name,
        "precision": config.engine.precision,
        "compile": config.engine.compile,
        "images_per_pass": device.batch_size or LARGEST,
        "recomputed": fixed_inputs(models.specs),
    }
    recall = models.recall and load_pinned(models.recall, config, lambda cfg: load_recall(cfg, **options))
    ranking = None
    if models.ranking is not None:
        pois = load_poi_table(models.poi_table, config)
        ranking = load_pinned(models.ranking, config, lambda cfg: load_ranking(cfg, pois, **options))
    encoders = {
        name: load_pinned(model, config, lambda cfg: load_model(cfg, **options)) for name, model in models.encoders
    }
    return Models(recall or None, ranking, encoders)
