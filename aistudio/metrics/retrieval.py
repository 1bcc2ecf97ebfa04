"""Retrieval metrics from the exact ranks of the relevant gallery items.

Everything here is computed from ranks, never from scores: negative cosines are scores like any other, and ties have
been broken before by a stated rule. Per-query functions return (Q,) float64; a query without relevant items gets 0.0
and it is for the caller's policy to leave it out (`Relevant.num_Q` tells which). Leaves out: how ranks are found
(index/, ranking.py), averages (protocols.py) and their intervals (significance.py).

Definitions are those of trec_eval where it has the metric: precision@K divides by K even when the gallery is shorter,
map@K divides by the number of relevant items, ndcg has linear gains and a log2(rank + 1) discount.
"""

from collections.abc import Sequence

import numpy as np

from aistudio.metrics.average_precision import (
    average_precision,
    average_precision_at_r,
    average_precision_capped,
    average_precision_found,
    average_precision_trapezoid,
)
from aistudio.metrics.relevant import Floats, Relevant, positive, ranks, relevant

__all__ = [
    "HITS_OVER",
    "Relevant",
    "average_precision",
    "average_precision_at_r",
    "average_precision_capped",
    "average_precision_found",
    "average_precision_trapezoid",
    "cmc",
    "first_rank",
    "hit_rate",
    "hits_over",
    "ndcg",
    "per_query",
    "per_query_similar",
    "precision",
    "precision_capped",
    "r_precision",
    "ranks",
    "recall",
    "reciprocal_rank",
    "relevant",
]

HITS_OVER = 20  # the fixed denominator of the jewellery project's "recall@k"


def first_rank(items: Relevant) -> Floats:
    """Return the rank of the best relevant item, inf where there is none.

    >>> first_rank(relevant([0, 0], [4, 2], num_queries=2)).tolist()
    [2.0, inf]
    """
    out = np.full(items.num_queries, np.inf)
    best = items.place_P == 1
    out[items.query_P[best]] = items.rank_P[best]
    return out


def hit_rate(items: Relevant, k: int) -> Floats:
    """Return 1.0 when any relevant item is among the first K. The paper's recall@K; rank-K identification (CMC).

    >>> hit_rate(relevant([0, 1], [2, 6], num_queries=2), k=5).tolist()
    [1.0, 0.0]
    """
    return (first_rank(items) <= positive(k)).astype(np.float64)


def recall(items: Relevant, k: int) -> Floats:
    """Return the share of the relevant items that are among the first K.

    >>> recall(relevant([0, 0], [2, 6], num_queries=1), k=5).tolist()
    [0.5]
    """
    return items.mean(items.rank_P <= positive(k))


def precision(items: Relevant, k: int) -> Floats:
    """Return the share of the first K places that hold a relevant item, also when the gallery is shorter than K.

    >>> precision(relevant([0, 0], [2, 6], num_queries=1), k=5).tolist()
    [0.2]
    """
    return items.sum(items.rank_P <= positive(k)) / k


def precision_capped(items: Relevant, k: int) -> Floats:
    """Divide the relevant items found among the first K by min(K, R): 1.0 is always possible.

    open-metric-learning's `precision@k`.

    >>> precision_capped(relevant([0, 0], [2, 6], num_queries=1), k=5).tolist()
    [0.5]
    """
    return items.sum(items.rank_P <= positive(k)) / np.maximum(np.minimum(items.num_Q, k), 1)


def hits_over(items: Relevant, k: int, over: int = HITS_OVER) -> Floats:
    """Divide the relevant items found among the first K by a fixed number, whatever K and R are.

    What the jewellery project plots as "recall@k", with 20; to be shown beside its tables only.

    >>> hits_over(relevant([0, 0], [2, 6], num_queries=1), k=5).tolist()
    [0.05]
    """
    return items.sum(items.rank_P <= positive(k)) / positive(over)


def r_precision(items: Relevant) -> Floats:
    """Return the precision at R, the query's number of relevant items.

    >>> r_precision(relevant([0, 0], [1, 3], num_queries=1)).tolist()
    [0.5]
    """
    return items.mean(items.rank_P <= items.num_Q[items.query_P])


def reciprocal_rank(items: Relevant) -> Floats:
    """Return 1 / rank of the best relevant item; its mean is MRR.

    >>> reciprocal_rank(relevant([0, 0], [4, 2], num_queries=1)).tolist()
    [0.5]
    """
    return 1.0 / first_rank(items)


def ndcg(items: Relevant, k: int) -> Floats:
    """Divide the discounted cumulated gain of the first K places by that of the best possible order.

    Järvelin and Kekäläinen (2002) with linear gains and discount 1 / log2(rank + 1).

    >>> ndcg(relevant([0], [3], num_queries=1), k=5).tolist()
    [0.5]
    """
    positive(k)
    got = items.sum(np.where(items.rank_P <= k, items.gain_P / np.log2(items.rank_P + 1), 0.0))
    best_first = np.lexsort((-items.gain_P, items.query_P))  # places stay: items are ordered by query already
    ideal = items.sum(np.where(items.place_P <= k, items.gain_P[best_first] / np.log2(items.place_P + 1), 0.0))
    return np.divide(got, ideal, out=np.zeros_like(got), where=ideal > 0)


def cmc(items: Relevant, max_rank: int) -> Floats:
    """Return the cumulative match curve over queries with relevant items: (max_rank,) shares, NaN when there are none.

    >>> cmc(relevant([0, 1], [1, 3], num_queries=2), max_rank=3).tolist()
    [0.5, 0.5, 1.0]
    """
    first = first_rank(items)[items.num_Q > 0]
    if not len(first):
        return np.full(positive(max_rank), np.nan)
    counts = np.bincount(np.minimum(first, max_rank + 1).astype(np.int64), minlength=max_rank + 2)
    return np.cumsum(counts[1 : max_rank + 1]) / len(first)


def per_query(items: Relevant, ks: Sequence[int]) -> dict[str, Floats]:
    """Compute what `aggregate` reports as means over queries, by the name it is reported under: (Q,) each."""
    out: dict[str, Floats] = {}
    at_k = {"hit_rate": hit_rate, "recall": recall, "precision": precision, "map": average_precision, "ndcg": ndcg}
    for name, metric in at_k.items():
        out |= {f"{name}@{k}": metric(items, k) for k in ks}
    out |= {f"cmc@{k}": out[f"hit_rate@{k}"] for k in ks}
    return out | {
        "r_precision": r_precision(items),
        "mrr": reciprocal_rank(items),
        "map": average_precision(items),
    }


def per_query_similar(items: Relevant, ks: Sequence[int]) -> dict[str, Floats]:
    """Compute every metric of similar-item search, by name: those of `per_query` and the other literature's, (Q,) each.

    >>> found = per_query_similar(relevant([0], [2], num_queries=1), [5])
    >>> {name: round(float(found[name][0]), 3) for name in ("map_capped@5", "map_trapezoid", "hits@5/20")}
    {'map_capped@5': 0.5, 'map_trapezoid': 0.25, 'hits@5/20': 0.05}
    """
    out = per_query(items, ks)
    at_k = {
        "precision_capped": precision_capped,
        "map_capped": average_precision_capped,
        "map_found": average_precision_found,
    }
    for name, metric in at_k.items():
        out |= {f"{name}@{k}": metric(items, k) for k in ks}
    out |= {f"hits@{k}/{HITS_OVER}": hits_over(items, k) for k in ks if k <= HITS_OVER}
    return out | {
        "map_at_r": average_precision_at_r(items),
        "map_trapezoid": average_precision_trapezoid(items),
    }
