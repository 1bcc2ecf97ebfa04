"""aistudio/training/metric_losses.py: the library's losses by name equal the textbook's, wrong names are refused."""

import json
import sys
from pathlib import Path

import pytest
import torch

from aistudio.errors import ConfigError
from aistudio.training.metric_losses import LOSSES, MINERS, LossSettings, MetricLoss, class_numbers
from aistudio.training.triplets import TripletOptions, triplet_loss

pytest.importorskip("pytorch_metric_learning")
GOLDEN = Path(__file__).parents[3] / "shared" / "similar" / "golden" / "losses.json"


def batch(seed=0, n=16, d=6, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.arange(n) % classes


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("miner", [None, *MINERS])
def test_every_name_trains(name, miner):
    vectors, labels = batch()
    vectors.requires_grad_(True)
    found = MetricLoss(LossSettings(name, miner=miner), num_classes=4, dim=6)(vectors, labels)
    assert (found.num_mined is None) == (miner is None)
    if found.loss is not None:
        found.loss.backward()
        assert torch.isfinite(vectors.grad).all()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("nonzero", [True, False])
def test_triplets_are_the_textbooks(normalise, power, nonzero):
    vectors, labels = batch(1)
    settings = {"normalise": normalise, "power": power, "nonzero_mean": nonzero}
    for miner, mining in ((None, "all"), ("hard", "hard"), ("all_violating", "violating")):
        ours = triplet_loss(vectors, labels, TripletOptions(mining, 0.4, normalise, power == 2, nonzero)).loss
        library = MetricLoss(LossSettings("triplet", {"margin": 0.4}, miner, **settings), 4, 6)(vectors, labels)
        torch.testing.assert_close(library.loss, ours, rtol=1e-4, atol=1e-5)


def test_the_soft_margin():
    vectors, labels = batch(2)
    found = MetricLoss(LossSettings("triplet", {"soft": True}), 4, 6)(vectors, labels)
    torch.testing.assert_close(found.loss, triplet_loss(vectors, labels, TripletOptions("all", None)).loss)


def test_golden_losses():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}")
    t = json.loads(GOLDEN.read_text())["triplet"]
    x, labels = torch.tensor(t["embeddings"], dtype=torch.float64), torch.tensor(t["labels"])
    for key, want in t["expected"]["other"].items():
        name, options, nonzero = {
            "contrastive": ("contrastive", {"pos_margin": 0, "neg_margin": 1}, True),
            "NT-Xent": ("nt_xent", {"temperature": 0.07}, False),
            "SupCon": ("supcon", {"temperature": 0.1}, False),
            "MultiSimilarity": ("multi_similarity", {"alpha": 2, "beta": 50, "base": 0.5}, False),
        }[key.partition(",")[0]]
        found = MetricLoss(LossSettings(name, options, nonzero_mean=nonzero), 5, 6)(x, labels).loss
        assert found.item() == pytest.approx(want, abs=1e-6), key


def test_a_miner_that_finds_nothing_says_so():
    apart = torch.eye(4)[[0, 0, 1, 1]]  # positives equal, negatives far: nothing violates the margin
    found = MetricLoss(LossSettings("triplet", {"margin": 0.2}, "all_violating"), 2, 4)(
        apart, torch.tensor([0, 0, 1, 1])
    )
    assert found == (None, 0)


def test_the_miner_shares_the_losss_margin():
    model = MetricLoss(LossSettings("triplet", {"margin": 0.7}, "semihard"), 4, 6)
    assert model.miner.margin == 0.7 and model.loss.margin == 0.7
    apart = MetricLoss(LossSettings("triplet", {"margin": 0.7}, "semihard", {"margin": 0.1}), 4, 6)
    assert apart.miner.margin == 0.1


def test_proxies_are_parameters():
    model = MetricLoss(LossSettings("proxy_anchor", {"margin": 0.1, "alpha": 32}), 4, 6)
    assert [tuple(p.shape) for p in model.parameters()] == [(4, 6)]


def test_the_librarys_own_names_work_too():
    vectors, labels = batch()
    assert (
        MetricLoss(LossSettings("CircleLoss", {"m": 0.3}, "BatchEasyHardMiner"), 4, 6)(vectors, labels).loss is not None
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LossSettings("tripplet"), "did you mean triplet"),
        (LossSettings("BaseMetricLossFunction"), "not known"),
        (LossSettings("triplet", {"margn": 1}), "did you mean margin"),
        (LossSettings("triplet", miner="semi"), "miner 'semi' is not known; did you mean semihard"),
        (LossSettings("triplet", miner="semihard", miner_options={"x": 1}), "x is not one of its options"),
    ],
)
def test_wrong_names_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        MetricLoss(settings, 4, 6)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ConfigError, match=r"pip install 'aistudio-catalogue\[train\]'"):
        MetricLoss(LossSettings(), 4, 6)


def test_class_numbers_are_of_sorted_names():
    numbers, names = class_numbers(["b", "a", "b"])
    assert (numbers.tolist(), names) == ([1, 0, 1], ["a", "b"])
