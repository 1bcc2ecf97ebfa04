"""Dual encoders that can be trained: both towers with gradients, which of their parts train, and their export."""

import re
import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import nn

from aistudio.config import ImageSpec, ModelConfig
from aistudio.config.train import RecallTraining
from aistudio.errors import ConfigError
from aistudio.models import hf_dual
from aistudio.models._checkpoint import save_weights
from aistudio.models._hf_folder import Folders, HfArch, explained, image_spec, pretrained
from aistudio.models._opening import open_published
from aistudio.models._settings import parse_arch, require_vocabulary
from aistudio.models._tower_sizes import AlignArch
from aistudio.models._wordpiece import BertTokenizer
from aistudio.models.align import AlignModel, published_names, state_dict_published
from aistudio.training.exporting import Place, with_files, write_model_yaml

VOCABULARY = "vocab.txt"
_BOTTOM = re.compile(r"embeddings|pre_layrnorm|(^|\.)features\.0\.")  # what lies below the blocks
_PROJECTIONS = ("image_hidden_layer.", "text_hidden_layer.", "visual_projection.", "text_projection.", "classifier.")
_HEADS = (".head.",)  # of towers without a projection (SigLIP)
_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")
COMMENT = "Recall model trained by `python -m aistudio train`; see card.md."


class DualModel(Protocol):
    """Both towers, differentiable."""

    module: nn.Module
    image_spec: ImageSpec
    dim: int
    pad_id: int

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) float after mean and std -> (N,dim), not normalised."""

    def texts(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(N,L) ids and mask -> (N,dim), not normalised."""

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, unpadded."""

    def write(self, folder: Path, place: Place, name: str, log_scale: float) -> ModelConfig:
        """Write weights, tokenizer and YAML; returns the settings for `place`."""


def open_dual(cfg: ModelConfig, settings: RecallTraining) -> DualModel:
    """Open a recall model for training, float32 on the CPU.

    Raises:
        ConfigError: a family that is not trained here.
        WeightsError: files that are missing or do not fit.
    """
    torch.manual_seed(settings.seed)
    if cfg.family == "align":
        return AlignDual(cfg, settings.init == "random")
    if cfg.family == "hf_dual":
        return HfDual(cfg, settings.init == "random")
    raise ConfigError(f"model: {cfg.name} is of family {cfg.family}; task recall trains the families align, hf_dual")


class AlignDual:
    """Family `align`."""

    def __init__(self, cfg: ModelConfig, random: bool) -> None:
        """Open the file, or begin with random numbers."""
        self._cfg, self.image_spec, arch = cfg, cfg.image, parse_arch(AlignArch, cfg)
        self._vocabulary = require_vocabulary(cfg) / VOCABULARY
        self._tokenizer = BertTokenizer(self._vocabulary.parent, arch.text.max_tokens, arch.text.vocab_size)
        self.dim, self.pad_id = arch.dim, self._tokenizer.pad_id
        if random:
            self.model = AlignModel(arch)
        else:
            self.model = open_published(cfg, arch, lambda: AlignModel(arch), published_names, arch.dim).load()
        self.module: nn.Module = self.model

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.image_features(pixels)

    def texts(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model.text_features(ids, mask)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts)

    def write(self, folder: Path, place: Place, name: str, log_scale: float) -> ModelConfig:
        weights = folder / f"{name}.safetensors"
        save_weights(state_dict_published(self.model), weights)
        shutil.copyfile(self._vocabulary, folder / VOCABULARY)
        cfg = with_files(self._cfg, place, weights, {"vocabulary": folder / VOCABULARY}, name)
        write_model_yaml(cfg, folder / f"{name}.yaml", COMMENT)
        return cfg


class HfDual:
    """Family `hf_dual`: a folder of transformers, its text tower in it or in a folder of its own."""

    def __init__(self, cfg: ModelConfig, random: bool) -> None:
        """Open the folders, or build the same networks with random numbers."""
        self._cfg, self._arch = cfg, parse_arch(HfArch, cfg)
        self._folders = Folders(cfg, self._arch)
        self._model: Any = pretrained(transformers.AutoModel, self._folders.model)
        self._text: Any = hf_dual._text_tower(self._arch, self._folders) if self._arch.text_model else self._model
        if random:
            self._model = _fresh(self._model, transformers.AutoModel)
            auto = transformers.AutoModelForSequenceClassification
            self._text = _fresh(self._text, auto) if self._arch.text_model else self._model
        self.image_spec = image_spec(self._folders.model, cfg.image)
        self.dim = hf_dual._width(self._model)
        self._tokenizer = hf_dual._Tokenizer(self._folders.text, self._arch, self._text.config)
        self.pad_id = self._tokenizer.padding.token
        parts = {"model": self._model} | ({"text": self._text} if self._arch.text_model else {})
        self.module: nn.Module = nn.ModuleDict(parts)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        return hf_dual._vectors(self._model.get_image_features(pixel_values=pixels))

    def texts(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        features = getattr(self._text, "get_text_features", self._text)
        return hf_dual._vectors(
            features(input_ids=ids, attention_mask=mask if self._arch.padding == "longest" else None)
        )

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts)

    def write(self, folder: Path, place: Place, name: str, log_scale: float) -> ModelConfig:
        if hasattr(self._model, "logit_scale"):
            self._model.logit_scale.data.fill_(log_scale)
        weights, arch = folder / name / "model.safetensors", dict(self._cfg.arch)
        _save(self._model, self._folders.model, folder / name)
        arch.pop("model", None)
        if self._arch.text_model:
            _save(self._text, self._folders.text, folder / f"{name}_text")
            arch["text_model"] = f"{place.folder}/{name}_text"
            arch.pop("text_weights", None)
        inner = Place(f"{place.folder}/{name}", f"{place.url}/{name}" if place.url else None)
        others = {path.name: path for path in (folder / name).iterdir() if path != weights}
        cfg = with_files(self._cfg.model_copy(update={"arch": arch}), inner, weights, others, name)
        cfg = cfg.model_copy(update={"tokenizer": self._cfg.tokenizer and inner.folder})
        write_model_yaml(cfg, folder / f"{name}.yaml", COMMENT)
        return cfg


def _fresh(model: Any, auto: Any) -> Any:
    return auto.from_config(model.config).float()


def _save(model: Any, source: Path, folder: Path) -> None:
    """Write a model's weights beside copies of the other files of its folder (tokenizer, image processor)."""
    weights = {path for pattern in _WEIGHTS for path in source.glob(pattern)}
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path not in weights and path.suffix in (".json", ".txt", ".model"):
            shutil.copyfile(path, folder / path.name)
    with explained(folder):
        model.save_pretrained(folder)


