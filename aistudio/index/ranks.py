"""Exact ranks of given gallery rows, by counting the rows that come before them.

Leaves out: the product that finds candidates (sieve.py) and the rows' own scores, which a first pass has found.
"""

from collections.abc import Iterator

import numpy as np

from aistudio.index.product import Floats, Ints
from aistudio.index.sieve import Block, Survivors

UNSURE_AT_ONCE = 4_000_000  # comparisons of unsure survivors with pairs: 100 MB


class RankCounter:
    """Exact ranks of given (query, gallery row) pairs: one plus the number of gallery rows that come before.

    The pairs' own scores come from a first pass (`exact_scores`); this is the second. Only scores at or above a
    query's lowest relevant score are looked at, so a good model makes it cheap. Memory: a few numbers per pair.
    """

    num_best = 1  # its thresholds are always known

    def __init__(self, num_queries: int, query_P: Ints, id_P: Ints, score_P: Floats) -> None:
        """Pairs in any order: query index, gallery id, true score. A query may have none."""
        # within a query from the worst to the best: score upwards, id downwards
        self._order = np.lexsort((-np.asarray(id_P), score_P, query_P))
        self._query_P = np.asarray(query_P)[self._order]
        self._ids_P = np.asarray(id_P)[self._order]
        self._score_P = np.asarray(score_P, dtype=np.float64)[self._order]
        self._start_Q1 = np.searchsorted(self._query_P, np.arange(num_queries + 1))
        self._lowest_Q = np.full(num_queries, np.inf)
        has = self._start_Q1[1:] > self._start_Q1[:-1]
        self._lowest_Q[has] = self._score_P[self._start_Q1[:-1][has]]
        # counts[i]: gallery rows that come before pair i but not before pair i + 1 of the same query
        self.counts = np.zeros(len(self._query_P), dtype=np.int64)

    def thresholds(self, part: slice) -> Floats:
        return self._lowest_Q[part]

    def finish(self, part: slice, block: Block) -> None:
        """Nothing of a block is kept."""

    def take(self, found: Survivors, part: slice, block: Block) -> None:
        sure_S, maybe_S = self._places(found, block)
        unsure = np.flatnonzero(sure_S != maybe_S)
        if len(unsure):
            sure_S[unsure] += self._beaten(found, unsure, sure_S[unsure], maybe_S[unsure], block)
        # a row that comes before no pair of its query ends where the query's pairs start
        place_S = sure_S[sure_S > self._start_Q1[found.query_S]] - 1
        if len(place_S):
            first = place_S.min()
            counts = np.bincount(place_S - first)
            self.counts[first : first + len(counts)] += counts

    def _places(self, found: Survivors, block: Block) -> tuple[Ints, Ints]:
        """For each survivor, return its certain place and its possible place among the sorted pairs, as pair indices.

        One search over the pairs of all queries: query and score make one key, which is a little wider apart from
        query to query than any two scores. What the key's rounding may do is added to the sieve's error.
        """
        first, last = found.query_S[0], found.query_S[-1]  # ordered by query
        pairs = slice(self._start_Q1[first], self._start_Q1[last + 1])
        score_P, query_P = self._score_P[pairs], self._query_P[pairs]
        if not len(score_P):
            return self._start_Q1[found.query_S], self._start_Q1[found.query_S]
        pad = 1.0 + 2 * float(block.error_Q[first : last + 1].max())
        low, high = score_P.min() - pad, score_P.max() + pad
        width = high - low + 2 * pad
        base_P = (query_P - first) * width + score_P
        key_S = (found.query_S - first) * width + np.clip(found.score_S.astype(np.float64), low, high)
        rounding = 4 * np.finfo(np.float64).eps * (last - first + 1) * (width + abs(low) + abs(high))
        error_P = block.error_Q[query_P] + rounding
        sure_S = np.searchsorted(base_P + error_P, key_S, side="left")
        maybe_S = np.searchsorted(base_P - error_P, key_S, side="right")
        return sure_S + pairs.start, maybe_S + pairs.start

    def _beaten(self, found: Survivors, unsure: Ints, sure_U: Ints, maybe_U: Ints, block: Block) -> Ints:
        """How many of the pairs sure_U[i] .. maybe_U[i] each unsure survivor comes before: true scores, then ids."""
        beaten_U = np.zeros(len(unsure), dtype=np.int64)
        for part in _parts(maybe_U - sure_U):
            rows = unsure[part]
            score = block.rescore(found.query_S[rows], found.row_S[rows])
            num = maybe_U[part] - sure_U[part]
            owner = np.repeat(np.arange(len(rows)), num)
            pair = np.repeat(maybe_U[part] - np.cumsum(num), num) + np.arange(num.sum())
            tied = (score[owner] == self._score_P[pair]) & (block.ids_N[found.row_S[rows]][owner] < self._ids_P[pair])
            before = (score[owner] > self._score_P[pair]) | tied
            beaten_U[part] = np.bincount(owner[before], minlength=len(rows))
        return beaten_U

    def add(self, counts: Ints) -> None:
        """Add the `counts` of another part, made from the same pairs."""
        self.counts += counts

    def ranks(self) -> Ints:
        """(P,) int64 from 1, in the order in which the pairs were given. 1 everywhere when nothing was scanned."""
        # a row that comes before the best pair comes before all others of the query too: sums from the best down
        total = np.cumsum(self.counts[::-1])[::-1]
        after = np.append(total, 0)[self._start_Q1[1:]]
        ranks = np.empty(len(total), dtype=np.int64)
        ranks[self._order] = 1 + total - after[self._query_P] if len(total) else total
        return ranks


def _parts(num_U: Ints) -> Iterator[slice]:
    """Consecutive survivors together, so that their comparisons stay within UNSURE_AT_ONCE (or are of one survivor)."""
    upto = np.cumsum(num_U)
    start = 0
    while start < len(num_U):
        done = upto[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(upto, done + UNSURE_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop
