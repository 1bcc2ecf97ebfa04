"""Family `vision`: an image-only encoder from a classification network or a self-supervised one.

`arch.torchvision` names one of torchvision's networks, whose weights are `weights.path` (its own .pth files, or
safetensors with the same names) and whose pixels are `image`. Without it, a Hugging Face folder (ViT, DINOv2, ResNet,
ConvNeXt and others with a `last_hidden_state`) whose pixels are those of its own preprocessor_config.json. A classifier
in the file is not used.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from pydantic import Field

from aistudio.config import ModelConfig, Settings
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import Kind
from aistudio.models._checkpoint import fit, load_into, read_state_dict
from aistudio.models._classifiers import (
    HuggingFaceBackbone,
    Pooled,
    build_torchvision,
    torchvision_skeleton,
    used_tensors,
)
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._hf_folder import Folders, HfArch, explained, image_spec, require_plain_steps
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.models._torchvision import torchvision
from aistudio.weights.files import WeightsInfo, model_fingerprint, require_files

KIND = Kind.ENCODER
FROM_HUB = True


class VisionArch(Settings):
    """Which network, and how its output becomes one vector."""

    torchvision: str | None = None  # such as resnet50 or vit_b_16; null: a Hugging Face folder
    model: str | None = None  # that folder, or a hub id; null: the folder of weights.path
    revision: str | None = None  # of the hub repository
    pooling: Literal["cls", "mean", "gem"] | None = None  # null: cls where there is a class token, else mean
    gem_power: float = Field(3.0, gt=0)
    normalised: bool = True  # unit rows; false: vectors as they are


@dataclass(frozen=True)
class Opened:
    """A checked model, not built: `tower` is an empty skeleton of it."""

    cfg: ModelConfig  # with the pixels that the model wants
    arch: VisionArch
    folders: Folders | None  # of a Hugging Face model
    tensors: Mapping[str, torch.Tensor]  # of a torchvision file
    tower: Pooled
    files: Mapping[str, str]

    def dim(self) -> int:
        """Width of the vectors. Raises WeightsError when the network does not take such pixels."""
        size = self.cfg.image.size
        with explained(Path(self.cfg.weights.path)), torch.inference_mode():
            return int(self.tower(torch.zeros(1, 3, size, size, device="meta")).shape[1])

    def fingerprint(self) -> str:
        """Return the model's fingerprint: over its files, its pixels and the settings that differ from the default."""
        kept = self.arch.model_dump(exclude={"model", "revision"}, exclude_defaults=True)
        return model_fingerprint(self.cfg, list(self.files.values()), kept)


