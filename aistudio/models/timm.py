"""Family `timm`: image encoders that timm builds, from a hub repository or a folder in its layout, by one name.

The vector is what timm gives without a classifier (`num_classes=0`), scaled to length 1; pixels are those of the
model's own `pretrained_cfg` in evaluation. Needs the extra `timm`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import ConfigError
from aistudio.models import Kind
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._hf_folder import explained
from aistudio.models._library import Folder, LibraryArch, info, library, spec_of, width
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo

KIND = Kind.ENCODER
FROM_HUB = True


class TimmEncoder:
    """An image encoder, loaded; attributes as in VisionEncoder."""

    normalised = True

    def __init__(self, cfg: ModelConfig, folder: Folder, options: LoadOptions) -> None:
        tower = _built(folder)
        self.image_spec = _pixels(tower, cfg, folder)
        self.dim = width(tower, self.image_spec)
        self.fingerprint = folder.fingerprint(cfg, self.image_spec, {})
        self.image_tower_fingerprint: str | None = tensors_fingerprint(tower.state_dict(), self.image_spec.identity())
        self._images = ImageRunner(tower, self.image_spec, self.dim, options, one_by_one=True)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 unit rows; N may be 0."""
        return self._images(pixels)


def hub_id(name: str) -> str:
    """Return the hub repository of one of timm's own names; anything with a slash is one already.

    Raises:
        ConfigError: timm knows no such model, or has no weights of it on the hub.
    """
    if "/" in name:
        return name
    timm = library("timm", "timm", "timm")
    config = timm.models.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if config is None or not config.hf_hub_id:
        import difflib

        near = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=3)
        raise ConfigError(f"timm:{name}: timm has no such model with weights; perhaps {', '.join(near) or 'timm/…'}")
    owner = str(config.hf_hub_id)
    return owner if not owner.endswith("/") else f"{owner}{config.architecture}.{config.tag}".removesuffix(".")


def _folder(cfg: ModelConfig) -> Folder:
    arch = parse_arch(LibraryArch, cfg)
    return Folder(cfg, arch, arch.model if Path(arch.model).is_dir() else hub_id(arch.model))


def _built(folder: Folder) -> Any:
    timm = library("timm", "timm", "timm")
    with explained(folder.path):
        return timm.create_model(f"local-dir:{folder.path}", pretrained=True, num_classes=0).float().eval()


def _pixels(tower: Any, cfg: ModelConfig, folder: Folder) -> ImageSpec:
    data = library("timm.data", "timm", "timm")
    with explained(folder.path):
        transform = data.create_transform(**data.resolve_model_data_config(tower), is_training=False)
        return spec_of(transform, cfg.image, str(folder.path))


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, configuration and pixels; the model is read whole. Raises WeightsError or ConfigError."""
    folder = _folder(cfg)
    tower = _built(folder)
    spec = _pixels(tower, cfg, folder)
    return info(cfg, folder, spec, tower, width(tower, spec), folder.fingerprint(cfg, spec, {}))


def load(cfg: ModelConfig, options: LoadOptions) -> TimmEncoder:
    """The encoder, ready. Raises WeightsError or ConfigError."""
    return TimmEncoder(cfg, _folder(cfg), options)
