"""Family `tirg`: Text Image Residual Gating (Vo et al., arXiv 1812.07119, equations 1 to 4, on vectors).

out = a0 * sigmoid(gate([z;q])) * z + a1 * res([z;q]); the gate multiplies the raw image vector.
"""

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models import Kind
from aistudio.models._composer import LoadedComposer
from aistudio.models._composer_open import check_composer, load_composer
from aistudio.models._composer_parts import ComposerArch, ComposerModel, Concat, steady
from aistudio.models._encode import LoadOptions
from aistudio.weights.files import WeightsInfo

KIND = Kind.COMPOSER
REMEMBERED = True


class TirgModel(ComposerModel):
    """TIRG, differentiable."""

    def __init__(self, arch: ComposerArch, num_words: int | None, own_images: bool = True) -> None:
        super().__init__(arch, num_words, own_images)
        dim, both = arch.dim, arch.dim + arch.text_dim
        self.gated_feature_composer = nn.Sequential(Concat(), nn.BatchNorm1d(both), nn.ReLU(), nn.Linear(both, dim))
        self.res_info_composer = nn.Sequential(
            *(Concat(), nn.BatchNorm1d(both), nn.ReLU(), nn.Linear(both, both), nn.ReLU(), nn.Linear(both, dim))
        )

    def vectors(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> torch.Tensor:
        gate = steady(torch.sigmoid, self.gated_feature_composer((z, q)))
        return self.a[0] * gate * z + self.a[1] * self.res_info_composer((z, q))


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check files, keys, shapes and vocabulary; nothing is built. Raises WeightsError or ConfigError."""
    return check_composer(cfg, TirgModel)


def load(cfg: ModelConfig, options: LoadOptions) -> LoadedComposer:
    """Load the composer, ready to compose. Raises WeightsError or ConfigError."""
    return load_composer(cfg, TirgModel, options)
