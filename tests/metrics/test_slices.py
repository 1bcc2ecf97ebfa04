"""aistudio/metrics/slices.py: every unit in one group, small ones pooled, numbers into quantiles."""

import math

import numpy as np
import pytest

from aistudio.metrics.slices import groups, quantile_edges


def test_names_missing_and_small():
    found = groups(["hat", "coat", None, "hat", "coat", "bag", math.nan, True], 2)
    assert {k: v.tolist() for k, v in found.items()} == {
        "hat": [0, 3],
        "coat": [1, 4],
        "(missing)": [2, 6],
        "(small slices)": [5, 7],
    }
    assert groups([], 5) == {}


def test_numbers_become_quartiles():
    found = groups([float(i) for i in range(100)] + [None], 1)
    assert [len(v) for k, v in found.items() if k != "(missing)"] == [25, 25, 25, 25]
    assert next(iter(found)) == "0 to below 24.75" and "74.25 to 99" in found


def test_few_distinct_numbers_keep_their_names():
    assert set(groups([1, 2, 2, 1, 3], 1)) == {"1", "2", "3"}


@pytest.mark.parametrize("seed", range(20))
def test_every_unit_is_in_one_group(seed):
    rng = np.random.default_rng(seed)
    numbers = [None if rng.random() < 0.1 else float(x) for x in np.round(rng.exponential(2, 80), 1)]
    found = groups(numbers, int(rng.integers(1, 30)))
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(80))


def test_edges_of_a_constant_column():
    assert quantile_edges([3.0, 3.0]).tolist() == [3.0]
    assert set(groups([3.0] * 20, 1)) == {"3.0"}
