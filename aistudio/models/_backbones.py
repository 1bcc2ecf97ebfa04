"""Trunks of the embedder: pixels -> one pooled vector. Ours by name, and every classification model of torchvision.

`seed_cnn` is the jewellery project's network, `small_resnet` trains from nothing on a CPU, `efficientnet_lite0` has
pretrained weights in a package (_lite.py). Heads and normalisation are the family's (embedder.py).
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from aistudio.errors import ConfigError
from aistudio.models import _lite
from aistudio.models._optimise import Foldable
from aistudio.models._torchvision import torchvision

Pooling = Literal["avg", "gem", "flatten"]
SMALL_RESNET_WIDTHS = (24, 48, 96, 192)
OURS = ("seed_cnn", "small_resnet", "efficientnet_lite0")
CLASSIFIERS = ("fc", "classifier", "heads", "head")  # what torchvision's models call their last layers
WITH_AUXILIARY = ("googlenet", "inception_v3")  # in training mode these return several results by default
GEM_P, GEM_EPS = 3.0, 1e-6


class AveragePool(nn.Module):
    """(N,C,H,W) -> (N,C), the mean over space."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class GemPool(nn.Module):
    """(N,C,H,W) -> (N,C), the generalised mean with a learnable exponent (Radenovic 2018, arXiv 1711.02512).

    In eval mode powers are computed in float64: in float32 the last bit depends on a value's place in the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), GEM_P))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return x.clamp(min=GEM_EPS).pow(self.p).mean((2, 3)).pow(1 / self.p)
        p = self.p.double()
        return x.double().clamp(min=GEM_EPS).pow(p).mean((2, 3)).pow(1 / p).to(x.dtype)


class Trunk(nn.Module):
    """Feature maps, then pooling: (N,3,S,S) normalised pixels -> (N, width)."""

    def __init__(self, features: nn.Module, pool: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.pool, self.width = features, pool, width

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pool(self.features(pixels))

    @property
    def is_foldable(self) -> bool:
        """Do batches of any size give each image the very same bits, once _optimise.py has prepared the layers?"""
        return isinstance(self.features, Foldable)


def build_trunk(backbone: str, pooling: Pooling, size: int, widths: tuple[int, ...]) -> Trunk:
    """Build a freshly initialised trunk.

    Args:
        size: side of the square images in pixels.
        widths: channels of the stages of `small_resnet`.

    Raises:
        ConfigError: unknown backbone, a pooling that it cannot have, or images too small for it.
    """
    if backbone not in OURS:
        return _torchvision_trunk(backbone, pooling, size)
    build: dict[str, Callable[[], tuple[nn.Module, int]]] = {
        "seed_cnn": lambda: (_seed_cnn(), 64),
        "small_resnet": lambda: (_small_resnet(widths), widths[-1]),
        "efficientnet_lite0": lambda: (_lite.build_lite0(size), _lite.WIDTH),
    }
    features, channels = build[backbone]()
    if pooling == "flatten":
        return Trunk(features, nn.Flatten(), _probed_width(Trunk(features, nn.Flatten(), 0), size, backbone))
    _probed_width(features, size, backbone)
    return Trunk(features, GemPool() if pooling == "gem" else AveragePool(), channels)


def trunk_name(backbone: str, key: str) -> str:
    """Map a key of the trunk's state to the key in a file: as the libraries publish it."""
    name = key.removeprefix("features.")
    return _lite.published_name(name) if backbone == "efficientnet_lite0" else name


def is_classifier(name: str) -> bool:
    """Is this a tensor of a published model's last layers, which an embedder replaces?"""
    return name.partition(".")[0] in (*CLASSIFIERS, "_fc", "AuxLogits", "aux1", "aux2")


def _seed_cnn() -> Foldable:
    """conv5x5-32, PReLU, two max-pools, conv5x5-64, PReLU, max-pool: 5,184 values at 96 pixels."""
    layers = [nn.Conv2d(3, 32, 5), nn.PReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), nn.PReLU()]
    return Foldable(*layers, nn.MaxPool2d(2))


def _small_resnet(widths: tuple[int, ...]) -> Foldable:
    """A stem and one stage of two residual blocks per width, each stage but the first at half the size."""
    stages: list[nn.Module] = [_conv_norm(3, widths[0], 2), nn.ReLU(inplace=True)]
    channels = widths[0]
    for number, width in enumerate(widths):
        stages += [_ResidualBlock(channels, width, 1 if number == 0 else 2), _ResidualBlock(width, width, 1)]
        channels = width
    return Foldable(*stages)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He 2015, arXiv 1512.03385)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        second = _conv_norm(channels_out, channels_out, 1)
        self.body = nn.Sequential(_conv_norm(channels_in, channels_out, stride), nn.ReLU(inplace=True), second)
        plain = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if plain else _conv_norm(channels_in, channels_out, stride, kernel=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def _conv_norm(channels_in: int, channels_out: int, stride: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def _torchvision_trunk(backbone: str, pooling: Pooling, size: int) -> Trunk:
    known = torchvision.models.list_models(module=torchvision.models)
    if backbone not in known:
        raise ConfigError(
            f"arch.backbone {backbone!r} is not known; one of {', '.join(OURS)}, or a classification model of "
            f"torchvision such as resnet18, mobilenet_v3_small, convnext_tiny ({len(known)} in all)"
        )
    more: dict[str, Any] = {"aux_logits": False, "init_weights": False} if backbone in WITH_AUXILIARY else {}
    if backbone.startswith("vit_"):
        more["image_size"] = size
    model = torchvision.models.get_model(backbone, weights=None, **more)
    setattr(model, next(name for name in CLASSIFIERS if hasattr(model, name)), nn.Identity())
    if pooling == "gem":
        if not isinstance(getattr(model, "avgpool", None), nn.AdaptiveAvgPool2d):
            raise ConfigError(f"arch.pooling gem: {backbone} has no average pooling of its own to replace; use avg")
        model.avgpool = GemPool()
    elif pooling == "flatten":
        raise ConfigError("arch.pooling flatten: only for our own backbones; use avg or gem")
    return Trunk(model, nn.Identity(), _probed_width(model, size, backbone))


def _probed_width(module: nn.Module, size: int, backbone: str) -> int:
    """Width of a module's result on images of `size` pixels."""
    was_training = module.training
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            return module.eval()(torch.zeros(1, 3, size, size, device=device)).shape[1]
    except (RuntimeError, AssertionError) as e:
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ConfigError(f"arch.backbone {backbone}: images of {size} pixels do not fit it ({first})") from None
    finally:
        module.train(was_training)
