"""Opens what a training needs: the model's files on this node, and its data sets, split and without overlap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aistudio.config import ImageSpec, ModelConfig, load_model_config
from aistudio.config.train import TrainSettings
from aistudio.config.train_data import SourceSettings
from aistudio.errors import ConfigError
from aistudio.training.arrays import ArrayInfo, ArrayReader
from aistudio.training.cache import Cache
from aistudio.training.dataset import Dataset, Keep, Recipe, every_item, prepare, share_of_items
from aistudio.training.images import Encode, ImageMaker, training_spec
from aistudio.training.labelled import Labels
from aistudio.training.sources import Source, job_config, open_source
from aistudio.training.split import Overlap, counts_of, separate
from aistudio.weights.cache import WeightsCache, default_folder
from aistudio.weights.placing import pin_files, place_files

Say = Callable[[str], None]
VectorsOf = Callable[[SourceSettings], str | None]  # a run's vector column; None: images are fetched


def model_here(conf: str, settings: TrainSettings, say: bool) -> ModelConfig:
    """Read a model's conf and fetch its files unless they are here. Raises ConfigError, WeightsError."""
    cache = WeightsCache(default_folder(), settings.store, announce=say)
    cfg = load_model_config(conf)
    if settings.init == "random":
        return cfg.model_copy(update={"weights": cfg.weights.model_copy(update={"sha256": None, "size_bytes": None})})
    return place_files(pin_files(cfg, cache), cache)


def choose_device(setting: str) -> torch.device:
    """Return the device; auto: CUDA, else Metal, else the CPU. Raises ConfigError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if setting == "auto":
        return torch.device(next(name for name, found in there.items() if found))
    if not there[setting]:
        raise ConfigError(f"device: {setting}, but torch {torch.__version__} sees no GPU here; set device: cpu")
    return torch.device(setting)


@dataclass(frozen=True)
class Pixels:
    """What to keep of images: pixels for training and for validation, or vectors of a frozen tower."""

    spec: ImageSpec
    cache_px: int
    encode: Encode | None = None
    encoder: str = ""  # fingerprint of what encodes
    conf: ModelConfig | None = None  # names the weights of what crops, if anything does


@dataclass(frozen=True)
class Data:
    """Both data sets, opened."""

    train: Dataset
    validation: Dataset
    overlap: Overlap

    def counts(self) -> dict[str, Any]:
        """Return what people want to know."""
        return {
            "train": counts_of(self.train),
            "validation": counts_of(self.validation),
            "overlap": self.overlap.numbers(),
        }

    def contents(self) -> dict[str, str]:
        """Return the digests that identify this data."""
        return {"train": self.train.index.content, "validation": self.validation.index.content}


class DataOpener:
    """Finds sources and prepares data sets in the cache; with `dry`, images are neither fetched nor kept."""

    def __init__(
        self, settings: TrainSettings, label: str | None, say: Say, dry: bool, labels: Labels | None = None
    ) -> None:
        """`labels`: of images; they may split one source, in place of a share of its items."""
        self._settings, self._label, self._say, self._dry, self._labels = settings, label, say, dry, labels
        self.cache = Cache(settings.data)

    def open(self, pixels: Pixels, vectors: VectorsOf) -> Data:
        """Prepare both data sets.

        Args:
            vectors: what to take from a source.

        Raises:
            ConfigError: no rows, too many failures, or an overlap that is refused.
        """
        data = self._settings.data
        own = data.validation if data.validation.num_named else None
        whole = own or (self._labels is not None and self._labels.splits)
        splits = (
            (every_item, every_item) if whole else [share_of_items(data.validation.share, v) for v in (False, True)]
        )
        part = "all items" if whole else f"split at {data.validation.share} of the items"
        train = self._prepare(data, splits[0], f"training, {part}", pixels, vectors, validation=False)
        held_out = self._prepare(own or data, splits[1], f"validation, {part}", pixels, vectors, validation=True)
        for name, found in (("data", train), ("data.validation", held_out)):
            self._refuse_useless(name, found)
        return Data(train, held_out, separate(train, held_out, data))

    def _prepare(
        self, source: SourceSettings, keep: Keep, part: str, pixels: Pixels, vectors: VectorsOf, *, validation: bool
    ) -> Dataset:
        opened = self.source(source, vectors(source))
        if self._labels is not None:
            opened = self._labels.part(opened, validation)
        images = None
        spec = pixels.spec if validation or pixels.encode else training_spec(pixels.spec, pixels.cache_px)
        if opened.vectors is None and not self._dry:
            config = job_config(source, self._settings, self.cache.root)
            images = ImageMaker(config, spec, pixels.encode, pixels.encoder, pixels.conf)
        recipe = Recipe(opened, keep, part, images, thumbnails=validation)
        found = prepare(recipe, self.cache, self._say)
        if opened.vectors is None and self._dry:
            _stand_in(found, spec, pixels)
        return found

    def source(self, source: SourceSettings, vectors: str | None) -> Source:
        """Find one source."""
        return open_source(source, self._settings, self.cache.root, self._label, vectors)

    def _refuse_useless(self, name: str, found: Dataset) -> None:
        num_failed, num_read = sum(found.index.left_out.values()), found.index.num_read
        reasons = "; ".join(f"{n:,} because {reason}" for reason, n in found.index.left_out.items())
        if not len(found):
            why = f": {reasons}" if reasons else f"; {num_read} rows were read from {found.index.source}"
            raise ConfigError(f"{name}: no rows are left{why}")
        if num_failed > self._settings.data.max_failed_share * num_read:
            raise ConfigError(
                f"{name}: {num_failed:,} of {num_read:,} rows cannot be used, more than data.max_failed_share "
                f"({self._settings.data.max_failed_share:g}): {reasons}"
            )


class _Zeros(ArrayReader):
    """Stands in for images that a dry run does not fetch."""

    def __init__(self, row_shape: tuple[int, ...], dtype: str, num_rows: int) -> None:
        self.info = ArrayInfo(name="zeros", dtype=dtype, row_shape=row_shape, shard_rows=1, num_rows=num_rows, crc32=[])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.zeros((len(rows), *self.info.row_shape), self.info.dtype)


def _stand_in(data: Dataset, spec: ImageSpec, pixels: Pixels) -> None:
    num = int(data.column("image").max(initial=-1)) + 1
    if pixels.encode is None:
        data.arrays["pixels"] = _Zeros((spec.size, spec.size, 3), "u1", num)
    else:
        width = pixels.encode(np.zeros((0, spec.size, spec.size, 3), np.uint8)).shape[1]
        data.arrays["vectors"] = _Zeros((width,), "f4", num)
