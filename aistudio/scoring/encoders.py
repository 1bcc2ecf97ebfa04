"""Both models of a run, run on the same pixels: one pass when they share an image tower, else two."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from aistudio.config import JobConfig
from aistudio.scoring.batch_size import LARGEST, SMALLEST, CudaMemory, DeviceMemory, find_batch_size, largest_useful
from aistudio.scoring.core_lock import Turn
from aistudio.scoring.pinned_models import PinnedModels, load_pinned, load_poi_table

_TEXT_CACHE = 50_000  # distinct texts; at 512 float32 each about 100 MB


class Device(NamedTuple):
    """Where one actor's models run, and with how many images at once."""

    name: str  # "cpu" or "cuda"
    batch_size: int  # images per forward pass; 0: the GPU's actor finds its own
    gpu_share: float = 1.0  # part of the GPU's memory that this actor may use


class Encoders:
    """Recall model, ranking model or none, and the text cache.

    Calls are serialised: one model, one caller. Images on a GPU are not, see models/_encode.py. `batch_size` is how
    many images `encode` should be given at once.
    """

    def __init__(self, config: JobConfig, device: Device, models: PinnedModels) -> None:
        engine = config.engine
        options: dict[str, Any] = {
            "device": device.name,
            "precision": engine.precision,
            "compile": engine.compile,
            "images_per_pass": device.batch_size or LARGEST,
        }
        self.recall = load_pinned(models.recall, config, **options)
        self.ranking: Any = None
        if models.ranking:
            pois = load_poi_table(models.poi_table, config)
            self.ranking = load_pinned(models.ranking, config, poi_table=pois, **options)
        self.shared = self.ranking is not None and (
            self.ranking.image_tower_fingerprint == self.recall.image_tower_fingerprint
            and self.ranking.image_spec == self.recall.image_spec
        )
        self._turn = Turn()
        self._thread = None if device.name == "cuda" else ThreadPoolExecutor(1, thread_name_prefix="model")
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()
        self._specs = models.specs
        self.batch_size = device.batch_size
        self._facts: dict[str, str] = {}
        if device.name == "cuda":  # on a CPU the first batch is as slow as a warm-up would be
            self._warm_up(CudaMemory(device.gpu_share), largest_useful(engine.shard_rows))

    def _warm_up(self, memory: DeviceMemory, largest: int) -> None:
        """Everything once, so that no row waits for kernels to load; finds the batch size if it is not set."""
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
        """Black images through every tower that the run needs."""
        self._encode([np.broadcast_to(np.uint8(0), (num_images, s.size, s.size, 3)) for s in self._specs])

    @property
    def turn(self) -> Turn | None:
        """Held while a model works; None on a GPU, where images need none."""
        return None if self._thread is None else self._turn

    def clock(self) -> float:
        """Seconds, without those in which the calling thread waited for its turn."""
        return self._turn.clock()

    @property
    def rank_dim(self) -> int | None:
        """Width of the ranking model's own image vectors, None when it has none of its own."""
        return self.ranking.dim if self.ranking is not None and not self.shared else None

    def facts(self) -> dict[str, str]:
        """For run.json: which case of image towers this run is, and what was found out about the GPU."""
        towers = {} if self.ranking is None else {"image_tower": "shared" if self.shared else "own"}
        return towers | self._facts

    def encode(self, pixels: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray | None]:
        """Images -> (recall vectors (N, D) float32, ranking vectors (N, D) float32 or None when shared).

        An image is given in each pixel format that the models take, in the order of `PinnedModels.specs`.
        """
        return self._encode([np.stack(p) for p in zip(*pixels, strict=True)])

    def _encode(self, stacked: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        with self.turn or nullcontext():
            recall = self._run(self.recall.encode_images, stacked[0])
            if self.ranking is None or self.shared:
                return recall, None
            return recall, self._run(self.ranking.encode_images, stacked[-1])

    def _run(self, call: Callable[..., np.ndarray], *args: Any) -> np.ndarray:
        """On a CPU in one thread, whoever asks: each thread has memory of its own, which caches would have to hold."""
        return call(*args) if self._thread is None else self._thread.submit(call, *args).result()

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Distinct texts -> (N, D) float32 unit vectors, from the cache where possible."""
        with self._turn:
            missing = [t for t in texts if t not in self._texts]
            if missing:
                self._texts.update(zip(missing, self._run(self.recall.encode_texts, missing), strict=True))
            vectors = [self._texts[t] for t in texts]
            for text in texts:
                self._texts.move_to_end(text)
            while len(self._texts) > max(_TEXT_CACHE, len(texts)):
                self._texts.popitem(last=False)
        return np.stack(vectors) if vectors else np.zeros((0, self.recall.dim), np.float32)

    def rank(self, vectors: np.ndarray, texts: Sequence[str], poi_names: Sequence[str | None]) -> np.ndarray:
        """Ranking scores (N,) float32 of image vectors with their rows' texts and POI names."""
        with self._turn:
            return self._run(self.ranking.rank, vectors, list(texts), list(poi_names))
