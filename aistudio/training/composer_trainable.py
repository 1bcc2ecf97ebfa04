"""A composer in training: its differentiable model, the frozen towers beside it, and its export."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aistudio.config import ComposerTraining, ImageSpec, ModelConfig, load_model_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._checkpoint import read_weights, save_weights
from aistudio.models._composer_open import bert_files, check_arch_towers, check_towers, save_composer
from aistudio.models._composer_parts import Composed, ComposerArch, NormalizationLayer
from aistudio.models._composer_stages import TRUNK, load_stages
from aistudio.models._composer_texts import BertSide, TextSide, TowerSide, word_problem
from aistudio.models._encode import LoadOptions
from aistudio.models._settings import parse_arch
from aistudio.models._words import Vocabulary, build_vocabulary
from aistudio.models.combiner import CombinerArch, CombinerModel, open_combiner
from aistudio.training.composer_model import BUILDERS, fresh_composer, open_trainable
from aistudio.training.exporting import Place, write_model_yaml

COMBINER = "combiner"
COMBINER_SCALE = 10.0  # length of the vectors in the loss: cosines times 100, as in the paper's code
COMMENT = "Composer trained by `python -m aistudio train`; see card.md."


class TrainableCombiner(nn.Module):
    """The combiner's network with the scale that its loss learns."""

    rotates = False

    def __init__(self, network: CombinerModel, scale: float = COMBINER_SCALE) -> None:
        super().__init__()
        self.network = network
        self.normalization_layer = NormalizationLayer()
        nn.init.constant_(self.normalization_layer.norm_s, scale)

    def mix(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> Composed:
        """Compose unit image and text vectors, (N,dim) each."""
        return Composed(self.network.vectors(z, q))


@dataclass(frozen=True)
class FrozenImages:
    """The image tower whose vectors are trained on."""

    spec: ImageSpec
    encode: Callable[[np.ndarray], np.ndarray]
    image_tower_fingerprint: str | None


@dataclass(frozen=True)
class Trainable:
    """An opened composer. `model` has `mix` and `normalization_layer`; what does not train of it is frozen already."""

    cfg: ModelConfig
    model: Any
    vocabulary: Vocabulary | None  # of the LSTM that trains; None: texts come from `texts`
    texts: TextSide | None  # frozen
    images: FrozenImages | None  # whose vectors, or pooled stages, are trained on; None: pixels
    spec: ImageSpec
    dim: int
    has_head: bool = False  # `images` gives pooled stages, and the composer's head on them trains

    def write(self, folder: Path, place: Place, name: str, conf: ModelConfig) -> ModelConfig:
        """Write weights (words and scale inside) and YAML; returns the settings for `place`.

        Args:
            conf: whose towers and tokenizer are named.
        """
        path = folder / f"{name}.safetensors"
        if isinstance(self.model, TrainableCombiner):
            scale = self.model.normalization_layer.norm_s.square().reshape(())
            save_weights({**self.model.network.state_dict(), "logit_scale": scale}, path)
        else:
            save_composer(self.model, path, None if self.vocabulary is None else self.vocabulary.words)
        cfg = conf.model_copy(update={"name": name, "weights": place.file(path), "extra_files": {}})
        write_model_yaml(cfg, folder / f"{name}.yaml", COMMENT)
        return cfg


def require_composer(cfg: ModelConfig) -> None:
    """Raise ConfigError for a family that is not trained here."""
    if cfg.family not in (*BUILDERS, COMBINER):
        known = ", ".join([*BUILDERS, COMBINER])
        raise ConfigError(f"model: {cfg.name} is of family {cfg.family}; task composer trains the families {known}")


def refused_texts(cfg: ModelConfig) -> Callable[[list[str]], list[str | None]]:
    """Return a check of texts that needs no tower: an LSTM reads words, others any text."""
    if cfg.family == COMBINER or parse_arch(ComposerArch, cfg).text != "lstm":
        return lambda texts: [None if text.strip() else "the text is empty" for text in texts]
    nothing = Vocabulary(build_vocabulary([]), cfg.name)
    return lambda texts: [word_problem(len(ids)) for ids in nothing.tokenize(texts)]


def open_images(cfg: ModelConfig, settings: ComposerTraining, device: torch.device) -> FrozenImages | None:
    """Load the frozen image tower; None: the composer's own trains.

    Raises:
        ConfigError: the two do not fit each other.
        WeightsError: as `load_model`.
    """
    tower = cfg.towers.get("base" if cfg.family == COMBINER else "image")
    if settings.train == "image_tower" and TRUNK in cfg.towers:
        trunk = cfg.towers[TRUNK]
        encoder = load_stages(trunk, LoadOptions(device=str(device)))
        return FrozenImages(trunk.image, encoder, f"stages of {check_weights(trunk).image_tower_fingerprint}")
    if settings.train == "image_tower":
        if tower is not None or cfg.family == COMBINER:
            raise ConfigError(f"train: image_tower: {cfg.name} has no image encoder of its own; set train: composer")
        return None
    if tower is None and settings.init == "random":
        raise ConfigError(
            f"train: composer: the image encoder of {cfg.name} would stay random; name another as towers.image, begin "
            "with init: weights, or set train: image_tower"
        )
    model: Any = load_model(tower or cfg, device=str(device))
    return FrozenImages(model.image_spec, model.encode_images, model.image_tower_fingerprint)


def open_trained(
    cfg: ModelConfig,
    settings: ComposerTraining,
    images: FrozenImages | None,
    texts: Iterable[str],
    device: torch.device,
) -> Trainable:
    """Open the composer, float32 on the CPU, its frozen parts without gradients.

    Args:
        texts: what a new vocabulary is built from.

    Raises:
        ConfigError, WeightsError: as `load_model`; a vocabulary without a word.
    """
    torch.manual_seed(settings.seed)
    if cfg.family == COMBINER:
        return _combiner(cfg, settings, images, device)
    arch = parse_arch(ComposerArch, cfg)
    if settings.init == "random":
        check_arch_towers(cfg, arch)
        words = build_vocabulary(texts) if arch.text == "lstm" else None
        model, vocabulary = fresh_composer(cfg, words), None if words is None else Vocabulary(words, cfg.name)
        if settings.image_weights is not None:
            take_image_weights(model, load_model_config(settings.image_weights))
    else:
        opened = open_trainable(cfg)
        model, vocabulary = opened.model(), opened.vocabulary
    head = bool(arch.stages) and settings.train == "image_tower"
    if images is not None and not head and hasattr(model, "img_model"):
        model.img_model.requires_grad_(False)
    side = None if vocabulary is not None else _frozen_texts(cfg, arch, device)
    if side is not None and side.dim != arch.text_dim:
        raise ConfigError(f"{cfg.name}: text vectors are {side.dim} wide, arch.text_dim is {arch.text_dim}")
    spec = cfg.image if images is None else images.spec
    return Trainable(cfg, model, vocabulary, side, images, spec, arch.dim, head)


def _combiner(
    cfg: ModelConfig, settings: ComposerTraining, images: FrozenImages | None, device: torch.device
) -> Trainable:
    base = check_towers(cfg, required=("base",))["base"]
    scale = COMBINER_SCALE
    if settings.init == "random":
        network = CombinerModel(base.dim, parse_arch(CombinerArch, cfg))
    else:
        network = open_combiner(cfg)
        stored = read_weights(cfg.weights.path)[0].get("logit_scale")
        scale = scale if stored is None else math.sqrt(float(stored))
    side = TowerSide(load_model(cfg.towers["base"], device=str(device)))
    return Trainable(cfg, TrainableCombiner(network, scale), None, side, images, base.image_spec, base.dim)


def towers_digests(cfg: ModelConfig) -> dict[str, Any]:
    """Return digests of the frozen models that a composer stands on."""
    found: dict[str, Any] = {key: check_weights(tower).fingerprint for key, tower in cfg.towers.items()}
    if cfg.family != COMBINER and parse_arch(ComposerArch, cfg).text == "bert":
        found["bert"] = sorted(bert_files(cfg).values())
    return found


def _frozen_texts(cfg: ModelConfig, arch: ComposerArch, device: torch.device) -> TextSide:
    if arch.text == "bert":
        bert_files(cfg)
        return BertSide(str(cfg.tokenizer), LoadOptions(device=str(device)))
    return TowerSide(load_model(cfg.towers["text"], device=str(device)))


def take_image_weights(model: Any, conf: ModelConfig) -> None:
    """Begin the image encoder with a torchvision ResNet-18's numbers; its own last layer stays as it is.

    Raises:
        ConfigError: the composer has no image encoder of its own.
        WeightsError: not the weights of a ResNet-18.
    """
    if not hasattr(model, "img_model") or model.arch.stages:
        raise ConfigError("image_weights: the composer has no ResNet-18 of its own; its images are another tower's")
    check_weights(conf)
    state, wanted = read_weights(conf.weights.path)[0], model.img_model.state_dict()
    missing = [
        name
        for name, own in wanted.items()
        if not name.startswith("fc.") and (name not in state or state[name].shape != own.shape)
    ]
    if missing:
        raise WeightsError(
            f"{conf.weights.path}: not a ResNet-18: {', '.join(missing[:3])} missing or of another shape"
        )
    model.img_model.load_state_dict({n: own if n.startswith("fc.") else state[n] for n, own in wanted.items()})