def choose_trained(dual: DualModel, settings: RecallTraining) -> list[str]:
    """Freeze what does not train (requires_grad False); return the names of the parameters that do.

    Raises:
        ConfigError: the model has no projection to train, or fewer blocks than asked for.
    """
    names = [name for name, _ in dual.module.named_parameters() if not name.endswith(("logit_scale", "logit_bias"))]
    if settings.train == "projection":
        chosen = [n for n in names if any(f".{n}".find(f".{p}") >= 0 for p in _PROJECTIONS)]
        chosen = chosen or [n for n in names if any(h in n for h in _HEADS)]
    elif settings.train == "last_blocks":
        frozen = _lower_blocks(dual.module, settings.last_blocks)
        chosen = [n for n in names if not _BOTTOM.search(n) and not n.startswith(tuple(frozen))]
    else:
        chosen = names
    if not chosen:
        raise ConfigError(f"train: {settings.train}: the model has no such parts; use full or last_blocks")
    wanted = set(chosen)
    for name, parameter in dual.module.named_parameters():
        parameter.requires_grad_(name in wanted)
    return chosen


def _lower_blocks(module: nn.Module, last: int) -> list[str]:
    """Name the blocks of each tower below its last ones: transformer layers or inverted bottlenecks."""
    lists = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m) > 0 and "layer" in n]
    towers = [[f"{name}.{i}." for i in range(len(blocks))] for name, blocks in lists]
    bottlenecks = [f"{n}." for n, m in module.named_modules() if type(m).__name__ == "MBConv"]
    towers += [bottlenecks] if bottlenecks else []
    if not towers or any(last > len(blocks) for blocks in towers):
        found = ", ".join(str(len(blocks)) for blocks in towers) or "none"
        raise ConfigError(f"last_blocks: {last} is more than the towers have (found {found} blocks)")
    return [name for blocks in towers for name in blocks[: len(blocks) - last]]
