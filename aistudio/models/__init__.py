"""Recall and ranking models: `load_model` and `check_weights`.

A family is one file here with `check(cfg)` and `load(cfg, options)`; files that begin with `_` support them. A new
family is one file and one YAML in conf/models/. Importing this package imports no family and no torch.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import ConfigError
from aistudio.models._cache import WeightsCache, default_folder
from aistudio.models._files import WeightsInfo, file_sha256
from aistudio.models._placing import pin_files, place_file, place_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from aistudio.models.poi_table import PoiTable

__all__ = [
    "ImageModel",
    "RankingModel",
    "RecallModel",
    "WeightsCache",
    "WeightsInfo",
    "check_weights",
    "default_folder",
    "families",
    "file_sha256",
    "load_model",
    "pin_files",
    "place_file",
    "place_files",
]

NOT_FAMILIES = {"poi_table", "detector"}  # public, but no models that give vectors


class ImageModel(Protocol):
    """What every loaded model has; vectors are float32 unit rows (N,dim)."""

    image_spec: ImageSpec
    dim: int
    fingerprint: str
    image_tower_fingerprint: str | None

    def encode_images(self, pixels: "np.ndarray") -> "np.ndarray":
        """(N,S,S,3) uint8 RGB -> (N,dim). On a GPU several threads may call at once."""


class RecallModel(ImageModel, Protocol):
    """Image and text in one space."""

    def encode_texts(self, texts: "Sequence[str]") -> "np.ndarray":
        """N strings -> (N,dim)."""

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, unpadded."""


class RankingModel(ImageModel, Protocol):
    """Scores images of an item."""

    def rank(
        self, image_vectors: "np.ndarray", texts: "Sequence[str]", poi_names: "Sequence[str | None]"
    ) -> "np.ndarray":
        """(N,dim) vectors, N titles, N comma-joined POI names -> (N,) float32 scores."""

    def with_poi_table(self, table: "PoiTable") -> "RankingModel":
        """The same model looking POIs up in `table`."""


def families() -> list[str]:
    """Names of the model families."""
    names = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_")}
    return sorted(names - NOT_FAMILIES)


def load_model(
    cfg: ModelConfig,
    *,
    device: str = "cpu",
    precision: str = "float32",
    optimize: bool = True,
    compile: bool = False,
    images_per_pass: int | None = None,
    poi_table: "PoiTable | None" = None,
) -> Any:
    """A RecallModel or RankingModel, whichever the family is.

    Args:
        device: "cpu" or "cuda[:n]".
        precision: "float32", "bfloat16" or "float16" inside the towers; results are float32.
        optimize: speed-ups that change results by rounding only.
        compile: torch.compile the image tower (needs a C++ compiler; the first batch takes a minute).
        images_per_pass: the most images that a GPU is given at once; None: 256.
        poi_table: for a ranking model; None: no POI is known.

    Raises:
        ConfigError: unknown family, precision or size setting; a device that is not there or lacks the precision.
        WeightsError: a file is missing, damaged, untrusted or of another model.
    """
    # Read by torch when it allocates for the first time. A tower's activations are tens of megabytes that come and go
    # with every layer: on ordinary pages the kernel zeroes 4,000 of them an image, a quarter of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from aistudio.models._encode import IMAGES_PER_PASS, LoadOptions

    options = LoadOptions(device, precision, optimize, compile, images_per_pass or IMAGES_PER_PASS)
    model = _family(cfg).load(cfg, options)
    return model if poi_table is None else model.with_poi_table(poi_table)


def check_weights(cfg: ModelConfig) -> WeightsInfo:
    """Are the files there, the right ones, with complete keys of the right shapes? Builds no tower.

    Raises ConfigError and WeightsError as `load_model`; the fingerprint is the loaded model's.
    """
    return _family(cfg).check(cfg)


def _family(cfg: ModelConfig) -> ModuleType:
    if cfg.family not in families():
        raise ConfigError(f"{cfg.name}: family {cfg.family!r} is not known; found: {', '.join(families())}")
    return importlib.import_module(f"aistudio.models.{cfg.family}")
