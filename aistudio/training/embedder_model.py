"""The embedder that a training changes: where its numbers begin, its frozen trunk, its export."""

import copy
from pathlib import Path

import numpy as np
import torch

from aistudio.config import ModelConfig
from aistudio.config.train import EmbedderTraining
from aistudio.errors import ConfigError
from aistudio.models._checkpoint import save_weights
from aistudio.models._encode import LoadOptions
from aistudio.models._opening import tensors_fingerprint
from aistudio.models.embedder import (
    EmbedderModel,
    fresh_model,
    load_trunk,
    open_model,
    state_dict_published,
    trunk_runner,
)
from aistudio.training.exporting import Place, write_model_yaml
from aistudio.training.images import Encode
from aistudio.training.inputs import Say

COMMENT = "Written by jobs.train; see card.md beside it."


def begin_model(cfg: ModelConfig, settings: EmbedderTraining, trunk: ModelConfig | None, say: Say) -> EmbedderModel:
    """Build the model that a training begins with: a file's numbers, or those of the seed; then the trunk's.

    Raises:
        ConfigError: no embedder, no head to train, or a frozen trunk of random numbers.
        WeightsError: a file that is missing or does not fit.
    """
    if cfg.family != "embedder":
        raise ConfigError(f"model: {cfg.name} is of family {cfg.family}; task embedder trains the family embedder")
    if settings.init == "weights":
        model = open_model(cfg)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = fresh_model(cfg)
    frozen = model.arch.freeze_trunk
    if trunk is not None:
        if trunk.family != "embedder":
            raise ConfigError(f"trunk_from: {trunk.name} is of family {trunk.family}, not embedder")
        load_trunk(model, trunk.weights.path)
        if frozen and trunk.image != cfg.image:
            say(f"warning: {trunk.name} was trained on other pixels (image) than {cfg.name} gives its frozen trunk")
    elif frozen and settings.init == "random":
        raise ConfigError(
            f"{cfg.name}: arch.freeze_trunk with init: random would freeze random numbers; name a pretrained embedder "
            "in trunk_from, or train the trunk, too"
        )
    if frozen and model.arch.dim is None:
        raise ConfigError(f"{cfg.name}: arch.dim: null has no head, and the trunk is frozen: nothing would train")
    model.trunk.requires_grad_(not frozen)
    return model


def frozen_trunk(model: EmbedderModel, cfg: ModelConfig, device: torch.device) -> tuple[Encode, str]:
    """Return what computes the frozen trunk's vectors, and the fingerprint under which they are kept."""
    runner = trunk_runner(model, cfg.image, LoadOptions(str(device)))
    use = {"backbone": model.arch.backbone, "pooling": model.arch.pooling, "widths": model.arch.widths}
    return runner, tensors_fingerprint(copy.deepcopy(model.trunk).state_dict(), {"trunk": use})


def joined(cfg: ModelConfig, trunk_vectors: np.ndarray) -> np.ndarray:
    """Return what an exported file makes of vectors of its trunk: (N, width) -> (N, dim) float32."""
    with torch.inference_mode():
        found: np.ndarray = open_model(cfg).join(torch.from_numpy(trunk_vectors)).numpy()
    return found


def write_embedder(model: EmbedderModel, cfg: ModelConfig, folder: Path, place: Place, name: str) -> ModelConfig:
    """Write weights and YAML of an encoder; returns its settings for `place`."""
    return write_encoder(state_dict_published(model), cfg, folder, place, name)


def write_encoder(
    tensors: dict[str, torch.Tensor], cfg: ModelConfig, folder: Path, place: Place, name: str
) -> ModelConfig:
    """Write tensors and the model's YAML."""
    weights = folder / f"{name}.safetensors"
    save_weights(tensors, weights)
    cfg = cfg.model_copy(update={"name": name, "weights": place.file(weights), "notes": None, "licence": None})
    write_model_yaml(cfg, folder / f"{name}.yaml", COMMENT)
    return cfg
