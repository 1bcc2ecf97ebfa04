"""What a random order of the gallery would give, exactly: the level below which a model has learnt nothing.

Every value is the expectation over all N! orders of a gallery of N rows of which R are relevant. With rel(j) the
relevance of place j and P(j) the precision of the first j: E[rel(j)] = R / N, and
E[P(j) | rel(j)] = (1 + (j - 1)(R - 1)/(N - 1)) / j. The number found among the first K is hypergeometric.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import hypergeom

from aistudio.metrics.relevant import Floats, positive
from aistudio.metrics.retrieval import HITS_OVER


def chance_levels(num_relevant_Q: ArrayLike, num_gallery_Q: ArrayLike, ks: Sequence[int]) -> dict[str, Floats]:
    """Compute the expected value of every metric under a random order, by the metric's name, (Q,) float64 each.

    >>> found = chance_levels([1], [4], [2])
    >>> float(found["hit_rate@2"][0]), round(float(found["map"][0]), 4)
    (0.5, 0.5208)

    Args:
        num_relevant_Q: relevant rows of each query, R; 0 gives 0 everywhere.
        num_gallery_Q: rows that count for each query, N, after the removal of what does not.

    Raises:
        ValueError: more relevant rows than rows.
    """
    pairs = np.stack(np.broadcast_arrays(np.asarray(num_relevant_Q), np.asarray(num_gallery_Q)), axis=-1)
    pairs = pairs.reshape(-1, 2).astype(np.int64)
    if (pairs[:, 0] > pairs[:, 1]).any() or (pairs < 0).any():
        raise ValueError("chance levels: a query has more relevant rows than its gallery has rows")
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    found = [_levels(int(r), int(n), ks) for r, n in distinct]
    names = _levels(0, 0, ks)
    return {name: np.array([f[name] for f in found], np.float64)[which.reshape(-1)] for name in names}


def chance_at_k(name: str, num_relevant_Q: ArrayLike, num_gallery_Q: ArrayLike, k: int) -> Floats:
    """Compute the expected value of one metric at K under a random order: (Q,) float64.

    >>> chance_at_k("recall", [1, 2], [4, 4], 2).tolist()
    [0.5, 0.5]

    Args:
        name: hit_rate, cmc, recall, precision, precision_capped, map, map_capped, map_found or ndcg.
        num_relevant_Q, num_gallery_Q: as in `chance_levels`.
    """
    pairs = np.stack([np.asarray(num_relevant_Q), np.asarray(num_gallery_Q)], axis=-1).astype(np.int64)
    distinct, which = np.unique(pairs, axis=0, return_inverse=True)
    found = np.array([_AT_K[name](int(r), int(n), positive(k)) for r, n in distinct], np.float64)
    return found[which.reshape(-1)]


def chance_map(num_relevant: int, num_gallery: int) -> float:
    """Return the expected average precision of a random order: (1/N) sum over j of ((R-1)(j-1)/(N-1) + 1) / j.

    >>> round(chance_map(1, 4), 4)
    0.5208
    """
    return float(_precision_given_hit(num_relevant, num_gallery).sum() / num_gallery) if num_relevant else 0.0


def _levels(r: int, n: int, ks: Sequence[int]) -> dict[str, float]:
    at_k = {f"{name}@{k}": level(r, n, positive(k)) for name, level in _AT_K.items() for k in ks}
    at_k |= {f"hits@{k}/{HITS_OVER}": _expected_found(r, n, k) / HITS_OVER for k in ks if k <= HITS_OVER}
    if r == 0:
        return dict.fromkeys([*at_k, "map", "map_at_r", "map_trapezoid", "mrr", "r_precision"], 0.0)
    given_hit = _precision_given_hit(r, n)
    before = np.full(n, (r - 1) / max(n - 1, 1))  # of the places before a hit, the expected share that are hits, too
    before[0] = 1.0
    places = np.arange(1, n + 1)
    return at_k | {
        "map": given_hit.sum() / n,
        "map_at_r": given_hit[:r].sum() / n,
        "map_trapezoid": (before + given_hit).sum() / 2 / n,
        "mrr": float((_first_at(r, n) / places).sum()),
        "r_precision": r / n,
    }


def _precision_given_hit(r: int, n: int, k: int | None = None) -> Floats:
    """E[P(j) | rel(j)] for j = 1 .. n, or the first k of them."""
    j = np.arange(1, (n if k is None else min(n, k)) + 1)
    return (1 + (j - 1) * (r - 1) / max(n - 1, 1)) / j


def _first_at(r: int, n: int) -> Floats:
    """Probability that the best relevant row stands at place j, for j = 1 .. n."""
    none_before: Floats = hypergeom.pmf(0, n, r, np.arange(0, n + 1))
    return none_before[:-1] - none_before[1:]


def _expected_found(r: int, n: int, k: int) -> float:
    return r * min(k, n) / n if n else 0.0


def _hit_rate(r: int, n: int, k: int) -> float:
    return float(1 - hypergeom.pmf(0, n, r, min(k, n))) if r else 0.0


def _map(r: int, n: int, k: int) -> float:
    return float(_precision_given_hit(r, n, k).sum() / n) if r else 0.0


def _map_found(r: int, n: int, k: int) -> float:
    """Given how many of the first K are relevant, their places are a random order of those K."""
    k = min(k, n)
    counts = np.arange(1, min(r, k) + 1)
    return float(sum(hypergeom.pmf(m, n, r, k) * chance_map(int(m), k) for m in counts))


def _ndcg(r: int, n: int, k: int) -> float:
    if not r:
        return 0.0
    discounts = 1 / np.log2(np.arange(2, n + 2))
    return float(r / n * discounts[:k].sum() / discounts[: min(r, k)].sum())


_AT_K: dict[str, Callable[[int, int, int], float]] = {
    "hit_rate": _hit_rate,
    "cmc": _hit_rate,
    "recall": lambda r, n, k: min(k, n) / n if r else 0.0,
    "precision": lambda r, n, k: _expected_found(r, n, k) / k,
    "precision_capped": lambda r, n, k: _expected_found(r, n, k) / max(min(k, r), 1),
    "map": _map,
    "map_capped": lambda r, n, k: _map(r, n, k) * r / min(r, k) if r else 0.0,
    "map_found": _map_found,
    "ndcg": _ndcg,
}
