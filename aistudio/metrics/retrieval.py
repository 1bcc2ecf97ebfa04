"""Retrieval metrics from the exact ranks of the relevant gallery items.

Everything here is computed from ranks, never from scores: negative cosines are scores like any other, and ties have
been broken before by a stated rule. Per-query functions return (Q,) float64; a query without relevant items gets 0.0
and it is for the caller's policy to leave it out (`Relevant.num_Q` tells which). Leaves out: how ranks are found
(index.py), averages and their intervals (significance.py).

Definitions are those of trec_eval where it has the metric: precision@K divides by K even when the gallery is shorter,
map@K divides by the number of relevant items, ndcg has linear gains and a log2(rank + 1) discount.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Relevant:
    """Relevant items of all queries, ordered by query and rank: what every metric here takes. Made by `relevant`."""

    query_P: Ints
    rank_P: Ints  # from 1
    gain_P: Floats  # graded relevance, above 0
    num_queries: int

    @cached_property
    def num_Q(self) -> Ints:
        """Relevant items per query."""
        return np.bincount(self.query_P, minlength=self.num_queries).astype(np.int64)

    @cached_property
    def place_P(self) -> Ints:
        """1 for a query's best relevant item, 2 for its second, ..."""
        start_Q = np.cumsum(self.num_Q) - self.num_Q
        return np.arange(1, len(self.query_P) + 1) - start_Q[self.query_P]

    def sum(self, value_P: NDArray[Any]) -> Floats:
        """Sums per query, (Q,) float64."""
        return np.bincount(self.query_P, weights=value_P, minlength=self.num_queries).astype(np.float64)

    def mean(self, value_P: NDArray[Any]) -> Floats:
        """Sums divided by the number of relevant items; 0.0 where there are none."""
        return self.sum(value_P) / np.maximum(self.num_Q, 1)


def relevant(query_P: ArrayLike, rank_P: ArrayLike, num_queries: int, gain_P: ArrayLike | None = None) -> Relevant:
    """Relevant items in any order, made ready for the metrics.

    Args:
        query_P: index of the query, 0 .. num_queries - 1.
        rank_P: rank in the gallery, from 1; distinct within a query.
        num_queries: Q; queries that are not in `query_P` have no relevant items.
        gain_P: graded relevance, default 1. Items with a gain of 0 or less are not relevant and are dropped.

    Raises:
        ValueError: NaN gains, ranks below 1, two items of a query on one rank, or a query out of range.
    """
    query, rank = np.asarray(query_P, dtype=np.int64), np.asarray(rank_P)
    gain = np.ones(len(query)) if gain_P is None else np.asarray(gain_P, dtype=np.float64)
    if np.isnan(gain).any() or np.isnan(rank.astype(np.float64)).any():
        raise ValueError("relevant items: ranks and relevance must not be NaN")
    rank = rank.astype(np.int64)
    if len(query) and (query.min() < 0 or query.max() >= num_queries):
        raise ValueError(f"relevant items: query index outside 0..{num_queries - 1}")
    query, rank, gain = query[gain > 0], rank[gain > 0], gain[gain > 0]
    order = np.lexsort((rank, query))
    query, rank, gain = query[order], rank[order], gain[order]
    if (rank < 1).any():
        raise ValueError("relevant items: ranks start at 1")
    if ((query[1:] == query[:-1]) & (rank[1:] == rank[:-1])).any():
        raise ValueError("relevant items: two items of one query have the same rank")
    return Relevant(query, rank, gain, num_queries)


def ranks(score_N: ArrayLike) -> Ints:
    """Ranks from 1, (N,) int64: the highest score first, equal scores in the order given.

    Raises:
        ValueError: a score is NaN.
    """
    scores = np.asarray(score_N, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError(f"scores: {np.isnan(scores).sum()} of {len(scores)} are NaN and cannot be ranked")
    out = np.empty(len(scores), dtype=np.int64)
    out[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return out


def first_rank(items: Relevant) -> Floats:
    """Rank of the best relevant item, inf where there is none."""
    out = np.full(items.num_queries, np.inf)
    best = items.place_P == 1
    out[items.query_P[best]] = items.rank_P[best]
    return out


def hit_rate(items: Relevant, k: int) -> Floats:
    """1.0 when any relevant item is among the first K. The paper's recall@K; also rank-K identification (CMC)."""
    return (first_rank(items) <= _positive(k)).astype(np.float64)


def recall(items: Relevant, k: int) -> Floats:
    """Share of the relevant items that are among the first K."""
    return items.mean(items.rank_P <= _positive(k))


def precision(items: Relevant, k: int) -> Floats:
    """Share of the first K places that hold a relevant item."""
    return items.sum(items.rank_P <= _positive(k)) / k


def r_precision(items: Relevant) -> Floats:
    """Precision at R, the query's number of relevant items."""
    return items.mean(items.rank_P <= items.num_Q[items.query_P])


def reciprocal_rank(items: Relevant) -> Floats:
    """1 / rank of the best relevant item; its mean is MRR."""
    return 1.0 / first_rank(items)


def average_precision(items: Relevant, k: int | None = None) -> Floats:
    """Mean over the relevant items of the precision at their rank; beyond K (None: no limit) an item counts 0."""
    value_P = items.place_P / items.rank_P
    return items.mean(value_P if k is None else np.where(items.rank_P <= _positive(k), value_P, 0.0))


def ndcg(items: Relevant, k: int) -> Floats:
    """Discounted cumulated gain of the first K places over that of the best possible order.

    Järvelin and Kekäläinen (2002) with linear gains and discount 1 / log2(rank + 1).
    """
    _positive(k)
    got = items.sum(np.where(items.rank_P <= k, items.gain_P / np.log2(items.rank_P + 1), 0.0))
    best_first = np.lexsort((-items.gain_P, items.query_P))  # places stay: items are ordered by query already
    ideal = items.sum(np.where(items.place_P <= k, items.gain_P[best_first] / np.log2(items.place_P + 1), 0.0))
    return np.divide(got, ideal, out=np.zeros_like(got), where=ideal > 0)


def cmc(items: Relevant, max_rank: int) -> Floats:
    """Cumulative match curve over queries that have relevant items: (max_rank,) shares, NaN when there are none."""
    first = first_rank(items)[items.num_Q > 0]
    if not len(first):
        return np.full(_positive(max_rank), np.nan)
    counts = np.bincount(np.minimum(first, max_rank + 1).astype(np.int64), minlength=max_rank + 2)
    return np.cumsum(counts[1 : max_rank + 1]) / len(first)


def per_query(items: Relevant, ks: Sequence[int]) -> dict[str, Floats]:
    """Every metric that is a mean over queries, by the name it is reported under: (Q,) each."""
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


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"K must be 1 or more, found {k}")
    return k
