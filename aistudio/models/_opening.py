"""From a model's settings to a checked, loaded module, for families whose files follow the published key names."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models._checkpoint import fit, load_into, read_state_dict
from aistudio.models._settings import require_vocabulary
from aistudio.models._skeleton import without_numbers
from aistudio.weights.files import WeightsInfo, file_sha256, model_fingerprint, require_files

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class OpenedFile(Generic[M]):
    """A checked file: its tensors, and how the model's own keys are called in it."""

    cfg: ModelConfig
    info: WeightsInfo
    tensors: Mapping[str, torch.Tensor]
    names: Mapping[str, str]
    build: Callable[[], M]

    def load(self) -> M:
        """The model in eval mode with the file's numbers, float32, on the CPU."""
        model = self.build()
        load_into(model, self.tensors, self.names, self.cfg.weights.path)
        return model.eval()


def open_published(
    cfg: ModelConfig,
    arch: Any,
    build: Callable[[], M],
    published_names: Callable[[M], dict[str, str]],
    dim: int,
    prefix: str = "",
) -> OpenedFile[M]:
    """Check files, keys and shapes; no tower is built.

    Args:
        arch: the family's sizes, of which `arch.image` are the image tower's.
        prefix: of the towers' keys in the file.

    Raises:
        WeightsError: a file is missing or not what it should be.
    """
    files = require_files(cfg)
    vocabulary = require_vocabulary(cfg) / "vocab.txt"
    files[str(vocabulary)] = file_sha256(vocabulary)
    _, names, tensors = read_published(cfg, build, published_names)
    tower = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.removeprefix(prefix).startswith(("image_model.", "image_hidden_layer."))
    }
    sizes = {"arch": arch.image.model_dump(mode="json", exclude={"dropout", "drop_connect"}), "dim": dim}
    used = tensors_fingerprint(tower, sizes | {"image": cfg.image.identity()})
    info = file_info(cfg, files, arch.model_dump(mode="json"), tensors, used, dim)
    return OpenedFile(cfg, info, tensors, names, build)


def read_published(
    cfg: ModelConfig,
    build: Callable[[], M],
    published_names: Callable[[M], dict[str, str]],
    ignored: Callable[[str], bool] | None = None,
) -> tuple[M, dict[str, str], Mapping[str, torch.Tensor]]:
    """Read the file's tensors and check their names and shapes; no tower is built.

    Args:
        ignored: true for the names in the file that are no part of this model.

    Returns:
        the model without numbers, its own keys' names in the file, the tensors by name.

    Raises:
        WeightsError: the file is not what it should be.
    """
    with without_numbers():
        skeleton = build()
    names = published_names(skeleton)
    shapes = {names[key]: value.shape for key, value in skeleton.state_dict().items() if key in names}
    state: Mapping[str, torch.Tensor] = read_state_dict(cfg.weights.path)
    if ignored is not None:
        state = {name: tensor for name, tensor in state.items() if not ignored(name)}
    return skeleton, names, fit(state, shapes, cfg.weights.path)


def file_info(
    cfg: ModelConfig,
    files: dict[str, str],
    settings: dict[str, Any],
    tensors: Mapping[str, torch.Tensor],
    image_tower_fingerprint: str,
    dim: int,
    normalised: bool = True,
) -> WeightsInfo:
    """Return what a run records of a model of one weights file; `files`: sha256 by path, `settings`: its arch."""
    return WeightsInfo(
        name=cfg.name,
        family=cfg.family,
        fingerprint=model_fingerprint(cfg, list(files.values()), settings),
        image_tower_fingerprint=image_tower_fingerprint,
        dim=dim,
        image_spec=cfg.image,
        num_tensors=len(tensors),
        num_parameters=sum(t.numel() for t in tensors.values()),
        files=files,
        normalised=normalised,
    )


def tensors_fingerprint(tensors: Mapping[str, torch.Tensor], settings: Any) -> str:
    """Hex sha256 over names, shapes and float32 values of tensors, and over the settings they are used with."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().float().contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()
