"""The four kinds of models, as contracts, and the functions that load one.

A family is one file here with `KIND` (the contract that it fulfils), `check(cfg)` and `load(cfg, options)`; files
that begin with `_` support them. `REMEMBERED = True`: `check` reads the files and settings of the conf alone.
`TOKENIZER`: the file with `open_tokenizer(cfg)`, where that needs no torch. A new family is one file, one YAML in
conf/models/ and a tiny builder for tests/models/test_contract.py, which holds every family to its contract. Other
packages bring families by an entry point of the group `aistudio.families` (docs/models.md).
Importing this package imports no family and no torch.
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import os
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, Unpack, cast

from aistudio.config import DetectorSettings, ImageSpec, ModelConfig
from aistudio.errors import ConfigError
from aistudio.imports import uncollected
from aistudio.weights.files import WeightsInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from aistudio.models._detector import Detector
    from aistudio.poi_table import PoiTable

__all__ = [
    "Composer",
    "ImageEncoder",
    "Kind",
    "LoadKeywords",
    "RankingModel",
    "RecallModel",
    "TextTokenizer",
    "WeightsInfo",
    "check_is_remembered",
    "check_weights",
    "families",
    "kind",
    "load_composer",
    "load_model",
    "load_ranking",
    "load_recall",
    "open_tokenizer",
    "pin_revision",
    "pixel_digest",
    "require_kind",
]


class Kind(StrEnum):
    """Which contract a family fulfils; each is an ImageEncoder."""

    ENCODER = "image encoder"
    RECALL = "recall model"
    RANKING = "ranking model"
    COMPOSER = "composer"


class ImageEncoder(Protocol):
    """An image tower: pixels to vectors. Every family is one."""

    image_spec: ImageSpec  # the pixels that it wants
    dim: int  # width of its vectors
    normalised: bool  # whether its vectors are unit rows
    fingerprint: str  # identifies files and settings
    image_tower_fingerprint: str | None  # equal for two models whose towers give the same vectors; None: not known

    def encode_images(self, pixels: "np.ndarray") -> "np.ndarray":
        """Encode (N,S,S,3) uint8 RGB as (N,dim) float32; N may be 0. On a GPU several threads may call at once."""


class RecallModel(ImageEncoder, Protocol):
    """Images and texts in one space; vectors are unit rows."""

    def encode_texts(self, texts: "Sequence[str]") -> "np.ndarray":
        """Encode N strings as (N,dim) float32 unit rows; N may be 0."""

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, unpadded."""


class TextTokenizer(Protocol):
    """Cuts texts into tokens, and knows which of them its vocabulary lacks."""

    def unknown_tokens(self, texts: list[str]) -> list[tuple[int, int]]:
        """Count (tokens that the vocabulary lacks, tokens in all) of each text, special tokens not counted."""


class RankingModel(ImageEncoder, Protocol):
    """Predicts which of an item's images is clicked."""

    def encode_texts(self, texts: "Sequence[str]") -> "np.ndarray":
        """Encode N strings as (N,dim) float32 unit rows by the model's own text tower; POI tables need them."""

    def rank(
        self, image_vectors: "np.ndarray", texts: "Sequence[str]", poi_names: "Sequence[str | None]"
    ) -> "np.ndarray":
        """Score (N,dim) vectors with N titles and N comma-joined POI names: (N,) float32, higher is better."""

    def with_poi_table(self, table: "PoiTable") -> "RankingModel":
        """Return the same model looking POIs up in `table`."""


class Composer(ImageEncoder, Protocol):
    """Turns an image and a text that changes it into a query vector; `encode_images` is the gallery side."""

    def compose(self, image_vectors: "np.ndarray", texts: "Sequence[str]") -> "np.ndarray":
        """Compose (N,dim) float32 image vectors with N texts into (N,dim) float32 query vectors; N may be 0."""

    def refusals(self, texts: "Sequence[str]") -> list[str | None]:
        """Say why each text cannot be composed; None where it can."""

    def text_vectors(self, texts: "Sequence[str]") -> "np.ndarray":
        """Encode N texts as (N,width) float32, not of the image space; NaN where `refusals` gives a reason."""

    def compose_vectors(self, image_vectors: "np.ndarray", text_vectors: "np.ndarray") -> "np.ndarray":
        """Do as `compose` does, with vectors of `text_vectors`: a text is encoded once for many rows."""


