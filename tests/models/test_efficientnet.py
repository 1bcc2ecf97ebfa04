"""Static padding and key names of the image tower."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from aistudio.models._efficientnet import BATCH_NORM_EPS, ImageArch, build_image_tower, published_prefixes, same_padding


@pytest.fixture(scope="module")
def b3() -> nn.Module:
    with torch.device("meta"):
        return build_image_tower(ImageArch())


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "want"),
    [
        (300, 3, 2, (0, 1)),
        (150, 3, 2, (0, 1)),
        (75, 5, 2, (2, 2)),
        (38, 3, 2, (0, 1)),
        (19, 5, 2, (2, 2)),
        (224, 5, 2, (1, 2)),
        (7, 3, 1, (1, 1)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, want: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == want


def test_b3_pads_its_strided_convolutions_as_at_300_pixels(b3: nn.Module) -> None:
    pads = {
        name: getattr(conv, "static_pad", None) or (conv.padding[0],) * 4
        for name, conv in b3.named_modules()
        if isinstance(conv, nn.Conv2d) and conv.stride[0] == 2
    }
    right_and_bottom, around = (0, 1, 0, 1), (2, 2, 2, 2)
    assert pads == {
        "features.0.0": right_and_bottom,
        "features.2.0.block.1.0": right_and_bottom,
        "features.3.0.block.1.0": around,
        "features.4.0.block.1.0": right_and_bottom,
        "features.6.0.block.1.0": around,
    }
    assert {m.eps for m in b3.modules() if isinstance(m, nn.BatchNorm2d)} == {BATCH_NORM_EPS}


def test_names_equal_the_published_map(b3: nn.Module, golden_dir: Path) -> None:
    want = json.loads((golden_dir / "effnet_name_map.json").read_text())
    prefixes = published_prefixes(b3)
    got = {}
    for key in b3.state_dict():
        module, _, tensor = key.rpartition(".")
        got[f"{prefixes[module]}.{tensor}"] = key
    assert got == want


def test_gradients_reach_the_first_convolution() -> None:
    net = build_image_tower(ImageArch(width_mult=0.25, depth_mult=0.3, dim=4))
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    assert net.features[0][0].weight.grad.abs().sum() > 0
