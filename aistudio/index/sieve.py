"""The matrix product of gallery tiles with all queries, and the threshold that few entries pass.

On the CPU each thread takes a tile of its own, product and threshold, with BLAS on one thread: the passes over the
scores then run beside the next product instead of between two of them. On a CUDA device torch does both.
Leaves out: a tile's arithmetic (product.py) and what is done with the survivors (topk.py, ranks.py).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aistudio.index import product
from aistudio.index.product import LOWEST, Floats, Ints

RESCORE_ROWS = 1024  # pairs scored again at once: their float64 copies stay in cache

_NO_PAIRS = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Survivors:
    """Entries of one tile that passed the threshold, ordered by query."""

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
    squared_norms(out, what)
    return out


def squared_norms(vectors_ND: Floats, what: str, first: int = 0) -> Floats:
    """(N,) float32. Raises ValueError where one is NaN or infinite; rows are numbered from `first`."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.vecdot(vectors_ND, vectors_ND)
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise ValueError(f"{what}: row {first + bad[0]} holds NaN or infinity ({len(bad)} such rows)")
    return norms


class Sieve:
    """The matrix product and its threshold, on the CPU (NumPy's BLAS) or on a CUDA device (torch, TF32 off)."""

    def __init__(self, queries_QD: Floats, device: str | None = None) -> None:
        """`device`: None for NumPy, else a torch device such as "cuda"."""
        self.queries_QD = checked(queries_QD, "queries")
        self.norm_Q = np.sqrt(np.vecdot(self.queries_QD, self.queries_QD)).astype(np.float64)
        self._product = (
            product.NumpyProduct(self.queries_QD) if device is None else product.TorchProduct(self.queries_QD, device)
        )

    def scan(
        self, rows_ND: Floats, ids_N: Ints, consumers: Sequence[Consumer], skip: tuple[Ints, Ints] = _NO_PAIRS
    ) -> None:
        """Show a block of gallery rows to the consumers. One product serves them all.

        Args:
            rows_ND: (N, D).
            ids_N: (N,) positions in the manifest.
            consumers: each sees every entry that its thresholds let through.
            skip: pairs (query, row of this block) that are not in the query's gallery.

        Raises:
            ValueError: NaN or infinity among the rows, another D than the queries', or ids of another length.
        """
        rows_ND = np.ascontiguousarray(rows_ND, dtype=np.float32)
        if rows_ND.ndim != 2 or rows_ND.shape[1] != self.queries_QD.shape[1]:
            dim = rows_ND.shape[1] if rows_ND.ndim == 2 else rows_ND.shape
            raise ValueError(f"gallery has {dim} dimensions, queries {self.queries_QD.shape[1]}")
        if len(ids_N) != len(rows_ND):
            raise ValueError(f"{len(ids_N)} ids for {len(rows_ND)} rows")
        ids_N = np.asarray(ids_N, dtype=np.int64)
        running: deque[Future[tuple[Block, list[Survivors]]]] = deque()
        with self._product.threads() as num, ThreadPoolExecutor(num) as pool:
            for part in self._row_tiles(len(rows_ND)):
                lowest_Q, num_best = _wanted(consumers, len(self.queries_QD))
                running.append(pool.submit(self._tile, rows_ND, ids_N, part, lowest_Q, num_best, skip))
                # until thresholds are known the best of every tile survive: then one tile at a time
                while len(running) > (0 if num_best else 2 * num):
                    _show(running.popleft().result(), consumers)
            for tile in running:
                _show(tile.result(), consumers)

    def _row_tiles(self, num: int) -> Iterable[slice]:
        """The first tile is small on every device: before the first thresholds are known all of it survives."""
        start, step = 0, product.TILE_ROWS
        while start < num:
            yield slice(start, min(start + step, num))
            start, step = start + step, self._product.tile_rows

    def _tile(
        self, rows_ND: Floats, ids_N: Ints, part: slice, lowest_Q: Floats, num_best: int, skip: tuple[Ints, Ints]
    ) -> tuple[Block, list[Survivors]]:
        """Survivors at or above `lowest_Q`, and those that can be among the tile's `num_best` best."""
        rows_BD = rows_ND[part]
        largest = float(np.sqrt(squared_norms(rows_BD, "gallery", part.start).max()))
        error_Q = sgemm_error(rows_BD.shape[1]) * self.norm_Q * largest
        lowest_Q = np.maximum((lowest_Q - error_Q).astype(np.float32), LOWEST)
        inside = np.flatnonzero((skip[1] >= part.start) & (skip[1] < part.stop))
        skip_query, skip_row = skip[0][inside], skip[1][inside] - part.start
        rows, found = self._product.put(rows_BD), []
        for q in range(0, len(self.queries_QD), product.TILE_QUERIES):
            queries = slice(q, q + product.TILE_QUERIES)
            own = (skip_query >= q) & (skip_query < q + product.TILE_QUERIES)
            kept = (skip_query[own] - q, skip_row[own])
            query_S, row_S, score_S = self._product.above(
                queries, rows, lowest_Q[queries], 2 * error_Q[queries], num_best, kept
            )
            found.append(Survivors(query_S + q, row_S, score_S))
        return Block(self.queries_QD, rows_BD, ids_N[part], error_Q), found


def _wanted(consumers: Sequence[Consumer], num_queries: int) -> tuple[Floats, int]:
    """Lowest score that matters to any consumer, and how many best rows to those that do not know theirs yet."""
    lowest_Q, num_best = np.full(num_queries, np.inf), 0
    for consumer in consumers:
        wanted_Q = consumer.thresholds()
        if np.isneginf(wanted_Q).all():
            num_best = max(num_best, consumer.num_best)
        else:
            lowest_Q = np.minimum(lowest_Q, wanted_Q)
    return lowest_Q, num_best


def _show(tile: tuple[Block, list[Survivors]], consumers: Sequence[Consumer]) -> None:
    block, found = tile
    for survivors in found:
        for consumer in consumers:
            consumer.take(survivors, block)
