"""Family `real_space_concat_ae`: ComposeAE without its complex space (arXiv 2006.11149, the ablation of table 4).

theta = a1 * rho([z;q]) + a0 * rho_conv([z;q]); decoders as ComposeAE has them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models import Kind
from aistudio.models._composer import LoadedComposer
from aistudio.models._composer_open import check_composer, load_composer
from aistudio.models._composer_parts import ComposerArch, ComposerAutoencoder, mapping
from aistudio.models._encode import LoadOptions
from aistudio.weights.files import WeightsInfo

KIND = Kind.COMPOSER
REMEMBERED = True

CHANNELS = 64
POOLED = 20


class LinearMapping(nn.Module):
    """[z;q] -> (N,dim)."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.mapping = mapping(inputs, dim, dim)

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        return self.mapping(both)


class ConvMapping(nn.Module):
    """[z;q] as one channel -> convolution without activation, max pooling -> (N,dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mapping = mapping(CHANNELS * POOLED, dim, dim)
        self.conv1 = nn.Conv1d(1, CHANNELS, kernel_size=3, padding=1)

    def forward(self, both: torch.Tensor) -> torch.Tensor:
        return self.mapping(F.adaptive_max_pool1d(self.conv1(both[:, None]), POOLED).flatten(1))


class RealSpaceConcatAeModel(ComposerAutoencoder):
    """RealSpaceConcatAE, differentiable."""

    def __init__(self, arch: ComposerArch, num_words: int | None, own_images: bool = True) -> None:
        super().__init__(arch, num_words, own_images)
        # index 0 is the concatenation in the published code
        self.encoderLinear = nn.ModuleDict({"1": LinearMapping(arch.dim + arch.text_dim, arch.dim)})
        self.encoderWithConv = nn.ModuleDict({"1": ConvMapping(arch.dim)})
        self.add_decoders()

    def vectors(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> torch.Tensor:
        both = torch.cat([z, q], dim=1)
        return self.a[1] * self.encoderLinear["1"](both) + self.a[0] * self.encoderWithConv["1"](both)


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check files, keys, shapes and vocabulary; nothing is built. Raises WeightsError or ConfigError."""
    return check_composer(cfg, RealSpaceConcatAeModel)


def load(cfg: ModelConfig, options: LoadOptions) -> LoadedComposer:
    """Load the composer, ready to compose. Raises WeightsError or ConfigError."""
    return load_composer(cfg, RealSpaceConcatAeModel, options)
