"""Family `align`: the recall model, an image and a text tower in one space.

EfficientNet -> 512 -> projection and 4-layer BERT [CLS] -> projection (paper: What Image do You Need? A Two-stage
Framework for Image Selection in E-commerce). `arch` in the model's YAML gives other sizes; the defaults are the
published ones. Files name their tensors as the published checkpoint does, whatever their size.
"""

import torch
from pydantic import Field
from torch import nn

from aistudio.config import Settings
from aistudio.models._bert import TextArch, build_text_tower, first_token
from aistudio.models._efficientnet import ImageArch, build_image_tower, published_prefixes


class AlignArch(Settings):
    """Sizes of both towers; the defaults are the published recall model."""

    image: ImageArch = ImageArch()
    text: TextArch = TextArch()
    dim: int = Field(512, ge=1)  # width of the common space


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
        return self.text_hidden_layer(first_token(self.text_model, ids, mask))


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
