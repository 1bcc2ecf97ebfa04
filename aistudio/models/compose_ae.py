"""Family `compose_ae`: ComposeAE (Anwaar et al., arXiv 2006.11149), a rotation by the text in a complex space.

gamma (angle) comes from the text, eta (magnitude) from the image; Re, Im = eta * cos, sin(gamma). Then
theta = a1 * rho(Re, Im) + a0 * rho_conv(eta, gamma, z, Re, Im), each with a projection of its own. The order of layers
is that of the published code, which differs from the paper's (rho_conv reads no raw text vector).
"""

import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ModelConfig
from aistudio.models import Kind
from aistudio.models._composer import LoadedComposer
from aistudio.models._composer_open import check_composer, load_composer
from aistudio.models._composer_parts import ComposerArch, ComposerAutoencoder, mapping, steady
from aistudio.models._encode import LoadOptions
from aistudio.weights.files import WeightsInfo

KIND = Kind.COMPOSER
REMEMBERED = True

CHANNELS = 64
POOLED = 16


class Projection(nn.Module):
    """z and q -> magnitude eta and angle gamma, (N,dim) each."""

    def __init__(self, arch: ComposerArch) -> None:
        super().__init__()
        dim, text_dim = arch.dim, arch.text_dim
        self.bert_features = nn.Sequential(  # the published name, whatever encodes the texts
            *(nn.BatchNorm1d(text_dim), nn.Linear(text_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        )
        self.image_features = nn.Sequential(
            *(nn.BatchNorm1d(dim), nn.Linear(dim, dim), nn.Dropout(arch.image_dropout), nn.ReLU(), nn.Linear(dim, dim))
        )

    def forward(self, z: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gamma = self.bert_features(q)
        return self.image_features(z), gamma


class LinearMapping(nn.Module):
    """[Re;Im] -> (N,dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mapping = mapping(2 * dim, dim, dim)

    def forward(self, re: torch.Tensor, im: torch.Tensor) -> torch.Tensor:
        return self.mapping(torch.cat([re, im], dim=1))


class ConvMapping(nn.Module):
    """Five channels of length dim -> convolution without activation, max pooling -> (N,dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mapping = mapping(CHANNELS * POOLED, dim, dim)
        self.conv = nn.Conv1d(5, CHANNELS, kernel_size=3, padding=1)

    def forward(self, *channels: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_max_pool1d(self.conv(torch.stack(channels, dim=1)), POOLED)
        return self.mapping(pooled.flatten(1))


class ComposeAeModel(ComposerAutoencoder):
    """ComposeAE, differentiable."""

    rotates = True

    def __init__(self, arch: ComposerArch, num_words: int | None, own_images: bool = True) -> None:
        super().__init__(arch, num_words, own_images)
        self.encoderLinear = nn.ModuleList([Projection(arch), LinearMapping(arch.dim)])
        self.encoderWithConv = nn.ModuleList([Projection(arch), ConvMapping(arch.dim)])
        self.add_decoders()

    def vectors(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> torch.Tensor:
        eta, gamma = self.encoderLinear[0](z, q)
        rho = self.encoderLinear[1](*_rotated(eta, gamma, conjugate))
        eta, gamma = self.encoderWithConv[0](z, q)
        rho_conv = self.encoderWithConv[1](eta, gamma, z, *_rotated(eta, gamma, conjugate))
        return self.a[1] * rho + self.a[0] * rho_conv


def _rotated(eta: torch.Tensor, gamma: torch.Tensor, conjugate: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary part of eta * exp(i gamma), or of its conjugate."""
    re, im = eta * steady(torch.cos, gamma), eta * steady(torch.sin, gamma)
    return re, -im if conjugate else im


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check files, keys, shapes and vocabulary; nothing is built. Raises WeightsError or ConfigError."""
    return check_composer(cfg, ComposeAeModel)


def load(cfg: ModelConfig, options: LoadOptions) -> LoadedComposer:
    """Load the composer, ready to compose. Raises WeightsError or ConfigError."""
    return load_composer(cfg, ComposeAeModel, options)
