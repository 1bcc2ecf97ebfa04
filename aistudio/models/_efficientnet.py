"""EfficientNet as the published weights mean it: torchvision's layers, TensorFlow's BatchNorm eps and *static* padding.

Sizes come from `ImageArch` (its defaults are B3 with a 512-wide classifier). Key names of a file follow
efficientnet_pytorch; `published_prefixes` maps them. Normalisation of pixels and of vectors is not here.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from aistudio.models._torchvision import EfficientNet, MBConv, MBConvConfig
from aistudio.models._tower_sizes import ImageArch

BATCH_NORM_EPS = 1e-3  # TensorFlow's; torchvision's 1e-5 turns the vectors visibly


class StaticPadConv2d(nn.Conv2d):
    """A convolution whose zero padding differs between left/top and right/bottom.

    `static_pad` is (left, right, top, bottom); `padding` itself is 0.
    """

    static_pad: tuple[int, int, int, int] = (0, 0, 0, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(input, self.static_pad))


def build_image_tower(arch: ImageArch) -> EfficientNet:
    """(N,3,S,S) normalised float pixels -> (N, arch.dim) features; freshly initialised."""
    stages = [MBConvConfig(*stage, width_mult=arch.width_mult, depth_mult=arch.depth_mult) for stage in arch.stages]
    net = EfficientNet(
        stages,
        dropout=arch.dropout,
        stochastic_depth_prob=arch.drop_connect,
        num_classes=arch.dim,
        norm_layer=partial(nn.BatchNorm2d, eps=BATCH_NORM_EPS, momentum=0.01),
    )
    _set_static_padding(net.features, arch.static_size)
    return net


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow "SAME" zeros (before, after) along one axis of `size` pixels."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _set_static_padding(features: nn.Module, size: int) -> None:
    """Give every spatial convolution the "same" padding it would have at an input of `size` pixels."""
    for parent in list(features.modules()):
        for name, conv in list(parent.named_children()):
            if not isinstance(conv, nn.Conv2d) or conv.kernel_size[0] == 1:
                continue
            kernel, stride = conv.kernel_size[0], conv.stride[0]
            before, after = same_padding(size, kernel, stride)
            if before == after:
                conv.padding = (before, before)
            else:
                setattr(parent, name, _asymmetric(conv, (before, after, before, after)))
            size = math.ceil(size / stride)


def _asymmetric(conv: nn.Conv2d, pad: tuple[int, int, int, int]) -> StaticPadConv2d:
    assert conv.kernel_size[0] == conv.kernel_size[1] and conv.bias is None
    padded = StaticPadConv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], groups=conv.groups, bias=False
    )
    padded.weight = conv.weight
    padded.static_pad = pad
    return padded


def published_prefixes(net: EfficientNet) -> dict[str, str]:
    """torchvision module name -> efficientnet_pytorch module name, for every module that holds tensors."""
    *blocks, _head = list(net.features)
    table = {"features.0.0": "_conv_stem", "features.0.1": "_bn0", "classifier.1": "_fc"}
    table |= {f"features.{len(blocks)}.0": "_conv_head", f"features.{len(blocks)}.1": "_bn1"}
    index = 0
    for s, stage in enumerate(blocks[1:], start=1):
        for j, block in enumerate(stage):
            assert isinstance(block, MBConv)
            for inner, outer in _block_prefixes(len(block.block)).items():
                table[f"features.{s}.{j}.block.{inner}"] = f"_blocks.{index}.{outer}"
            index += 1
    return table


def _block_prefixes(num_parts: int) -> dict[str, str]:
    expand = {"0.0": "_expand_conv", "0.1": "_bn0"} if num_parts == 4 else {}
    depthwise, squeeze, project = num_parts - 3, num_parts - 2, num_parts - 1
    return expand | {
        f"{depthwise}.0": "_depthwise_conv",
        f"{depthwise}.1": "_bn1",
        f"{squeeze}.fc1": "_se_reduce",
        f"{squeeze}.fc2": "_se_expand",
        f"{project}.0": "_project_conv",
        f"{project}.1": "_bn2",
    }
