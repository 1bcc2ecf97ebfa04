"""Have two samples the same distribution? Tests with the size of the difference, which a p-value does not tell."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_EXACT_UP_TO = 1000  # values of a sample; above, the asymptotic p-value is right to its third digit
_EXPECTED = 5.0  # rows that a cell should have at least, for the chi-square distribution to hold


class ValuesTest(NamedTuple):
    """Two samples of numbers.

    `distance` is Kolmogorov and Smirnov's D, the largest gap between the two cumulative shares: 0 equal, 1 apart.
    """

    n_a: int
    n_b: int
    median_a: float | None
    median_b: float | None
    distance: float | None
    p_value: float | None


class CountsTest(NamedTuple):
    """Two samples of categories. `cramers_v`: 0 the same shares, 1 no category in common."""

    chi_square: float | None
    p_value: float | None
    cramers_v: float | None


def compare_values(a_N: ArrayLike, b_M: ArrayLike) -> ValuesTest:
    """Test two samples (Kolmogorov and Smirnov, two-sided); NaN are left out, None stands where a sample is empty."""
    a, b = (x[~np.isnan(x)] for x in (np.asarray(a_N, np.float64), np.asarray(b_M, np.float64)))
    median_a, median_b = (float(np.median(x)) if len(x) else None for x in (a, b))
    if not len(a) or not len(b):
        return ValuesTest(len(a), len(b), median_a, median_b, None, None)
    found = stats.ks_2samp(a, b, method="exact" if max(len(a), len(b)) <= _EXACT_UP_TO else "asymp")
    return ValuesTest(len(a), len(b), median_a, median_b, float(found.statistic), float(found.pvalue))


def compare_counts(a_K: ArrayLike, b_K: ArrayLike) -> CountsTest:
    """Test whether K categories have the same shares in two samples of counts (Pearson's chi-square).

    Categories too rare for the test are taken together; two that stay and are rare are tested exactly (Fisher).
    """
    table = _pooled(np.stack([np.asarray(a_K, np.int64), np.asarray(b_K, np.int64)]))
    if not table.sum(axis=1).all():
        return CountsTest(None, None, None)
    if table.shape[1] < 2:
        return CountsTest(0.0, 1.0, 0.0)
    chi, p, _, expected = stats.chi2_contingency(table, correction=False)
    if table.shape[1] == 2 and expected.min() < _EXPECTED:
        p = stats.fisher_exact(table).pvalue
    return CountsTest(float(chi), float(p), float(np.sqrt(chi / table.sum())))


def _pooled(table_2K: NDArray[np.int64]) -> NDArray[np.int64]:
    """The table without empty categories, those that expect fewer than 5 rows in a sample taken together."""
    table = table_2K[:, table_2K.sum(axis=0) > 0]
    total = max(int(table.sum()), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / total
    rare = expected.min(axis=0) < _EXPECTED
    if rare.sum() < 2:
        return table
    return np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
