"""How sure a number is: bootstrap intervals, a paired randomisation test, Holm's correction.

Units (queries, pairs) are resampled, never single images: images of one query are not independent. All randomness
comes from a seed. Leaves out: which metrics there are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
BLOCK_VALUES = 8_000_000  # resampled units held at once: 64 MB
WORK_VALUES = 200_000_000  # limit of samples x units of a statistic that is not a mean
MIN_SAMPLES = 100


class Interval(NamedTuple):
    """A value with its percentile bootstrap interval and the number of units it stands on.

    All None but n where the value is not defined; low and high are None where no resampling was asked for.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int


def bootstrap_means(value_NM: ArrayLike, samples: int, confidence: float, seed: int) -> list[Interval]:
    """Means of M columns over N units, all from the same resamples (so that columns can be compared).

    Args:
        value_NM: (N, M) without NaN.
        samples: number of resamples; 0: values without intervals.
        confidence: e.g. 0.95.

    Raises:
        ValueError: NaN among the values.
    """
    values = np.asarray(value_NM, dtype=np.float64)
    n, num_columns = values.shape
    if np.isnan(values).any():
        raise ValueError(f"bootstrap: {np.isnan(values).sum()} of {values.size} values are NaN")
    if n == 0:
        return [Interval(None, None, None, 0)] * num_columns
    means = values.mean(axis=0)
    if samples == 0:
        return [Interval(float(m), None, None, n) for m in means]
    rng = np.random.default_rng(seed)
    drawn = np.empty((samples, num_columns))
    block = max(1, BLOCK_VALUES // n)
    for start in range(0, samples, block):
        size = min(block, samples - start)
        drawn[start : start + size] = resample_counts(rng, size, n) @ values / n
    low, high = np.quantile(drawn, _tails(confidence), axis=0)
    return [Interval(float(m), float(a), float(b), n) for m, a, b in zip(means, low, high, strict=True)]


def bootstrap_class_means(
    value_NM: ArrayLike, class_N: ArrayLike, samples: int, confidence: float, seed: int
) -> list[Interval]:
    """Means of class means (macro) of M columns over N units, with the intervals of resampled units.

    A class that a resample lacks is left out of it. With very many units fewer resamples are drawn (at least 100).

    >>> bootstrap_class_means([[1.0], [0.0], [0.5]], ["a", "b", "b"], 0, 0.95, 0)[0].value
    0.625

    Args:
        value_NM: (N, M) without NaN.
        class_N: class of each unit.
    """
    values, label = np.asarray(value_NM, dtype=np.float64), np.asarray(class_N)
    n, num_columns = values.shape
    if n == 0:
        return [Interval(None, None, None, 0)] * num_columns
    order = np.argsort(label, kind="stable")
    values = values[order]
    starts = np.unique(label[order], return_index=True)[1]
    means = [np.mean([part.mean() for part in np.split(column, starts[1:])]) for column in values.T]
    if samples == 0:
        return [Interval(float(m), None, None, n) for m in means]
    samples = min(samples, max(MIN_SAMPLES, WORK_VALUES // (n * max(num_columns, 1))))
    drawn, rng = np.empty((samples, num_columns)), np.random.default_rng(seed)
    size = max(1, BLOCK_VALUES // n)
    for start in range(0, samples, size):
        weights = resample_counts(rng, min(size, samples - start), n)
        in_class = np.add.reduceat(weights, starts, axis=1)
        for m, column in enumerate(values.T):
            share = np.add.reduceat(weights * column, starts, axis=1) / np.maximum(in_class, 1)
            drawn[start : start + len(weights), m] = share.sum(axis=1) / (in_class > 0).sum(axis=1)
    low, high = np.quantile(drawn, _tails(confidence), axis=0)
    return [Interval(float(m), float(a), float(b), n) for m, a, b in zip(means, low, high, strict=True)]


def bootstrap(statistic: Callable[[Floats], float], n: int, samples: int, confidence: float, seed: int) -> Interval:
    """Interval of a statistic that is not a mean. `statistic` takes the weight of each unit, (n,), and may return NaN.

    With very many units fewer resamples are drawn (at least 100), because each costs a pass over all units.
    """
    value = statistic(np.ones(n)) if n else float("nan")
    if np.isnan(value):
        return Interval(None, None, None, n)
    if samples == 0:
        return Interval(float(value), None, None, n)
    samples = min(samples, max(MIN_SAMPLES, WORK_VALUES // n))
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(resample_counts(rng, 1, n)[0]) for _ in range(samples)])
    drawn = drawn[~np.isnan(drawn)]  # a resample of one class only says nothing
    if not len(drawn):
        return Interval(float(value), None, None, n)
    low, high = np.quantile(drawn, _tails(confidence))
    return Interval(float(value), float(low), float(high), n)


def resample_counts(rng: np.random.Generator, samples: int, n: int) -> Floats:
    """How often each of n units is drawn, with replacement, in each sample: (samples, n) float64."""
    drawn = rng.integers(0, n, size=(samples, n))
    drawn += np.arange(samples)[:, None] * n
    return np.bincount(drawn.ravel(), minlength=samples * n).reshape(samples, n).astype(np.float64)


def weighted_median(value_N: Floats, weight_N: Floats) -> float:
    """Median of values with whole-number weights: the mean of the two middle ones where their number is even."""
    order = np.argsort(value_N, kind="stable")
    upto = np.cumsum(weight_N[order])
    lower = np.searchsorted(upto, upto[-1] / 2, side="left")
    upper = np.searchsorted(upto, upto[-1] / 2, side="right")
    return float((value_N[order[lower]] + value_N[order[min(upper, len(order) - 1)]]) / 2)


def randomisation_test(difference_N: ArrayLike, samples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of "the mean difference is zero", by flipping the signs of paired differences at random.

    Up to 2^N <= samples all sign patterns are gone through: the p-value is then exact. Else it is
    (extreme + 1) / (samples + 1) (Phipson and Smyth 2010), never 0. 1.0 when no
    difference is other than zero.

    Raises:
        ValueError: NaN among the differences.
    """
    differences = np.asarray(difference_N, dtype=np.float64)
    if np.isnan(differences).any():
        raise ValueError(f"randomisation test: {np.isnan(differences).sum()} differences are NaN")
    moving = np.abs(differences[differences != 0])  # a zero difference stays zero under any sign
    n = len(moving)
    if n == 0:
        return 1.0
    observed = abs(differences.sum())
    slack = 1e-12 * moving.sum()  # sums of the same numbers in other orders differ in their last bits
    if n < 63 and 2**n <= samples:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2.0 * patterns - 1) @ moving) >= observed - slack))
    rng = np.random.default_rng(seed)
    extreme, block = 0, max(1, BLOCK_VALUES // n)
    for start in range(0, samples, block):
        signs = 2.0 * rng.integers(0, 2, size=(min(block, samples - start), n), dtype=np.int8) - 1
        extreme += int(np.count_nonzero(np.abs(signs @ moving) >= observed - slack))
    return (extreme + 1) / (samples + 1)


def holm(p_M: ArrayLike) -> Floats:
    """p-values corrected for M tests (Holm 1979), in the order given: (M,), none above 1."""
    p = np.asarray(p_M, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1.0)
    return out


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
