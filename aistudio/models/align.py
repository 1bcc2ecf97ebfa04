"""Family `align`: the recall model, an image and a text tower in one space.

EfficientNet -> 512 -> projection and 4-layer BERT [CLS] -> projection (paper: What Image do You Need? A Two-stage
Framework for Image Selection in E-commerce). `arch` in the model's YAML gives other sizes; the defaults are the
published ones. Files name their tensors as the published checkpoint does, whatever their size.
"""

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models import Kind
from aistudio.models._align_tokenizer import tokenizer_of
from aistudio.models._bert import build_text_tower
from aistudio.models._efficientnet import build_image_tower, published_prefixes
from aistudio.models._encode import ImageRunner, LoadOptions, Padding, TextEncoder, TwoTowers
from aistudio.models._opening import OpenedFile, open_published
from aistudio.models._settings import parse_arch
from aistudio.models._tower_sizes import AlignArch
from aistudio.weights.files import WeightsInfo

KIND = Kind.RECALL
TOKENIZER = "_align_tokenizer"
REMEMBERED = True


class AlignModel(nn.Module):
    """Both towers, differentiable. Vectors are returned as they are; `F.normalize` them to compare."""

    def __init__(self, arch: AlignArch | None = None) -> None:
        super().__init__()
        self.arch = arch or AlignArch()
        self.image_model = build_image_tower(self.arch.image)
        self.text_model = build_text_tower(self.arch.text)
        self.image_hidden_layer = nn.Linear(self.arch.image.dim, self.arch.dim)
        self.text_hidden_layer = nn.Linear(self.arch.text.hidden, self.arch.dim)

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N,3,S,S) float pixels after mean/std -> (N,dim), not normalised."""
        return self.image_hidden_layer(self.image_model(pixels))

    def text_features(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(N,L) int64 token ids, (N,L) mask of ones and zeros -> (N,dim), not normalised."""
        return self.text_hidden_layer(self.text_model(ids, mask))


def published_names(model: AlignModel) -> dict[str, str]:
    """The model's own key -> the key in a file, for every tensor that a file holds."""
    prefixes = published_prefixes(model.image_model)
    names = {}
    for key in model.state_dict():
        if key.endswith("num_batches_tracked"):
            continue  # counts training steps; with a fixed momentum nothing reads it
        names[key] = key
        if key.startswith("image_model."):
            module, _, tensor = key.removeprefix("image_model.").rpartition(".")
            names[key] = f"image_model.{prefixes[module]}.{tensor}"
    return names


def state_dict_published(model: AlignModel) -> dict[str, torch.Tensor]:
    """The model's tensors under the published names, ready for `save_weights`."""
    state = model.state_dict()
    return {name: state[key] for key, name in published_names(model).items()}


class AlignRecall(TwoTowers):
    """The recall model, loaded.

    `image_spec`: the pixels it wants; `dim`: width of its vectors; `fingerprint`: identifies files and settings;
    `image_tower_fingerprint`: equal for two models whose image towers are the same numbers.
    """

    normalised = True

    def __init__(self, opened: OpenedFile[AlignModel], options: LoadOptions) -> None:
        model = opened.load()
        self.image_spec, self.dim = opened.cfg.image, opened.info.dim
        self.fingerprint = opened.info.fingerprint
        self.image_tower_fingerprint = opened.info.image_tower_fingerprint
        self._images = image_encoder(model, opened.cfg, options)
        self._texts = text_encoder(model, opened.cfg, options)


def image_encoder(model: AlignModel, cfg: ModelConfig, options: LoadOptions) -> ImageRunner:
    """Takes the image tower over: `model` is no longer to be trained."""
    tower = nn.Sequential(model.image_model, model.image_hidden_layer)
    return ImageRunner(tower, cfg.image, model.arch.dim, options)


def text_encoder(model: AlignModel, cfg: ModelConfig, options: LoadOptions) -> TextEncoder:
    """Takes the text tower over. Raises WeightsError when the vocabulary is not the model's."""
    tokenizer = tokenizer_of(cfg, model.arch.text)
    padding = Padding(tokenizer.pad_id, model.arch.text.max_tokens)
    return TextEncoder(tokenizer, _TextTower(model), model.arch.dim, options, padding)


class _TextTower(nn.Module):
    """The model's text side alone."""

    def __init__(self, model: AlignModel) -> None:
        super().__init__()
        self.parts = nn.ModuleList([model.text_model, model.text_hidden_layer])
        self.forward = model.text_features


def _open(cfg: ModelConfig) -> OpenedFile[AlignModel]:
    arch = parse_arch(AlignArch, cfg)
    return open_published(cfg, arch, lambda: AlignModel(arch), published_names, arch.dim)


def open_align(cfg: ModelConfig) -> AlignModel:
    """Both towers in eval mode, float32, on the CPU. Raises WeightsError or ConfigError."""
    return _open(cfg).load()


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, keys and shapes; nothing is built. Raises WeightsError or ConfigError."""
    return _open(cfg).info


def load(cfg: ModelConfig, options: LoadOptions) -> AlignRecall:
    """The recall model, ready to encode. Raises WeightsError or ConfigError."""
    return AlignRecall(_open(cfg), options)
