"""The K best gallery rows of each query, kept while blocks stream by.

Leaves out: the product that finds candidates (sieve.py).
"""

from typing import Any

import numpy as np

from aistudio.index.product import TILE_ROWS, Floats, Ints
from aistudio.index.sieve import Block, Sieve, Survivors


class TopK:
    """The K best gallery rows of each query. Feed it blocks by `update`, or share a `Sieve.scan`; `merge` joins parts.

    Memory: Q * K scores and ids, as many buffered candidates again, and one tile of scores.
    """

    def __init__(self, k: int, queries_QD: Floats, sieve: Sieve | None = None) -> None:
        """`sieve`: one to share with other consumers; else an own one on the CPU is made when `update` is called."""
        if k < 1:
            raise ValueError(f"k must be 1 or more, found {k}")
        self.k = self.num_best = k
        self._queries_QD: Floats | None = queries_QD
        self._sieve = sieve
        num = len(queries_QD)
        self._scores_QK = np.full((num, k), -np.inf)
        self._ids_QK = np.full((num, k), -1, dtype=np.int64)
        self._parts: list[tuple[Ints, Ints, Floats]] = []  # query, id, true score: not yet merged
        self._num_buffered = 0

    def update(self, embeddings_ND: Floats, ids_N: Ints) -> None:
        """Add gallery rows, (N, D) with their ids (N,). Raises ValueError as `Sieve.scan` does."""
        if self._sieve is None:
            if self._queries_QD is None:
                raise ValueError("a TopK that was pickled can be merged and read, not updated")
            self._sieve = Sieve(self._queries_QD)
        self._sieve.scan(embeddings_ND, ids_N, [self])

    def __getstate__(self) -> dict[str, Any]:
        """Candidates alone travel between processes, not the queries."""
        self._compact_if(0)
        return self.__dict__ | {"_queries_QD": None, "_sieve": None}

    def thresholds(self) -> Floats:
        self._compact_if(len(self._scores_QK) * min(self.k, TILE_ROWS))
        return self._scores_QK[:, -1]

    def take(self, found: Survivors, block: Block) -> None:
        self._compact_if(len(self._scores_QK) * min(self.k, TILE_ROWS))
        query_S, row_S = self._prune(found, block)
        if len(query_S):
            self._add(query_S, block.ids_N[row_S], block.rescore(query_S, row_S))

    def merge(self, other: "TopK") -> None:
        """Take over another part's candidates; the order of merging does not matter."""
        other._compact_if(0)
        query_S, place_S = np.nonzero(other._ids_QK >= 0)
        self._add(query_S, other._ids_QK[query_S, place_S], other._scores_QK[query_S, place_S])
        self._compact_if(0)

    def result(self) -> tuple[Floats, Ints]:
        """Scores (Q, K) float64 and ids (Q, K) int64, best first; -inf and -1 beyond the gallery's end."""
        self._compact_if(0)
        return self._scores_QK, self._ids_QK

    def _prune(self, found: Survivors, block: Block) -> tuple[Ints, Ints]:
        """Survivors that can be among the K best: the threshold again, then the tile's own K best per query."""
        kth_Q = self._scores_QK[:, -1]
        keep_S = found.score_S >= (kth_Q - block.error_Q).astype(np.float32)[found.query_S]
        query_S, row_S, score_S = found.query_S[keep_S], found.row_S[keep_S], found.score_S[keep_S]
        counts_Q = np.bincount(query_S)
        if not len(query_S) or counts_Q.max() <= 2 * self.k:
            return query_S, row_S
        keep_S = np.ones(len(query_S), dtype=bool)
        ends_Q = np.cumsum(counts_Q)
        for query in np.flatnonzero(counts_Q > 2 * self.k):
            own = slice(ends_Q[query] - counts_Q[query], ends_Q[query])
            place = counts_Q[query] - self.k
            kth = np.partition(score_S[own], place)[place]
            keep_S[own] = score_S[own] >= np.float32(kth - 2 * block.error_Q[query])
        return query_S[keep_S], row_S[keep_S]

    def _add(self, query_S: Ints, id_S: Ints, score_S: Floats) -> None:
        self._parts.append((query_S, id_S, score_S))
        self._num_buffered += len(query_S)

    def _compact_if(self, at_least: int) -> None:
        if not self._parts or self._num_buffered < at_least:
            return
        held_q, held_k = np.nonzero(self._ids_QK >= 0)
        self._parts.append((held_q, self._ids_QK[held_q, held_k], self._scores_QK[held_q, held_k]))
        query_S, id_S, score_S = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((id_S, -score_S, query_S))
        query_S = query_S[order]
        first_Q = np.searchsorted(query_S, np.arange(len(self._scores_QK)))
        place_S = np.arange(len(query_S)) - first_Q[query_S]
        best = place_S < self.k
        self._scores_QK[query_S[best], place_S[best]] = score_S[order][best]
        self._ids_QK[query_S[best], place_S[best]] = id_S[order][best]
        self._parts, self._num_buffered = [], 0
