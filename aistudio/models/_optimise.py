"""Making towers faster for inference without changing what they compute beyond rounding.

Measured by benchmarks/model_cpu.py; the numbers are in reports/bench/.
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from aistudio.models._torchvision import BasicBlock, Bottleneck, EfficientNet, ResNet, SqueezeExcitation

PIXELS_AT_ONCE = 2 * 224 * 224  # per core, while feature maps are large: 15 MB an activation for B3, which caches hold
LARGE_MAPS = 16  # feature maps are large until they are this many times smaller than the image along each side


def ready_tower(tower: nn.Module, device: torch.device, dtype: torch.dtype, optimize: bool) -> nn.Module:
    """The image tower in eval mode on its device, in its precision, channels-last; made faster if `optimize`."""
    convolutional = [module for module in tower.modules() if isinstance(module, EfficientNet | ResNet | Foldable)]
    if not convolutional:
        ready = ready_transformer(tower, device, dtype, optimize).to(dtype)
        return ready.to(memory_format=torch.channels_last)
    tower.eval().requires_grad_(False)
    if optimize:
        fold_batch_norm(tower)
    tower.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
    if optimize and device.type == "cpu" and one_dnn_available(dtype):
        fuse_for_one_dnn(tower)
        for net in convolutional:
            if isinstance(net, EfficientNet):
                net.features = in_small_steps(net.features)
    return tower


class Foldable(nn.Sequential):
    """Layers of our own that may be folded and fused: BatchNorm stands right behind its convolution in a Sequential,
    activations round the same wherever a value stands (ReLU and its kin), and no layer looks into another."""


def ready_transformer(tower: nn.Module, device: torch.device, dtype: torch.dtype, optimize: bool) -> nn.Module:
    """A transformer in eval mode on its device, to be run in `dtype`; made faster if `optimize`.

    Nothing is folded or replaced: Hugging Face's code looks into its layers.
    """
    tower.eval().requires_grad_(False).to(device)
    if optimize and device.type == "cpu" and dtype == torch.float32 and one_dnn_available():
        for layer in tower.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = OneDnnLinear  # the very same object: it is known in other places, too
    return tower


def fold_batch_norm(module: nn.Module) -> None:
    """Fold every BatchNorm that follows a convolution or linear layer into it, in place; in float64, rounded once."""
    for parent in module.modules():
        for conv_name, norm_name in _norm_pairs(parent):
            conv, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                dtype = conv.weight.dtype
                setattr(parent, conv_name, fuse_conv_bn_eval(conv.double(), norm.double()).to(dtype))
                setattr(parent, norm_name, nn.Identity())
            elif isinstance(conv, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                dtype = conv.weight.dtype
                setattr(parent, conv_name, fuse_linear_bn_eval(conv.double(), norm.double()).to(dtype))
                setattr(parent, norm_name, nn.Identity())


def _norm_pairs(parent: nn.Module) -> list[tuple[str, str]]:
    """Names of children that may be a layer and its norm: neighbours of a Sequential, or ResNet's conv1 and bn1."""
    if isinstance(parent, nn.Sequential):
        return list(itertools.pairwise(parent._modules))
    if isinstance(parent, ResNet | BasicBlock | Bottleneck):
        pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        return [pair for pair in pairs if hasattr(parent, pair[0])]
    return []


