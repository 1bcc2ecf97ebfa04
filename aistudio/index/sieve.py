"""The matrix product of gallery tiles with all queries, and the threshold that few entries pass.

Queries are cut into parts, and a thread takes a part through a whole block of gallery rows, tile by tile: product,
threshold and what is done with the survivors. So a tile's thresholds are as high as the tiles before allow, threads
share nothing but the rows, and their passes over scores run beside each other's products. BLAS has one thread in each.
Leaves out: a tile's arithmetic (product.py) and what is done with the survivors (topk.py, ranks.py).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from aistudio.index import product
from aistudio.index.product import LOWEST, Floats, Ints

RESCORE_ROWS = 128  # pairs scored again at once: copies stay in cache; larger ones were fresh memory, up to 6x slower
PART_QUERIES = 128  # least queries to a thread: fewer make slow products

_NO_PAIRS = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Survivors:
    """Entries of one tile that passed the threshold, ordered by query."""

    query_S: Ints
    row_S: Ints  # row of the block
    score_S: Floats  # float32 sieve score


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


class Consumer(Protocol):
    """What looks at survivors: says which scores can matter to it, then takes them.

    All is asked about consecutive queries, and by several threads at once, each about queries of its own: what is kept
    must be kept by query.
    """

    num_best: int  # when its threshold is not known yet, this many best rows of a tile are enough for it

    def thresholds(self, part: slice) -> Floats:
        """Lowest true score of each of these queries that still matters; -inf: not known yet."""

    def take(self, found: Survivors, part: slice, block: Block) -> None:
        """Use the survivors of some queries; entries below the thresholds may be among them."""

    def finish(self, part: slice, block: Block) -> None:
        """These queries have seen the whole block: its rows cannot be looked at again."""


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
        norms: Floats = np.vecdot(vectors_ND, vectors_ND)
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
        if not len(rows_ND) or not len(self.queries_QD):
            return
        with self._product.threads() as num, ThreadPoolExecutor(num) as pool:
            tiles = list(self._row_tiles(len(rows_ND)))
            largest = max(pool.map(lambda tile: squared_norms(rows_ND[tile], "gallery", tile.start).max(), tiles))
            error_Q = sgemm_error(rows_ND.shape[1]) * self.norm_Q * float(np.sqrt(largest))
            block = Block(self.queries_QD, rows_ND, np.asarray(ids_N, dtype=np.int64), error_Q)
            rows = self._product.put(rows_ND)
            parts = _query_parts(len(self.queries_QD), num)
            list(pool.map(lambda part: self._search(part, rows, tiles, block, consumers, skip), parts))

    def _row_tiles(self, num: int) -> Iterator[slice]:
        """The first tile is small on every device: before the first thresholds are known much of it survives."""
        start, step = 0, product.TILE_ROWS
        while start < num:
            yield slice(start, min(start + step, num))
            start, step = start + step, self._product.tile_rows

    def _search(
        self, part: slice, rows: Any, tiles: Sequence[slice], block: Block, consumers: Sequence[Consumer],
        skip: tuple[Ints, Ints],
    ) -> None:  # fmt: skip
        """Take some queries through all tiles."""
        error_Q = block.error_Q[part]
        own = (skip[0] >= part.start) & (skip[0] < part.stop)
        skip_query, skip_row = skip[0][own] - part.start, skip[1][own]
        for tile in tiles:
            lowest_Q, num_best = _wanted(consumers, part)
            lowest_Q = np.maximum((lowest_Q - error_Q).astype(np.float32), LOWEST)
            inside = np.flatnonzero((skip_row >= tile.start) & (skip_row < tile.stop))
            left_out = (skip_query[inside], skip_row[inside] - tile.start)
            query_S, row_S, score_S = self._product.above(part, rows[tile], lowest_Q, 2 * error_Q, num_best, left_out)
            if len(query_S):
                found = Survivors(query_S + part.start, row_S + tile.start, score_S)
                for consumer in consumers:
                    consumer.take(found, part, block)
        for consumer in consumers:
            consumer.finish(part, block)


def _query_parts(num_queries: int, num_threads: int) -> list[slice]:
    """Parts of equal size: as many as threads, or a multiple, unless they would be too small to be quick."""
    rounds = -(-num_queries // (product.TILE_QUERIES * num_threads))
    num = min(rounds * num_threads, -(-num_queries // PART_QUERIES))
    num = max(num, -(-num_queries // product.TILE_QUERIES))
    cuts = [num_queries * i // num for i in range(num + 1)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def _wanted(consumers: Sequence[Consumer], part: slice) -> tuple[Floats, int]:
    """Lowest score that matters to any consumer, and how many best rows to those that do not know theirs yet."""
    lowest_Q, num_best = np.full(part.stop - part.start, np.inf), 0
    for consumer in consumers:
        wanted_Q = consumer.thresholds(part)
        if np.isneginf(wanted_Q).all():
            num_best = max(num_best, consumer.num_best)
        else:
            lowest_Q = np.minimum(lowest_Q, wanted_Q)
    return lowest_Q, num_best
