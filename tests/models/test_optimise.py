"""Folding and fusing change an image tower by rounding only."""

import copy

import pytest
import torch
from torch import nn

from aistudio.models import _optimise
from aistudio.models._bert import TextArch, build_text_tower
from aistudio.models._efficientnet import ImageArch, StaticPadConv2d, build_image_tower
from aistudio.models._optimise import (
    FusedConv2d,
    NeighbourlessSqueeze,
    OneDnnLinear,
    SmallSteps,
    fold_batch_norm,
    one_dnn_available,
    ready_tower,
    ready_transformer,
)
from tests.models import tiny_golden


@pytest.fixture
def tower() -> nn.Module:
    torch.manual_seed(0)
    net = build_image_tower(ImageArch.model_validate(tiny_golden.ARCH["image"])).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
    return net


def difference(a: nn.Module, b: nn.Module) -> float:
    x = torch.randn(3, 3, 40, 40)
    with torch.inference_mode():
        want = a(x)
        return float((b(x) - want).abs().max() / want.abs().max())


def test_folding_removes_every_norm_and_keeps_the_padding(tower: nn.Module) -> None:
    folded = copy.deepcopy(tower)
    fold_batch_norm(folded)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert sum(isinstance(m, StaticPadConv2d) for m in folded.modules()) > 0
    assert difference(tower, folded) < 1e-5


@pytest.mark.skipif(not one_dnn_available(), reason="this torch has no oneDNN")
def test_fused_tower_is_the_same_function(tower: nn.Module) -> None:
    ready = ready_tower(copy.deepcopy(tower), torch.device("cpu"), torch.float32, optimize=True)
    convolutions = sum(isinstance(m, nn.Conv2d) for m in tower.modules())
    squeezes = sum(isinstance(m, NeighbourlessSqueeze) for m in ready.modules())
    assert squeezes > 0
    assert sum(isinstance(m, FusedConv2d) for m in ready.modules()) + 2 * squeezes == convolutions
    assert difference(tower, ready) < 1e-5


@pytest.mark.skipif(not one_dnn_available(), reason="this torch has no oneDNN")
def test_an_image_gets_the_same_numbers_wherever_it_stands(tower: nn.Module) -> None:
    ready = ready_tower(copy.deepcopy(tower), torch.device("cpu"), torch.float32, optimize=True)
    x = torch.randn(5, 3, 40, 40).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        together = ready(x)
        for i in range(len(x)):
            assert torch.equal(ready(x[i : i + 1])[0], together[i])
        assert torch.equal(ready(x.roll(2, 0).contiguous(memory_format=torch.channels_last)).roll(-2, 0), together)


@pytest.mark.skipif(not one_dnn_available(), reason="this torch has no oneDNN")
def test_small_steps_change_no_bit(tower: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = ready_tower(copy.deepcopy(tower), torch.device("cpu"), torch.float32, optimize=True)
    x = torch.randn(5, 3, 40, 40).to(memory_format=torch.channels_last)
    seen = []
    steps = next(m for m in ready.modules() if isinstance(m, SmallSteps))
    steps[0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with torch.inference_mode():
        together = ready(x)
        monkeypatch.setattr(_optimise, "PIXELS_AT_ONCE", 2 * 40 * 40)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        assert torch.equal(ready(x), together)
    assert seen == [5, 2, 2, 1]


@pytest.mark.skipif(not one_dnn_available(), reason="this torch has no oneDNN")
def test_packed_weights_change_no_bit_and_are_left_to_a_compiler(
    tower: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_tower(copy.deepcopy(tower), torch.device("cpu"), torch.float32, optimize=True)
    convolutions = [m for m in ready.modules() if isinstance(m, FusedConv2d)]
    x = torch.randn(5, 3, 40, 40).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            plain = ready(x)
            assert {m._packed[0] for m in convolutions} == {0}
        ready(x[:1])
        assert {m._packed[0] for m in convolutions} == {1}
        assert torch.equal(ready(x), plain)
        assert torch.equal(ready(x[:2]), plain[:2])
    assert {m._packed[0] for m in convolutions} == {5}


def test_tower_stays_as_it_is_without_optimisation(tower: nn.Module) -> None:
    plain = ready_tower(copy.deepcopy(tower), torch.device("cpu"), torch.float32, optimize=False)
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    assert difference(tower, plain) < 1e-5


@pytest.mark.skipif(not one_dnn_available(), reason="this torch has no oneDNN")
def test_a_transformer_with_faster_products_is_the_same_function() -> None:
    torch.manual_seed(0)
    plain = build_text_tower(TextArch(hidden=64, layers=2, heads=4, intermediate=128, vocab_size=500)).eval()
    ready = ready_transformer(copy.deepcopy(plain), torch.device("cpu"), torch.float32, optimize=True)
    linear = sum(isinstance(m, nn.Linear) for m in plain.modules())
    assert sum(isinstance(m, OneDnnLinear) for m in ready.modules()) == linear > 0
    ids = torch.randint(1, 500, (5, 12))
    mask = torch.ones_like(ids)
    mask[2:, 7:] = 0
    with torch.inference_mode():
        want = plain(ids, mask)
        assert (ready(ids, mask) - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize(("dtype", "optimize"), [(torch.bfloat16, True), (torch.float32, False)])
def test_products_stay_torchs_own_in_low_precision_or_when_told_so(dtype: torch.dtype, optimize: bool) -> None:
    tower = build_text_tower(TextArch(hidden=64, layers=1, heads=4, intermediate=128, vocab_size=500))
    ready = ready_transformer(tower, torch.device("cpu"), dtype, optimize)
    assert not any(isinstance(m, OneDnnLinear) for m in ready.modules())