def one_dnn_available(dtype: torch.dtype = torch.float32) -> bool:
    """Are there the operators that torch.compile's CPU backend uses, for this dtype on this processor?

    They are not part of torch's documented surface, hence the look before the leap.
    """
    ops = torch.ops.mkldnn
    wanted = ("_convolution_pointwise", "_reorder_convolution_weight", "_linear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(ops, name) for name in wanted):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported())


class OneDnnLinear(nn.Linear):
    """A frozen float32 linear layer as one oneDNN call.

    torch's own goes to MKL, which takes twice the time on AMD's processors with AVX-512.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def fuse_for_one_dnn(module: nn.Module) -> None:
    """Run every convolution, and the SiLU behind it, as one oneDNN call, in place.

    Eager torch sends 1x1 convolutions of small batches through im2col and a general matrix product, which takes two
    thirds of the time of an EfficientNet on one core.
    """
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SqueezeExcitation):
                setattr(parent, name, NeighbourlessSqueeze(layer))
            elif isinstance(layer, nn.Linear):
                setattr(parent, name, NeighbourlessLinear(layer))
            elif isinstance(layer, nn.Conv2d) and type(parent) not in (FusedConv2d, SqueezeExcitation):
                setattr(parent, name, FusedConv2d(layer, _takes_silu(parent, name)))


def _takes_silu(parent: nn.Module, name: str) -> bool:
    """Is the convolution `name` of a Sequential followed by SiLU (behind a folded norm)? Then that becomes Identity."""
    if not isinstance(parent, nn.Sequential):
        return False
    following = list(parent._modules).index(name) + 1  # names need not be numbers
    while following < len(parent) and isinstance(parent[following], nn.Identity):
        following += 1
    if following == len(parent) or not isinstance(parent[following], nn.SiLU):
        return False
    parent[following] = nn.Identity()
    return True


class SmallSteps(nn.Sequential):
    """Layers that take a batch a few images at a time."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        step = max(1, PIXELS_AT_ONCE * torch.get_num_threads() // (input.shape[2] * input.shape[3]))
        return torch.cat([super(SmallSteps, self).forward(part) for part in input.split(step)])


def in_small_steps(features: nn.Sequential) -> nn.Sequential:
    """The same layers: those with large feature maps a few images at a time, those behind them on all at once.

    The first have large activations and few weights: they want to stay in the caches. The others have small ones and
    nearly all weights, which oneDNN brings into its own order in each call: they want many images to share that.
    """
    stride = 1
    for position, layer in enumerate(features):
        for module in layer.modules():
            stride *= module.conv.stride[0] if isinstance(module, FusedConv2d) else 1
        if stride >= LARGE_MAPS:
            return nn.Sequential(SmallSteps(*features[:position]), *features[position:])
    return features


class NeighbourlessLinear(nn.Module):
    """A linear layer whose result does not depend on an image's place in its batch, nor on the batch's size.

    A float32 matrix product, and even SiLU, rounds differently with the number of rows and a row's position. The
    linear layers and the squeeze are the only places of the tower where rows are images; they are small, so they are
    computed in float64, where the difference vanishes when the result is rounded.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        self.dtype = layer.weight.dtype
        self.weight = nn.Parameter(layer.weight.detach().flatten(1).double(), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().double(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.exact(x).to(self.dtype)

    def exact(self, x: torch.Tensor) -> torch.Tensor:
        """(N,C) -> (N,D) float64."""
        return F.linear(x.double(), self.weight, self.bias)


class NeighbourlessSqueeze(nn.Module):
    """Squeeze-and-excitation with the same property."""

    def __init__(self, layer: SqueezeExcitation) -> None:
        super().__init__()
        self.fc1, self.fc2 = NeighbourlessLinear(layer.fc1), NeighbourlessLinear(layer.fc2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = torch.sigmoid(self.fc2.exact(F.silu(self.fc1.exact(x.mean((2, 3))))))
        return x.mul_(scale.to(x.dtype)[:, :, None, None])  # in place: half the memory to write, and nobody else's


class FusedConv2d(nn.Module):
    """A frozen convolution with its activation; its weights lie as oneDNN wants them for the largest batch so far."""

    def __init__(self, conv: nn.Conv2d, silu: bool) -> None:
        super().__init__()
        padding: list[Any] = list(conv.padding)
        self._static_pad = getattr(conv, "static_pad", None)
        if self._static_pad is not None and conv.groups > 1:
            conv.weight, padding = _with_even_padding(conv.weight, self._static_pad)
            self._static_pad = None
        self.conv = conv
        stride, dilation = list(conv.stride), list(conv.dilation)
        self._geometry: tuple[Any, ...] = (padding, stride, dilation, conv.groups)
        self._activation: tuple[Any, ...] = ("swish" if silu else "none", [], "")
        self._packed: tuple[int, torch.Tensor] = (0, conv.weight)  # number of images, their weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._static_pad is not None:
            x = F.pad(x, self._static_pad)
        most, weight = self._packed
        if len(x) > most and not torch.compiler.is_compiling():  # which packs by itself, and cannot look into these
            weight = torch.ops.mkldnn._reorder_convolution_weight(self.conv.weight, *self._geometry, list(x.shape))
            self._packed = (len(x), weight)
        conv = torch.ops.mkldnn._convolution_pointwise
        return conv(x, weight, self.conv.bias, *self._geometry, *self._activation)


def _with_even_padding(weight: torch.Tensor, pad: tuple[int, int, int, int]) -> tuple[nn.Parameter, list[int]]:
    """The kernel with zeros before it, so that the same padding on all sides gives what `pad` gave, bit for bit.

    Padding by itself would copy the largest activation of the tower. A dense kernel (the stem's) costs more multiplied
    zeros than its small input costs to copy.
    """
    left, right, top, bottom = pad
    wider = F.pad(weight.detach(), (right - left, 0, bottom - top, 0))
    return nn.Parameter(wider.contiguous(memory_format=torch.channels_last), requires_grad=False), [bottom, right]
