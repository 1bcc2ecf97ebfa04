"""aistudio/metrics/significance.py: seeds, coverage of known answers, scipy's permutation test."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from aistudio.metrics import significance as s


def test_bootstrap_is_seeded_and_brackets_the_mean():
    values = np.random.default_rng(0).random((300, 3))
    values[:, 2] = values[:, 0]
    first, again = (s.bootstrap_means(values, 500, 0.95, seed=1) for _ in range(2))
    assert first == again
    assert s.bootstrap_means(values, 500, 0.95, seed=2) != first
    assert first[0][:3] == pytest.approx(first[2][:3]), "the same resamples for every column"
    for interval, column in zip(first, values.T, strict=True):
        assert interval.value == pytest.approx(column.mean()) and interval.n == 300
        half = 1.96 * column.std() / math.sqrt(300)
        assert interval.low == pytest.approx(column.mean() - half, abs=half / 4)
        assert interval.high == pytest.approx(column.mean() + half, abs=half / 4)


def test_blocks_do_not_change_the_interval(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = s.bootstrap_means(values, 64, 0.9, seed=0)
    monkeypatch.setattr(s, "BLOCK_VALUES", 50 * 7)
    for a, b in zip(whole, s.bootstrap_means(values, 64, 0.9, seed=0), strict=True):
        assert a[:3] == pytest.approx(b[:3], abs=1e-12)


def test_bootstrap_edges():
    assert s.bootstrap_means(np.empty((0, 2)), 10, 0.95, 0) == [s.Interval(None, None, None, 0)] * 2
    assert s.bootstrap_means([[0.5], [1.0]], 0, 0.95, 0) == [s.Interval(0.75, None, None, 2)]
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        s.bootstrap_means([[0.5], [math.nan]], 10, 0.95, 0)


def test_bootstrap_of_a_statistic():
    values = np.random.default_rng(3).normal(5, 1, 200)
    found = s.bootstrap(lambda w: float(w @ values / w.sum()), 200, 400, 0.95, 0)
    assert found.low < found.value < found.high and found.n == 200
    assert s.bootstrap(lambda w: math.nan, 5, 10, 0.95, 0) == s.Interval(None, None, None, 5)
    assert s.bootstrap(lambda w: 1.0, 0, 10, 0.95, 0) == s.Interval(None, None, None, 0)
    only_whole = s.bootstrap(lambda w: 2.0 if (w == 1).all() else math.nan, 9, 20, 0.95, 0)
    assert only_whole == s.Interval(2.0, None, None, 9)


def test_resample_counts_draw_n_each():
    counts = s.resample_counts(np.random.default_rng(0), 7, 11)
    assert counts.shape == (7, 11) and (counts.sum(axis=1) == 11).all()


@pytest.mark.parametrize("seed", range(30))
def test_weighted_median_is_the_median_of_repetitions(seed):
    rng = np.random.default_rng(seed)
    values, counts = rng.integers(1, 9, 6).astype(float), rng.integers(0, 4, 6)
    counts[0] += 1
    assert s.weighted_median(values, counts.astype(float)) == np.median(np.repeat(values, counts))


@pytest.mark.parametrize("seed", range(20))
def test_exact_randomisation_equals_scipy_and_its_naive_twin(seed):
    rng = np.random.default_rng(seed)
    d = np.round(rng.normal(0.2, 1, int(rng.integers(1, 11))), 1)
    sums = [
        abs(sum(a * b for a, b in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=len(d))
    ]
    want = np.mean([x >= abs(d.sum()) - 1e-9 for x in sums])
    assert s.randomisation_test(d) == pytest.approx(want, abs=1e-12)
    theirs = stats.permutation_test(
        (d, np.zeros_like(d)), lambda a, b, axis: np.abs((a - b).mean(axis=axis)), permutation_type="samples",
        alternative="greater", n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    assert s.randomisation_test(d) == pytest.approx(theirs.pvalue, abs=1e-9)


def test_sampled_randomisation_is_near_the_exact_one():
    rng = np.random.default_rng(5)
    d = rng.normal(0.35, 1, 13)
    exact = s.randomisation_test(d, samples=2**13)
    sampled = s.randomisation_test(d, samples=8000, seed=1)
    assert sampled == pytest.approx(exact, abs=0.02)
    assert sampled == s.randomisation_test(d, samples=8000, seed=1)


def test_randomisation_edges():
    assert s.randomisation_test([]) == 1.0
    assert s.randomisation_test([0.0, 0.0]) == 1.0
    assert s.randomisation_test(np.ones(2000), samples=99) == pytest.approx(1 / 100)
    with pytest.raises(ValueError, match="1 differences are NaN"):
        s.randomisation_test([1.0, math.nan])


def test_holm():
    # Holm (1979) by hand: 0.01*4, then max with 0.02*3, 0.03*2, 0.5*1
    assert s.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert s.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert s.holm([]).shape == (0,)
