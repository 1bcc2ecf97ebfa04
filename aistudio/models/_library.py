"""Models that another library builds, from a local folder or the hub: files, pixels, and words for what goes wrong.

Pixels come from the library's own transform. It is read, not run: pixels are resized by processes that know no torch.
So every step must be one that images/transform.py makes bit for bit; a model with any other is refused.
"""

import importlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aistudio.config import ImageSpec, ModelConfig, Resize, Settings
from aistudio.errors import ConfigError, WeightsError
from aistudio.models._hf_folder import SQUASHED
from aistudio.models._hub import WANTED, hub_folder
from aistudio.weights.files import WeightsInfo, file_sha256, model_fingerprint

_CONVERSIONS = ("MaybeConvertMode", "_convert_to_rgb", "MaybeToTensor", "ToTensor")  # to RGB, to numbers 0..1
_KERNELS = {"bicubic": "bicubic", "bilinear": "bilinear"}
_TORCHVISION: dict[str, Resize] = {
    "bicubic": "torchvision_bicubic_center_crop",
    "bilinear": "torchvision_bilinear_center_crop",
}


class LibraryArch(Settings):
    """Which repository or folder, and at which commit."""

    model: str
    revision: str | None = None


class Folder:
    """A model's folder on this node, with the checksums of its files."""

    def __init__(self, cfg: ModelConfig, arch: LibraryArch, name: str) -> None:
        """`name`: a local folder, or a repository on the hub. Raises WeightsError when neither can be had."""
        self.path = Path(name) if Path(name).is_dir() else hub_folder(name, arch.revision)
        found = sorted({p for pattern in WANTED for p in self.path.rglob(pattern)})
        self.files = {str(p): file_sha256(p) for p in found}
        if not self.files:
            raise WeightsError(f"{name}: no model files in {self.path} ({cfg.name})")

    def fingerprint(self, cfg: ModelConfig, spec: ImageSpec, arch: Mapping[str, Any]) -> str:
        """Return the fingerprint over files, pixels and the settings that decide numbers."""
        return model_fingerprint(cfg.model_copy(update={"image": spec}), list(self.files.values()), dict(arch))


def library(module: str, package: str, extra: str) -> Any:
    """Import an optional library. Raises ConfigError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise ConfigError(
            f"this model needs the package {package}, which is not installed here ({e}): "
            f"pip install 'aistudio-catalogue[{extra}]'"
        ) from None


def spec_of(transform: Any, conf: ImageSpec, where: str) -> ImageSpec:
    """Read a torchvision pipeline of resizing, cropping the centre and normalising.

    Raises:
        WeightsError: any other step, kernel or shape; pixels would not be the library's.
    """
    names = [getattr(step, "__name__", type(step).__name__) for step in transform.transforms]
    steps = dict(zip(names, transform.transforms, strict=True))
    plain = [name for name in names if name not in _CONVERSIONS]
    if plain not in (["Resize", "CenterCrop", "Normalize"], ["Resize", "Normalize"]):
        raise WeightsError(f"{where}: its pixels are made by {', '.join(names)}, which is not supported here")
    resize, normalise = steps["Resize"], steps["Normalize"]
    kernel = _KERNELS.get(str(getattr(resize.interpolation, "value", resize.interpolation)))
    if kernel is None or resize.max_size is not None:
        raise WeightsError(f"{where}: its pixels are resized by {resize}, which is not supported here")
    crop = _square(steps["CenterCrop"].size) if "CenterCrop" in steps else None
    target = resize.size if isinstance(resize.size, int) else tuple(resize.size)
    if isinstance(target, tuple) and len(target) == 1:
        target = target[0]
    colours: Any = {"mean": _floats(normalise.mean), "std": _floats(normalise.std)}
    colours |= {"crop": conf.crop, "detector": conf.detector}
    if isinstance(target, int) and crop is not None and target >= crop:
        return ImageSpec(size=crop, resize=_TORCHVISION[kernel], resize_shortest=target, **colours)
    if isinstance(target, tuple) and target[0] == target[1] and crop in (None, target[0]):
        return ImageSpec(size=target[0], resize=SQUASHED[kernel], **colours)
    raise WeightsError(f"{where}: its pixels are made by {resize} and a crop to {crop}, which is not supported here")


def _square(size: Any) -> int | None:
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return int(height) if height == width else None


def _floats(values: Any) -> tuple[float, ...]:
    """Three numbers of a Normalize; those of a float32 tensor as they would be written, 0.485 for 0.48500001."""
    return tuple(float(str(np.float32(float(v)))) for v in values)


def info(
    cfg: ModelConfig, folder: Folder, spec: ImageSpec, module: torch.nn.Module, dim: int, fingerprint: str
) -> WeightsInfo:
    """Summarise the check of a library's model; `module` holds its tensors."""
    tensors = list(module.state_dict().values())
    return WeightsInfo(
        name=cfg.name,
        family=cfg.family,
        fingerprint=fingerprint,
        image_tower_fingerprint=None,
        dim=dim,
        image_spec=spec,
        num_tensors=len(tensors),
        num_parameters=sum(t.numel() for t in tensors),
        files=dict(folder.files),
    )


def width(tower: Any, spec: ImageSpec) -> int:
    """Return how wide the vectors (1,dim) are that a tower makes of one picture (1,3,S,S)."""
    device = next(tower.parameters()).device
    with torch.inference_mode():
        return int(tower(torch.zeros(1, 3, spec.size, spec.size, device=device)).shape[1])