class VisionEncoder:
    """An image encoder, loaded. `normalised`: its rows have length 1; other attributes as in AlignRecall."""

    def __init__(self, opened: Opened, options: LoadOptions) -> None:
        tower = _built(opened)
        self.image_spec, self.dim = opened.cfg.image, opened.dim()
        self.normalised = opened.arch.normalised
        self.fingerprint = opened.fingerprint()
        used = {"tower": type(tower.backbone).__name__, "pooling": tower.pooling, "normalised": self.normalised}
        used |= {"gem_power": opened.arch.gem_power, "image": self.image_spec.identity()}
        used |= {"torchvision": opened.arch.torchvision}
        self.image_tower_fingerprint: str | None = tensors_fingerprint(tower.state_dict(), used)
        self._images = ImageRunner(tower, self.image_spec, self.dim, options, normalised=self.normalised)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32, unit rows where `normalised`; N may be 0."""
        return self._images(pixels)


def _open(cfg: ModelConfig) -> Opened:
    arch = parse_arch(VisionArch, cfg)
    return _open_folder(cfg, arch) if arch.torchvision is None else _open_torchvision(cfg, arch, arch.torchvision)


def _open_folder(cfg: ModelConfig, arch: VisionArch) -> Opened:
    folders = Folders(cfg, HfArch(model=arch.model, revision=arch.revision))
    require_plain_steps(folders.model)
    cfg = cfg.model_copy(update={"image": image_spec(folders.model, cfg.image)})
    with explained(folders.model), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folders.model, local_files_only=True)
        skeleton = HuggingFaceBackbone(transformers.AutoModel.from_config(config).eval())
    return Opened(cfg, arch, folders, {}, _pooled(cfg, arch, skeleton), folders.files)


def _open_torchvision(cfg: ModelConfig, arch: VisionArch, name: str) -> Opened:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known) or known
        raise ConfigError(f"{cfg.name}: arch.torchvision: {name!r} is not known; perhaps {', '.join(near)}")
    _require_room_to_crop(cfg)
    files = require_files(cfg)
    with explained(Path(cfg.weights.path)):
        net, backbone = torchvision_skeleton(name, cfg.image.size)
    shapes, of_net = used_tensors(net, backbone), net.state_dict()
    state = read_state_dict(cfg.weights.path)
    kept = {key: tensor for key, tensor in state.items() if key in shapes or key not in of_net}
    tensors = fit(kept, shapes, cfg.weights.path)
    return Opened(cfg, arch, None, tensors, _pooled(cfg, arch, backbone).eval(), files)


def _require_room_to_crop(cfg: ModelConfig) -> None:
    shortest, size = cfg.image.resize_shortest, cfg.image.size
    if shortest is not None and shortest < size:
        raise ConfigError(f"{cfg.name}: image.resize_shortest is {shortest}, smaller than image.size {size}")


def _pooled(cfg: ModelConfig, arch: VisionArch, backbone: Any) -> Pooled:
    try:
        return Pooled(backbone, arch.pooling, arch.gem_power)
    except ValueError as e:
        raise ConfigError(f"{cfg.name}: arch.{e}") from None


def _built(opened: Opened) -> Pooled:
    """The tower with the files' numbers, float32, on the CPU."""
    cfg, arch = opened.cfg, opened.arch
    if opened.folders is not None:
        return _pooled(cfg, arch, HuggingFaceBackbone(_pretrained(opened.folders)))
    net, backbone = build_torchvision(str(arch.torchvision), cfg.image.size)
    load_into(net, opened.tensors, {name: name for name in opened.tensors}, cfg.weights.path)
    return _pooled(cfg, arch, backbone).eval()


def _pretrained(folders: Folders) -> Any:
    """The folder's model with all of its tensors but a pooler, which is not used. Raises WeightsError otherwise."""
    with explained(folders.model):
        model, report = transformers.AutoModel.from_pretrained(
            folders.model, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    lacking = [*map(str, report["missing_keys"]), *map(str, report.get("mismatched_keys", ()))]
    missing = sorted(name for name in lacking if not name.startswith("pooler."))
    if missing:
        raise WeightsError(f"{folders.model}: {len(missing)} tensors missing or mis-shaped: {', '.join(missing[:8])}")
    broken = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise WeightsError(f"{folders.model}: not finite numbers in {', '.join(broken[:8])}; the file is damaged")
    return model.eval()


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, keys and shapes; no tower is built. Raises WeightsError or ConfigError."""
    opened = _open(cfg)
    tensors = list(opened.tower.backbone.state_dict().values())
    return WeightsInfo(
        name=cfg.name,
        family=cfg.family,
        fingerprint=opened.fingerprint(),
        image_tower_fingerprint=None,
        dim=opened.dim(),
        image_spec=opened.cfg.image,
        num_tensors=len(tensors),
        num_parameters=sum(t.numel() for t in tensors),
        files=dict(opened.files),
        normalised=opened.arch.normalised,
    )


def load(cfg: ModelConfig, options: LoadOptions) -> VisionEncoder:
    """The encoder, ready. Raises WeightsError or ConfigError."""
    return VisionEncoder(_open(cfg), options)