class LoadKeywords(TypedDict, total=False):
    """How a model is loaded.

    device: "cpu" (default) or "cuda[:n]".
    precision: "float32" (default), "bfloat16" or "float16" inside the towers; results are float32.
    optimize: speed-ups that change results by rounding only (default: yes).
    compile: torch.compile the image tower (needs a C++ compiler; the first batch takes a minute).
    images_per_pass: the most images that a GPU is given at once; None: 256.
    recomputed: texts, and digests of pixels (pixel_digest), that are computed again whenever others were computed,
        though equal ones are remembered.
    """

    device: str
    precision: str
    optimize: bool
    compile: bool
    images_per_pass: int | None
    recomputed: frozenset[str | bytes]


ENTRY_POINTS = "aistudio.families"  # under which other packages name families: `name = "module"`


def families() -> list[str]:
    """List the names of the model families, those of installed packages included. Imports none of them."""
    return sorted({*_own(), *(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))})


def _own() -> list[str]:
    return [path.stem for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_")]


def kind(cfg: ModelConfig) -> Kind:
    """Return the kind of the model's family. Raises ConfigError for an unknown family."""
    return cast(Kind, _constant(cfg, "KIND"))


def load_model(cfg: ModelConfig, **options: Unpack[LoadKeywords]) -> ImageEncoder:
    """Load a model of any family as the image encoder that it is; `options` as in LoadKeywords.

    Raises:
        ConfigError: unknown family, precision or size setting; a device that is not there or lacks the precision.
        WeightsError: a file is missing, damaged, untrusted or of another model.
    """
    # Read by torch when it allocates for the first time. A tower's activations are tens of megabytes that come and go
    # with every layer: on ordinary pages the kernel zeroes 4,000 of them an image, a quarter of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from aistudio.models._encode import IMAGES_PER_PASS, LoadOptions

    options["images_per_pass"] = options.get("images_per_pass") or IMAGES_PER_PASS
    return cast(ImageEncoder, _family(cfg).load(cfg, LoadOptions(**options)))  # type: ignore[arg-type]


def load_recall(cfg: ModelConfig, **options: Unpack[LoadKeywords]) -> RecallModel:
    """Load a recall model. Raises as `load_model`, and ConfigError when the family is of another kind."""
    _require(cfg, Kind.RECALL)
    return cast(RecallModel, load_model(cfg, **options))


def load_ranking(
    cfg: ModelConfig, poi_table: "PoiTable | None" = None, **options: Unpack[LoadKeywords]
) -> RankingModel:
    """Load a ranking model; `poi_table` None: no POI is known. Raises as `load_recall`."""
    _require(cfg, Kind.RANKING)
    model = cast(RankingModel, load_model(cfg, **options))
    return model if poi_table is None else model.with_poi_table(poi_table)


def load_composer(cfg: ModelConfig, **options: Unpack[LoadKeywords]) -> Composer:
    """Load a composer. Raises as `load_recall`."""
    _require(cfg, Kind.COMPOSER)
    return cast(Composer, load_model(cfg, **options))


def load_detector(settings: DetectorSettings, weights: str) -> "Detector":
    """Load what crops pictures to the object, on the CPU.

    Raises:
        ConfigError: torchvision has no such detector, or one without the masks that are asked for.
        WeightsError: the file is missing, damaged or of another model.
    """
    from aistudio.models._detector import Detector

    return Detector(settings, weights)


def check_weights(cfg: ModelConfig) -> WeightsInfo:
    """Are the files there, the right ones, with complete keys of the right shapes? Builds no tower.

    Raises ConfigError and WeightsError as `load_model`; the fingerprint is the loaded model's.
    """
    return cast(WeightsInfo, _family(cfg).check(cfg))


def check_is_remembered(cfg: ModelConfig) -> bool:
    """Whether a check of the same files and settings by the same code always finds the same: it reads nothing else."""
    whole_bert = kind(cfg) is Kind.COMPOSER and cfg.tokenizer is not None  # with files that no conf names
    towers = all(check_is_remembered(tower) for tower in cfg.towers.values())
    return bool(_constant(cfg, "REMEMBERED")) and not whole_bert and towers


def require_kind(cfg: ModelConfig, setting: str) -> None:
    """Raise ConfigError unless the model fits a setting: models.recall, models.ranking or models.encoders.<name>."""
    wanted = {"models.recall": Kind.RECALL, "models.ranking": Kind.RANKING}.get(setting)
    if wanted is not None and (found := kind(cfg)) is not wanted:
        fitting = [name for name in _own() if _declared(name).get("KIND") is wanted]
        raise ConfigError(
            f"{setting}: {cfg.name} (family {cfg.family}) is a model of the kind {found}, expected a {wanted}, of one "
            f"of the families {', '.join(fitting)}"
        )


def _require(cfg: ModelConfig, wanted: Kind) -> None:
    if (found := kind(cfg)) is not wanted:
        raise ConfigError(f"{cfg.name}: family {cfg.family} is of the kind {found}, not a {wanted}")


def pin_revision(cfg: ModelConfig) -> ModelConfig:
    """Return the model with the commit that its hub repository's branch or tag means now, and the repository's name.

    Models that do not come from the hub are returned as they are. Raises WeightsError as `load_model`.
    """
    name = cfg.arch.get("model")
    if not _constant(cfg, "FROM_HUB") or not isinstance(name, str) or Path(name).is_dir():
        return cfg
    from aistudio.models._hub import commit_of

    hub_id = getattr(_family(cfg), "hub_id", str)(name)
    if hub_id.count("/") != 1 or hub_id.startswith(("/", ".")):
        return cfg
    arch = cfg.arch | {"model": hub_id, "revision": commit_of(hub_id, cfg.arch.get("revision"))}
    return cfg.model_copy(update={"arch": arch})


def open_tokenizer(cfg: ModelConfig) -> TextTokenizer | None:
    """Open the tokenizer of a recall model, without the model; None for other kinds.

    Raises ConfigError and WeightsError as `load_model`.
    """
    if kind(cfg) is not Kind.RECALL:
        return None
    name = _constant(cfg, "TOKENIZER")
    source = importlib.import_module(f"{__name__}.{name}") if name else _family(cfg)
    return cast(TextTokenizer, source.open_tokenizer(cfg))


def _constant(cfg: ModelConfig, name: str) -> Any:
    """Return a constant of a family's file (KIND, FROM_HUB, TOKENIZER, REMEMBERED); None where it has none."""
    if cfg.family in _own():
        return _declared(cfg.family).get(name)
    return getattr(_family(cfg), name, None)


@functools.cache
def _declared(family: str) -> dict[str, Any]:
    """Constants at the top of one of our own families' files, read from the source: importing it would import torch."""
    found: dict[str, Any] = {}
    for node in ast.parse((Path(__file__).parent / f"{family}.py").read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)):
                found[name] = value
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(value=ast.Name(id="Kind"), attr=attr)):
                found[name] = Kind[attr]
    return found


def _family(cfg: ModelConfig) -> ModuleType:
    if cfg.family not in families():
        raise ConfigError(f"{cfg.name}: family {cfg.family!r} is not known; found: {', '.join(families())}")
    if cfg.family in _own():
        with uncollected():
            return importlib.import_module(f"{__name__}.{cfg.family}")
    (entry, *_) = importlib.metadata.entry_points(group=ENTRY_POINTS, name=cfg.family)
    try:
        return cast(ModuleType, entry.load())
    except Exception as e:  # noqa: BLE001 - another package's mistakes are of every kind
        package = entry.dist.name if entry.dist else entry.value
        raise ConfigError(
            f"{cfg.name}: family {cfg.family!r} of the package {package} cannot be used: {type(e).__name__}: {e}"
        ) from None


def pixel_digest(pixels: "np.ndarray") -> bytes:
    """Return what towers remember an image's vector by: the sha256 of its contiguous (S,S,3) uint8 pixels."""
    return hashlib.sha256(pixels.data).digest()
