"""One strength per system from many comparisons: Bradley-Terry from pairs, Plackett-Luce from whole rankings.

P(i before j) = s_i / (s_i + s_j); a ranking is drawn by choosing the best of all, then the best of the rest, and so on
(Luce 1959, Plackett 1975). Both are one likelihood, of orders of two or more systems, maximised in log strengths with
mean 0. Where some systems never lose to some others there is no finite maximum (Ford 1957): half an answer is then
added to each side of each pair, and the result says so.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from aistudio.metrics.preference import Names
from aistudio.metrics.rank_answers import RankBlocks
from aistudio.metrics.relevant import Floats
from aistudio.metrics.significance import resample_counts

PSEUDO_COUNT = 0.5
CONFIDENCE = 0.95
MAX_TIED = 5  # systems in one ranking whose ties are resolved in every way: 120 orders


@dataclass(frozen=True)
class Strengths:
    """Log strengths with mean 0, by system. pseudo_count: what was added to each side of each pair; 0 mostly."""

    log_strength: dict[str, float]
    pseudo_count: float
    low: dict[str, float] | None = None
    high: dict[str, float] | None = None


class Orders(NamedTuple):
    """W distinct orders of systems, best first, as indices, and how often each was given."""

    orders: list[tuple[int, ...]]
    weight_W: Floats


def bradley_terry(wins_SS: ArrayLike, systems: Sequence[str]) -> Strengths:
    """Fit Bradley and Terry's model to a table of wins, row over column; ties count half to each side.

    >>> found = bradley_terry([[0, 3], [1, 0]], ["a", "b"])
    >>> {name: round(value, 3) for name, value in found.log_strength.items()}
    {'a': 0.549, 'b': -0.549}
    """
    wins = np.asarray(wins_SS, dtype=np.float64)
    pairs: list[tuple[int, ...]] = [(i, j) for i, j in itertools.permutations(range(len(systems)), 2) if wins[i, j] > 0]
    return _fitted(Orders(pairs, np.array([wins[i, j] for i, j in pairs])), systems)


def plackett_luce(blocks: RankBlocks) -> Strengths:
    """Fit Plackett and Luce's model to whole rankings; a tie counts as all orders of its systems, in equal parts.

    >>> one = np.array(["x"] * 4)
    >>> ranks = np.array([[1, 2, 3], [1, 2, 3], [2, 1, 3], [3, 2, 1.0]])
    >>> found = plackett_luce(RankBlocks(("a", "b", "c"), one, one, one, ranks))
    >>> found.pseudo_count, round(sum(found.log_strength.values()), 6)
    (0.0, 0.0)

    Raises:
        ValueError: ties among more than five systems.
    """
    return _fitted(_orders_of(blocks.rank_BS), blocks.systems)


def wins_table(blocks: RankBlocks) -> Floats:
    """Count how often the row's system is ranked better than the column's; ties half to each, (S, S) float64.

    >>> one = np.array(["x"])
    >>> wins_table(RankBlocks(("a", "b"), one, one, one, np.array([[1.0, 2.0]]))).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    ranks = blocks.rank_BS
    better = (ranks[:, :, None] < ranks[:, None, :]).sum(axis=0)
    alike = (ranks[:, :, None] == ranks[:, None, :]).sum(axis=0) / 2
    return np.asarray(better + alike - np.diag(np.diag(alike)))


def with_intervals(
    fit: Callable[[RankBlocks], Strengths], blocks: RankBlocks, cluster_B: Names, samples: int = 500, seed: int = 0
) -> Strengths:
    """Add 95 % intervals by resampling whole clusters (respondents or questions) with replacement.

    Returns:
        The fit, without intervals where there are fewer than two clusters or no samples are asked for.
    """
    found = fit(blocks)
    names, which = np.unique(cluster_B, return_inverse=True)
    if len(names) < 2 or samples < 1:
        return found
    drawn = []
    for counts in resample_counts(np.random.default_rng(seed), samples, len(names)):
        repeated = np.repeat(np.arange(len(which)), counts[which].astype(int))
        again = fit(blocks.where(repeated))
        drawn.append([again.log_strength[s] for s in blocks.systems])
    low, high = np.quantile(np.array(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    bounds = (dict(zip(blocks.systems, side.tolist(), strict=True)) for side in (low, high))
    return Strengths(found.log_strength, found.pseudo_count, *bounds)


def _orders_of(rank_BS: Floats) -> Orders:
    weight: dict[tuple[int, ...], float] = {}
    distinct, counts = np.unique(rank_BS, axis=0, return_counts=True)
    for ranks, count in zip(distinct, counts.tolist(), strict=True):
        tied = [[int(i) for i in np.flatnonzero(ranks == r)] for r in np.unique(ranks)]
        if max(map(len, tied)) > MAX_TIED:
            raise ValueError(f"a ranking ties {max(map(len, tied))} systems; expected at most {MAX_TIED}")
        ways = math.prod(math.factorial(len(t)) for t in tied)
        for parts in itertools.product(*(itertools.permutations(t) for t in tied)):
            order = tuple(itertools.chain.from_iterable(parts))
            weight[order] = weight.get(order, 0.0) + count / ways
    return Orders(list(weight), np.array(list(weight.values())))


def _fitted(given: Orders, systems: Sequence[str]) -> Strengths:
    s, pseudo = len(systems), 0.0
    if s > 1 and not _comparable(given, s):
        pseudo = PSEUDO_COUNT
        pairs = list(itertools.permutations(range(s), 2))
        given = Orders([*given.orders, *pairs], np.concatenate([given.weight_W, np.full(len(pairs), pseudo)]))
    log_strength = _maximum(given, s) if s else np.empty(0)
    return Strengths(dict(zip(systems, log_strength.tolist(), strict=True)), pseudo)


def _comparable(given: Orders, s: int) -> bool:
    """Ford's condition: however systems are split in two, each side beats the other somewhere."""
    beats = np.zeros((s, s))
    for order in given.orders:
        for i, j in itertools.pairwise(order):
            beats[i, j] = 1
    return bool(connected_components(csr_matrix(beats), connection="strong")[0] == 1)


def _maximum(given: Orders, s: int) -> Floats:
    """Log strengths of highest likelihood. The function is concave; the mean of the result is taken off."""
    chosen, open_, weight = _choices(given, s)

    def minus_log_likelihood(x: Floats) -> tuple[float, Floats]:
        exponent = np.where(open_, x, -np.inf)
        top = exponent.max(axis=1, keepdims=True)
        share = np.exp(exponent - top)
        total = share.sum(axis=1, keepdims=True)
        value = weight @ (np.log(total[:, 0]) + top[:, 0] - x[chosen])
        slope = weight @ (share / total)
        return float(value), slope - np.bincount(chosen, weights=weight, minlength=s)

    found = minimize(minus_log_likelihood, np.zeros(s), jac=True, method="BFGS", options={"gtol": 1e-11})
    return np.asarray(found.x - found.x.mean())


def _choices(given: Orders, s: int) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Each order as choices of one system among those not yet placed: chosen (C,), open (C, S) bool, weight (C,)."""
    chosen, still_open, weight = [], [], []
    for order, times in zip(given.orders, (given.weight_W / given.weight_W.sum()).tolist(), strict=True):
        for place in range(len(order) - 1):  # the last one is no choice
            chosen.append(order[place])
            still_open.append(np.isin(np.arange(s), order[place:]))
            weight.append(times)
    if not chosen:
        return np.zeros(0, np.int64), np.zeros((0, s), bool), np.zeros(0)
    return np.array(chosen), np.array(still_open), np.array(weight)
