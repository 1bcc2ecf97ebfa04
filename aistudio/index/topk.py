"""The K best gallery rows of each query, kept while blocks stream by.

Leaves out: the product that finds candidates (sieve.py).
"""

from typing import Any

import numpy as np

from aistudio.index.product import Floats, Ints
from aistudio.index.sieve import Block, Sieve, Survivors

ROOM = 32  # places per query beside the K, at least: each time they are full costs a pass over the query's candidates


class TopK:
    """The K best gallery rows of each query. Feed it blocks by `update`, or share a `Sieve.scan`; `merge` joins parts.

    While a block is scanned, candidates are held with their float32 sieve scores; most of them fall to better ones of
    the same block. At its end those that can still be among the K best get their true scores, the K best stay.

    Memory: 20 bytes for each of 2 K (at least K + ROOM) candidates of a query, and one tile of scores per thread.
    """

    def __init__(self, k: int, queries_QD: Floats, sieve: Sieve | None = None) -> None:
        """`sieve`: one to share with other consumers; else an own one on the CPU is made when `update` is called."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, found {k}")
        self.k = self.num_best = k
        self._queries_QD: Floats | None = queries_QD
        self._sieve = sieve
        shape = (len(queries_QD), k + max(k, ROOM))
        # a query's candidates fill the first places of its row
        self._scores_QC = np.full(shape, -np.inf)
        self._ids_QC = np.full(shape, -1, dtype=np.int64)
        self._rows_QC = np.full(shape, -1, dtype=np.int32)  # of the block; -1: the score is the true one
        self._num_Q = np.zeros(len(queries_QD), dtype=np.int64)
        self._lowest_Q = np.full(len(queries_QD), -np.inf)

    def update(self, embeddings_ND: Floats, ids_N: Ints) -> None:
        """Add gallery rows, (N, D) with their ids (N,). Raises ValueError as `Sieve.scan` does."""
        if self._sieve is None:
            if self._queries_QD is None:
                raise ValueError("a TopK that was pickled can be merged and read, not updated")
            self._sieve = Sieve(self._queries_QD)
        self._sieve.scan(embeddings_ND, ids_N, [self])

    def __getstate__(self) -> dict[str, Any]:
        """The K best alone travel between processes, not the queries."""
        best = {name: getattr(self, name)[:, : self.k] for name in ("_scores_QC", "_ids_QC")}
        return self.__dict__ | best | {"_rows_QC": None, "_queries_QD": None, "_sieve": None}

    def thresholds(self, part: slice) -> Floats:
        return self._lowest_Q[part]

    def take(self, found: Survivors, part: slice, block: Block) -> None:
        query_S, row_S, score_S, new_Q = self._prune(found, part, block)
        if not len(query_S):
            return
        limit, queries = self._scores_QC.shape[1], np.arange(part.start, part.stop)
        if (self._num_Q[part] + new_Q > limit).any():
            self._keep_best(queries, block.error_Q)
            full = queries[self._num_Q[part] + new_Q > limit]
            if len(full):  # nearly equal scores: only the true ones tell
                self._resolve(full, block)
        self._append(query_S, part, new_Q, score_S, block.ids_N[row_S], row_S)
        if np.isneginf(self._lowest_Q[part]).any():
            self._keep_best(queries, block.error_Q)

    def finish(self, part: slice, block: Block) -> None:
        """True scores for all candidates, then the K best stay."""
        queries = np.arange(part.start, part.stop)
        self._keep_best(queries, block.error_Q)
        self._resolve(queries, block)

    def merge(self, other: "TopK") -> None:
        """Take over another part's candidates; the order of merging does not matter."""
        k = self.k
        scores = np.concatenate([self._scores_QC[:, :k], other._scores_QC[:, :k]], axis=1)
        ids = np.concatenate([self._ids_QC[:, :k], other._ids_QC[:, :k]], axis=1)
        self._scores_QC[:, :k], self._ids_QC[:, :k] = _best(scores, ids, k)
        self._num_Q = np.minimum(self._num_Q + other._num_Q, k)
        self._lowest_Q = self._scores_QC[:, k - 1].copy()

    def result(self) -> tuple[Floats, Ints]:
        """Scores (Q, K) float64 and ids (Q, K) int64, best first; -inf and -1 beyond the gallery's end."""
        return _best(self._scores_QC, self._ids_QC, self.k)

    def _prune(self, found: Survivors, part: slice, block: Block) -> tuple[Ints, Ints, Floats, Ints]:
        """Survivors that can be among the K best, and their number per query, which fits beside K others.

        The threshold again, then the tile's own K best.
        """
        lowest_Q = (self._lowest_Q[part] - block.error_Q[part]).astype(np.float32)
        keep_S = found.score_S >= lowest_Q[found.query_S - part.start]
        query_S, row_S, score_S = found.query_S[keep_S], found.row_S[keep_S], found.score_S[keep_S]
        new_Q = np.bincount(query_S - part.start, minlength=part.stop - part.start)
        room = self._scores_QC.shape[1] - self.k
        if not len(query_S) or new_Q.max() <= room:
            return query_S, row_S, score_S, new_Q
        keep_S, ends_Q = np.ones(len(query_S), dtype=bool), np.cumsum(new_Q)
        for query in np.flatnonzero(new_Q > room):
            own = slice(ends_Q[query] - new_Q[query], ends_Q[query])
            place = new_Q[query] - self.k
            kth = np.partition(score_S[own], place)[place]
            near = np.flatnonzero(score_S[own] >= np.float32(kth - 2 * block.error_Q[part][query]))
            if len(near) > room:
                true = block.rescore(query_S[own][near], row_S[own][near])
                near = near[np.lexsort((block.ids_N[row_S[own][near]], -true))[: self.k]]
            keep_S[own] = False
            keep_S[own.start + near] = True
            new_Q[query] = len(near)
        return query_S[keep_S], row_S[keep_S], score_S[keep_S], new_Q

    def _append(self, query_S: Ints, part: slice, new_Q: Ints, score_S: Floats, id_S: Ints, row_S: Ints) -> None:
        """Entries ordered by query go behind those that the queries of the part have."""
        first_Q = self._num_Q[part] - np.cumsum(new_Q) + new_Q
        place_S = first_Q[query_S - part.start] + np.arange(len(query_S))
        self._scores_QC[query_S, place_S] = score_S
        self._ids_QC[query_S, place_S] = id_S
        self._rows_QC[query_S, place_S] = row_S
        self._num_Q[part] += new_Q

    def _keep_best(self, queries: Ints, error_Q: Floats) -> None:
        """Drop candidates that are surely not among the K best; thresholds rise."""
        num_Q = self._num_Q[queries]
        over = queries[(num_Q > self.k) | ((num_Q == self.k) & np.isneginf(self._lowest_Q[queries]))]
        scores = self._scores_QC[over]
        place = scores.shape[1] - self.k
        kth = np.partition(scores, place, axis=1)[:, place] if len(over) else np.empty(0)
        self._lowest_Q[over] = np.maximum(self._lowest_Q[over], kth - error_Q[over])
        # the K best truly score at least kth - error, what scores less than kth - 2 error truly scores less than that
        keep = scores >= (kth - 2 * error_Q[over])[:, None]
        kept_Q = keep.sum(axis=1)
        query_S, from_S = np.nonzero(keep)
        to_S = np.arange(len(query_S)) - np.repeat(np.cumsum(kept_Q) - kept_Q, kept_Q)
        columns: tuple[tuple[Any, float], ...] = ((self._scores_QC, -np.inf), (self._ids_QC, -1), (self._rows_QC, -1))
        for column, nothing in columns:
            packed = np.full(scores.shape, nothing, dtype=column.dtype)
            packed[query_S, to_S] = column[over[query_S], from_S]
            column[over] = packed
        self._num_Q[over] = kept_Q

    def _resolve(self, queries: Ints, block: Block) -> None:
        """True scores for the candidates of some queries, of which the K best stay."""
        query_S, place_S = np.nonzero(self._rows_QC[queries] >= 0)
        query_S = queries[query_S]
        self._scores_QC[query_S, place_S] = block.rescore(query_S, self._rows_QC[query_S, place_S].astype(np.int64))
        self._rows_QC[queries] = -1
        self._keep_best(queries, np.zeros(len(self._num_Q)))
        tied = queries[self._num_Q[queries] > self.k]
        best = _best(self._scores_QC[tied], self._ids_QC[tied], self.k)
        self._scores_QC[tied], self._ids_QC[tied] = -np.inf, -1
        self._scores_QC[tied, : self.k], self._ids_QC[tied, : self.k] = best
        self._num_Q[tied] = self.k


def _best(scores_QC: Floats, ids_QC: Ints, k: int) -> tuple[Floats, Ints]:
    """The K best of each query in order: true scores downwards, then ids upwards."""
    order = np.lexsort((ids_QC, -scores_QC), axis=-1)[:, :k]
    return np.take_along_axis(scores_QC, order, axis=1), np.take_along_axis(ids_QC, order, axis=1)
