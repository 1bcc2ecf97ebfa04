"""Family `weighted_sum`: (1 - w) * image + w * text of a dual encoder, of length one. Nothing is trained.

`arch.text_weight` 0 is "image only", 1 is "text only": the baselines that every table of composed retrieval needs.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from aistudio.config import ModelConfig, Settings
from aistudio.models import Kind
from aistudio.models._composer import LoadedComposer
from aistudio.models._composer_open import check_towers, composer_info, load_tower, tower_images
from aistudio.models._composer_texts import TowerSide
from aistudio.models._encode import LoadOptions
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo

KIND = Kind.COMPOSER
REMEMBERED = True


class WeightedSumArch(Settings):
    """How much the text counts."""

    text_weight: float = Field(0.5, ge=0, le=1)  # 0: image only; 1: text only


class WeightedSumModel(nn.Module):
    """The sum; no parameter."""

    def __init__(self, text_weight: float) -> None:
        super().__init__()
        self.text_weight = text_weight

    def vectors(self, z: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """(N,dim) unit image and text vectors -> (N,dim) unit vectors; with one weight 0, the others as they are."""
        if self.text_weight in (0.0, 1.0):
            return q if self.text_weight else z
        return F.normalize((1 - self.text_weight) * z + self.text_weight * q, dim=1)


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check the base model; there is nothing else. Raises WeightsError or ConfigError."""
    arch = parse_arch(WeightedSumArch, cfg)
    towers = check_towers(cfg, required=("base",))
    return composer_info(cfg, {}, towers, arch.model_dump(mode="json") | {"dim": towers["base"].dim}, {})


def load(cfg: ModelConfig, options: LoadOptions) -> LoadedComposer:
    """Load the base model, ready to compose. Raises WeightsError or ConfigError."""
    info = check(cfg)
    base = load_tower(cfg.towers["base"], options)
    mixer = WeightedSumModel(parse_arch(WeightedSumArch, cfg).text_weight)
    return LoadedComposer(tower_images(base), TowerSide(base), mixer, info.fingerprint, options)
