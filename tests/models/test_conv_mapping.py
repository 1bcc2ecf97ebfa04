"""rho_conv of ComposeAE and RealSpaceConcatAE against arithmetic by hand, where every window's maximum is negative.

A ReLU between convolution and max pooling changes nothing as long as each window holds a positive number, as it does
with the published weights: only here it would be seen.
"""

import math

import numpy as np
import pytest
import torch

from aistudio.models import compose_ae, real_space_concat_ae


def by_hand(x, conv, norm, first, second, pooled):
    """(channels, length) -> (dim,): convolution, max over windows, batch norm, ReLU, linear, ReLU, linear."""
    weight, bias = (p.detach().double().numpy() for p in (conv.weight, conv.bias))
    length = x.shape[1]
    padded = np.pad(x, ((0, 0), (1, 1)))
    convolved = np.array(
        [[(weight[o] * padded[:, i : i + 3]).sum() + bias[o] for i in range(length)] for o in range(len(weight))]
    )
    windows = [(i * length // pooled, math.ceil((i + 1) * length / pooled)) for i in range(pooled)]
    highest = np.array([[row[a:b].max() for a, b in windows] for row in convolved])
    flat = highest.ravel()  # channel by channel
    mean, var = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
    value = (flat - mean) / np.sqrt(var + 1e-5)
    for linear in (first, second):
        value = linear.weight.detach().double().numpy() @ np.maximum(value, 0) + linear.bias.detach().double().numpy()
    return value, highest


@pytest.mark.parametrize(
    ("module", "conv", "channels", "length"),
    [
        (lambda: compose_ae.ConvMapping(40), "conv", 5, 40),
        (lambda: real_space_concat_ae.ConvMapping(40), "conv1", 1, 70),  # windows of unequal length, overlapping
    ],
)
def test_nothing_stands_between_convolution_and_max_pooling(module, conv, channels, length):
    torch.manual_seed(0)
    mapping = module().eval()
    convolution = getattr(mapping, conv)
    norm, _, first, _, second = mapping.mapping
    with torch.no_grad():
        convolution.bias.fill_(-9.0)
        norm.running_mean.uniform_(-10, -8)  # so that the next ReLU lets some of them through
        norm.running_var.uniform_(0.5, 1.5)
        x = torch.randn(2, channels, length)
        found = mapping(*x.unbind(1)) if channels > 1 else mapping(x[:, 0])
    for row, result in zip(x.double().numpy(), found.numpy(), strict=True):
        wanted, highest = by_hand(row, convolution, norm, first, second, mapping.mapping[0].num_features // 64)
        assert highest.max() < 0
        np.testing.assert_allclose(result, wanted, atol=2e-6)
        clipped, _ = by_hand(np.zeros_like(row), _silent(convolution), norm, first, second, norm.num_features // 64)
        assert not np.allclose(result, clipped, atol=1e-3)  # what a ReLU there would have given


def _silent(conv):
    silent = torch.nn.Conv1d(conv.in_channels, conv.out_channels, 3, padding=1)
    with torch.no_grad():
        silent.weight.zero_()
        silent.bias.zero_()
    return silent
