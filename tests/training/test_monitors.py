"""aistudio/training/monitors.py: warned once, at the right step, and not of what is healthy."""

import math

import pytest
import torch

from aistudio.training.monitors import CollapseWatch, MiningWatch, PosteriorWatch, active_units, vector_variance


@pytest.mark.parametrize(("margin", "stuck"), [(0.2, 0.2), (None, math.log(2))])
def test_collapse_is_a_loss_that_stays_at_the_margin(margin, stuck):
    watch = CollapseWatch(margin)
    said = [watch.update(stuck * 1.005) for _ in range(200)]
    assert [i for i, s in enumerate(said) if s] == [49] and "collapse" in said[49]
    healthy = CollapseWatch(margin)
    assert not any(healthy.update(stuck * (1 if i % 40 else 0.9)) for i in range(200))


def test_nothing_mined():
    watch = MiningWatch(patience=3)
    said = [watch.update(n, 4000.0) for n in (0, 0, 5, 0, 0, 0, 0)]
    assert [bool(s) for s in said] == [False] * 5 + [True, False]
    assert watch.skipped == 6 and "4e+03" in said[5]


def test_posterior_collapse_needs_a_flat_reconstruction():
    flat, falling, alive, warming = (PosteriorWatch(patience=10) for _ in range(4))
    said = [flat.update(0.01, 100.0, 1.0) for _ in range(20)]
    assert [i for i, s in enumerate(said) if s] == [9]
    assert not any(falling.update(0.01, 100.0 - i, 1.0) for i in range(50))
    assert not any(alive.update(5.0, 100.0, 1.0) for _ in range(50))
    assert not any(warming.update(0.01, 100.0, 0.0) for _ in range(50))


def test_variance_and_active_units():
    assert vector_variance(torch.ones(5, 3)) == 0
    assert vector_variance(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])) == 1
    means = torch.zeros(100, 4)
    means[:, 1] = torch.linspace(-1, 1, 100)
    means[:, 2] = torch.linspace(-0.1, 0.1, 100)
    assert active_units(means) == 1 and active_units(means[:1]) == 0
