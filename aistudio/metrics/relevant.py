"""The relevant gallery items of each query with their exact ranks: what every retrieval metric takes.

Ranks, never scores: negative cosines are scores like any other, and ties have been broken before by a stated rule.
Leaves out: the metrics (retrieval.py, average_precision.py) and how ranks are found (index/, ranking.py).
"""

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


@dataclass(frozen=True)
class RelevantInLists(Relevant):
    """Relevant items of lists that end before the gallery does: those beyond the end are counted, not ranked.

    Metrics at K are what they are with all ranks, for K up to the length of the lists; others are too low.
    """

    total_Q: Ints  # relevant items per query in the gallery, listed or not

    @cached_property
    def num_Q(self) -> Ints:
        """Relevant items per query, listed or not."""
        return self.total_Q

    @cached_property
    def place_P(self) -> Ints:
        """1 for a query's best relevant item, 2 for its second, ..."""
        listed_Q = np.bincount(self.query_P, minlength=self.num_queries)
        start_Q = np.cumsum(listed_Q) - listed_Q
        return np.arange(1, len(self.query_P) + 1) - start_Q[self.query_P]


def relevant_in_lists(right_QK: NDArray[np.bool_], total_Q: ArrayLike) -> RelevantInLists:
    """Make lists of K results ready for the metrics at K.

    >>> found = relevant_in_lists(np.array([[False, True]]), [4])
    >>> found.rank_P.tolist(), found.num_Q.tolist()
    ([2], [4])

    Args:
        right_QK: whether each place of a query's list holds a relevant item; False beyond the list's end.
        total_Q: relevant items of each query in the gallery.

    Raises:
        ValueError: a list holds more relevant items than there are.
    """
    total = np.asarray(total_Q, dtype=np.int64)
    if (right_QK.sum(axis=1) > total).any():
        raise ValueError("relevant items: a list holds more of them than the gallery")
    query, place = np.nonzero(right_QK)
    return RelevantInLists(query.astype(np.int64), place.astype(np.int64) + 1, np.ones(len(query)), len(total), total)


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


def without_ignored(
    query_P: ArrayLike, rank_P: ArrayLike, ignored_query_J: ArrayLike, ignored_rank_J: ArrayLike
) -> Ints:
    """Compute the ranks that rows have once the ignored rows are taken out of the rankings, (P,) int64.

    Ignored rows are neither relevant nor wrong: the query's own item, copies, the "hard" or "junk" grade of a data
    set. Places count after their removal, so each rank falls by the number of ignored rows above it.

    >>> without_ignored([0, 0, 1], [2, 5, 5], ignored_query_J=[0, 0], ignored_rank_J=[1, 3]).tolist()
    [1, 3, 5]

    Args:
        query_P, rank_P: query and rank (from 1, among all rows) of the rows that count.
        ignored_query_J, ignored_rank_J: the same of the ignored rows.

    Raises:
        ValueError: a row is at once counted and ignored.
    """
    query, rank = np.asarray(query_P, dtype=np.int64), np.asarray(rank_P, dtype=np.int64)
    ignored_query, ignored_rank = (np.asarray(x, dtype=np.int64) for x in (ignored_query_J, ignored_rank_J))
    span = int(max(rank.max(initial=0), ignored_rank.max(initial=0))) + 1
    ignored = np.sort(ignored_query * span + ignored_rank)  # by query, then by rank
    key = query * span + rank
    above = np.searchsorted(ignored, key)
    if len(ignored) and (ignored[np.minimum(above, len(ignored) - 1)] == key).any():
        raise ValueError("ignored rows: a row is both ignored and counted")
    return rank - (above - np.searchsorted(ignored, query * span))


def positive(k: int) -> int:
    """Return K. Raises ValueError where it is below 1."""
    if k < 1:
        raise ValueError(f"K must be 1 or more, found {k}")
    return k
