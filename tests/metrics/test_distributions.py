"""Tests of two samples against what is known of them: equal, apart, moved, rare categories."""

import numpy as np
import pytest
from scipy import stats

from aistudio.metrics.distributions import compare_counts, compare_values

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("n", [40, 3000])
def test_the_distance_is_the_largest_gap_of_the_cumulative_shares(n):
    a, b = RNG.normal(size=n), RNG.normal(0.6, 1.3, size=n + 7)
    found = compare_values([*a, np.nan], b)
    grid = np.concatenate([a, b])
    gap = max(abs((a <= x).mean() - (b <= x).mean()) for x in grid)
    assert found.distance == pytest.approx(gap, abs=1e-12) and found.n_a == n and found.n_b == n + 7
    assert found.p_value < 0.05 and found.median_a == pytest.approx(np.median(a))


def test_equal_and_empty_samples():
    a = RNG.normal(size=500)
    same = compare_values(a, a)
    assert same.distance == 0 and same.p_value == pytest.approx(1)
    apart = compare_values([1.0, 2.0], [3.0, 4.0])
    assert apart.distance == 1 and apart.p_value == pytest.approx(1 / 3)  # 2 of the 6 orders are as extreme
    empty = compare_values([], [1.0, np.nan])
    assert (empty.n_a, empty.n_b, empty.median_a, empty.distance, empty.p_value) == (0, 1, None, None, None)


def test_chance_is_called_chance_as_often_as_it_should():
    p = [compare_values(RNG.normal(size=60), RNG.normal(size=80)).p_value for _ in range(400)]
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.09
    shares = [0.9, 0.06, 0.04]
    draws = [RNG.multinomial(400, shares, size=2) for _ in range(400)]
    p = [compare_counts(a, b).p_value for a, b in draws]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_counts():
    found = compare_counts([900, 100], [600, 400])
    assert found.cramers_v == pytest.approx(abs(stats.contingency.association([[900, 100], [600, 400]])))
    assert found.p_value < 1e-40
    assert compare_counts([10, 0], [0, 10]).cramers_v == pytest.approx(1)
    assert compare_counts([7, 0], [9, 0]) == (0.0, 1.0, 0.0)  # one category alone
    assert compare_counts([], []).p_value is None and compare_counts([0, 0], [3, 4]).p_value is None


def test_rare_categories_are_taken_together():
    many = compare_counts([1000, 1, 0, 1, 0, 1, 0], [1000, 0, 1, 0, 1, 0, 1])
    assert many.p_value == pytest.approx(1.0)  # six rows of failures in 2,000 say nothing, whatever their names
    few = compare_counts([20, 0], [18, 2])
    assert few.p_value == pytest.approx(stats.fisher_exact([[20, 0], [18, 2]]).pvalue)
