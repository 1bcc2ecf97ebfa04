"""Exact search by inner product over embeddings that arrive in blocks: top-K, and ranks of the relevant ones.

There is never an N x Q matrix. A block of gallery rows is multiplied with all queries tile by tile; of each tile
only the entries that can still matter survive a threshold, and only these are looked at again.

**One answer, whatever the blocking.** A float32 matrix product gives other last bits for other block shapes, so it
serves as a sieve only: its entries are within `sgemm_error` of the true inner product, and everything within that
margin survives. Survivors get their score again as a float64 dot product of fixed order (of float32 inputs, so each
product is exact). Order is by that score, highest first, and then by id, lowest first; the ids are the rows'
positions in the manifest. So equal vectors tie exactly, and block size, partitioning, number of threads and device
change neither ids nor scores. A threshold is a float32 pass over a gigabyte; the survivors are a few hundred per query.

Leaves out: reading files (pipeline/aggregate.py), approximate search, and what the ranks mean (metrics/retrieval.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

TILE_ROWS = 4096  # gallery rows per product: with TILE_QUERIES 16 MiB of scores, which stay in cache
TILE_QUERIES = 1024
DEVICE_TILE_ROWS = 65_536  # a GPU wants larger products: 256 MiB of scores
RESCORE_ROWS = 1024  # pairs scored again at once: their float64 copies stay in cache


@dataclass(frozen=True)
class Survivors:
    """Entries of one block that passed the threshold, ordered by query within a tile."""

    query_S: Ints
    row_S: Ints  # row of the block
    score_S: Floats  # float32 sieve score


class Consumer(Protocol):
    """What looks at survivors: says which scores can matter to it, then takes them."""

    num_best: int  # when its threshold is not known yet, this many best rows of a tile are enough for it

    def thresholds(self) -> Floats:
        """Lowest true score per query, (Q,), that still matters; -inf: not known yet."""

    def take(self, found: Survivors, block: "Block") -> None:
        """Use the survivors; entries below the thresholds may be among them."""


@dataclass(frozen=True)
class Block:
    """Gallery rows with their ids, the queries, and how far the sieve may be off per query."""

    queries_QD: Floats
    rows_ND: Floats
    ids_N: Ints
    error_Q: Floats

    def rescore(self, query_S: Ints, row_S: Ints) -> Floats:
        """True scores of some pairs, float64."""
        return exact_scores(self.queries_QD, self.rows_ND, query_S, row_S)


def exact_scores(queries_QD: Floats, rows_ND: Floats, query_S: Ints, row_S: Ints) -> Floats:
    """Inner products of pairs (query_S[i], row_S[i]) in float64, summed in an order that depends on D alone.

    Returns (S,) float64; empty for no pairs.
    """
    out = np.empty(len(query_S))
    for i in range(0, len(out), RESCORE_ROWS):
        part = slice(i, i + RESCORE_ROWS)
        out[part] = np.vecdot(queries_QD[query_S[part]].astype(np.float64), rows_ND[row_S[part]].astype(np.float64))
    return out


def sgemm_error(dim: int) -> float:
    """How far a float32 inner product of unit vectors can be off, in whatever order it is summed.

    dim * u / (1 - dim * u) with u = 2**-24 (Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5); one
    more term because the threshold is itself rounded to float32.
    """
    u = (dim + 2) * 2.0**-24
    return u / (1 - u)


def checked(vectors: Floats, what: str) -> Floats:
    """Vectors as C-contiguous float32 (n, D). Raises ValueError on NaN, infinity or another shape; names the row."""
    out = np.ascontiguousarray(vectors, dtype=np.float32)
    if out.ndim != 2:
        raise ValueError(f"{what}: expected (rows, dim), found shape {out.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(np.vecdot(out, out)))
    if len(bad):
        raise ValueError(f"{what}: row {bad[0]} holds NaN or infinity ({len(bad)} such rows)")
    return out


class Sieve:
    """The matrix product and its threshold, on the CPU (NumPy's BLAS) or on a CUDA device (torch, TF32 off)."""

    def __init__(self, queries_QD: Floats, device: str | None = None) -> None:
        """`device`: None for NumPy, else a torch device such as "cuda"."""
        self.queries_QD = checked(queries_QD, "queries")
        self.norm_Q = np.sqrt(np.vecdot(self.queries_QD, self.queries_QD)).astype(np.float64)
        self._torch = _TorchProduct(self.queries_QD, device) if device is not None else None

    def scan(self, rows_ND: Floats, ids_N: Ints, consumers: Sequence[Consumer]) -> None:
        """Show a block of gallery rows, (N, D) with ids (N,), to the consumers. One product serves them all.

        Raises:
            ValueError: NaN or infinity among the rows, another D than the queries', or ids of another length.
        """
        rows_ND = checked(rows_ND, "gallery")
        if rows_ND.shape[1] != self.queries_QD.shape[1]:
            raise ValueError(f"gallery has {rows_ND.shape[1]} dimensions, queries {self.queries_QD.shape[1]}")
        if len(ids_N) != len(rows_ND):
            raise ValueError(f"{len(ids_N)} ids for {len(rows_ND)} rows")
        for part in self._row_tiles(len(rows_ND)):
            tile = rows_ND[part]
            largest = float(np.sqrt(np.vecdot(tile, tile).max()))
            error_Q = sgemm_error(tile.shape[1]) * self.norm_Q * largest
            block = Block(self.queries_QD, tile, np.asarray(ids_N[part], dtype=np.int64), error_Q)
            lowest_Q, num_best = np.full(len(self.queries_QD), np.inf), 0
            for consumer in consumers:
                wanted_Q = consumer.thresholds()
                if np.isneginf(wanted_Q).all():
                    num_best = max(num_best, consumer.num_best)
                else:
                    lowest_Q = np.minimum(lowest_Q, wanted_Q)
            for found in self._tiles(tile, (lowest_Q - error_Q).astype(np.float32), error_Q, num_best):
                for consumer in consumers:
                    consumer.take(found, block)

    def _row_tiles(self, num: int) -> Iterable[slice]:
        """The first tile is small on every device: before the first thresholds are known all of it survives."""
        start, step = 0, TILE_ROWS
        while start < num:
            yield slice(start, start + step)
            start, step = start + step, DEVICE_TILE_ROWS if self._torch else TILE_ROWS

    def _tiles(self, rows_BD: Floats, lowest_Q: Floats, error_Q: Floats, num_best: int) -> Iterable[Survivors]:
        """Survivors at or above `lowest_Q`, and those that can be among the tile's `num_best` best."""
        device_rows = self._torch.put(rows_BD) if self._torch else None
        for q in range(0, len(self.queries_QD), TILE_QUERIES):
            part = slice(q, q + TILE_QUERIES)
            lowest = lowest_Q[part, None]
            if self._torch is not None:
                everything = np.full_like(lowest, -np.inf) if num_best else lowest
                query_S, row_S, score_S = self._torch.above(part, device_rows, everything)
            else:
                scores_QB = self.queries_QD[part] @ rows_BD.T
                if num_best >= len(rows_BD):
                    lowest = np.full_like(lowest, -np.inf)
                elif num_best:
                    kth = np.partition(scores_QB, len(rows_BD) - num_best)[:, len(rows_BD) - num_best]
                    # these rows truly score at least kth - error, so a better one shows at least kth - 2 error
                    lowest = np.minimum(lowest, (kth - 2 * error_Q[part]).astype(np.float32)[:, None])
                # flatnonzero and divmod: several times quicker than nonzero on two dimensions
                flat_S = np.flatnonzero(scores_QB >= lowest)
                query_S, row_S = np.divmod(flat_S, len(rows_BD))
                score_S = scores_QB.ravel()[flat_S]
            yield Survivors(query_S + q, row_S, score_S)


class _TorchProduct:
    """The same product and threshold on a torch device; only survivors come back to the host."""

    def __init__(self, queries_QD: Floats, device: str) -> None:
        import torch  # only where a GPU does the product: NumPy needs no torch

        torch.set_float32_matmul_precision("highest")  # TF32 keeps 10 bits: far outside sgemm_error
        self.torch, self.device = torch, device
        self.queries_QD = torch.from_numpy(queries_QD).to(device)

    def put(self, rows_BD: Floats) -> Any:
        return self.torch.from_numpy(rows_BD).to(self.device)

    def above(self, part: slice, rows_BD: Any, lowest_Q1: Floats) -> tuple[Ints, Ints, Floats]:
        scores_QB = self.queries_QD[part] @ rows_BD.T
        mask = scores_QB >= self.torch.from_numpy(lowest_Q1).to(self.device)
        query_S, row_S = self.torch.nonzero(mask, as_tuple=True)
        return query_S.cpu().numpy(), row_S.cpu().numpy(), scores_QB[mask].cpu().numpy()


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
        self._score_P = np.asarray(score_P)[self._order]
        self._start_Q1 = np.searchsorted(self._query_P, np.arange(num_queries + 1))
        self._lowest_Q = np.full(num_queries, np.inf)
        has = self._start_Q1[1:] > self._start_Q1[:-1]
        self._lowest_Q[has] = self._score_P[self._start_Q1[:-1][has]]
        # counts[i]: gallery rows that come before pair i but not before pair i + 1 of the same query
        self.counts = np.zeros(len(self._query_P), dtype=np.int64)

    def thresholds(self) -> Floats:
        return self._lowest_Q

    def take(self, found: Survivors, block: Block) -> None:
        counts_Q = np.bincount(found.query_S)
        ends_Q = np.cumsum(counts_Q)
        for query in np.flatnonzero(counts_Q):
            start, end = ends_Q[query] - counts_Q[query], ends_Q[query]
            lo, hi = self._start_Q1[query], self._start_Q1[query + 1]
            if lo < hi:
                part = Survivors(found.query_S[start:end], found.row_S[start:end], found.score_S[start:end])
                self.counts[lo:hi] += self._count(part, block, slice(lo, hi), block.error_Q[query])

    def _count(self, found: Survivors, block: Block, pairs: slice, error: float) -> Ints:
        """Survivors of one query by the best relevant pair that they come before: (R,)."""
        score_R = self._score_P[pairs]
        num = len(score_R)
        sure_S = np.searchsorted(score_R + error, found.score_S.astype(np.float64), side="left")
        maybe_S = np.searchsorted(score_R - error, found.score_S.astype(np.float64), side="right")
        unsure = np.flatnonzero(sure_S != maybe_S)
        if len(unsure):
            sure_S[unsure] = self._beats(
                block.rescore(found.query_S[unsure], found.row_S[unsure]), block.ids_N[found.row_S[unsure]], pairs
            )
        return np.bincount(sure_S, minlength=num + 1)[1:]

    def _beats(self, score_S: Floats, id_S: Ints, pairs: slice) -> Ints:
        """How many of a query's pairs each row comes before, by true score and then by id."""
        score_R, id_R = self._score_P[pairs], self._ids_P[pairs]
        below_S = np.searchsorted(score_R, score_S, side="left")
        upto_S = np.searchsorted(score_R, score_S, side="right")
        for i in np.flatnonzero(below_S != upto_S):
            tied_ids = id_R[below_S[i] : upto_S[i]]  # downwards
            below_S[i] += np.count_nonzero(tied_ids > id_S[i])
        return below_S

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
