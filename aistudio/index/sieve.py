"""The matrix product of gallery tiles with all queries, and the threshold that few entries pass.

On the CPU each thread takes a tile of its own, product and threshold, with BLAS on one thread: the passes over the
scores then run beside the next product instead of between two of them. On a CUDA device torch does both.
Leaves out: what is done with the survivors (topk.py, ranks.py).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

TILE_ROWS = 2048  # gallery rows per product: with TILE_QUERIES 8 MiB of scores per thread, which stay in cache
TILE_QUERIES = 1024
DEVICE_TILE_ROWS = 65_536  # a GPU wants larger products: 256 MiB of scores
RESCORE_ROWS = 1024  # pairs scored again at once: their float64 copies stay in cache
MAX_THREADS = 32  # each holds a tile
LOWEST = np.float32(np.finfo(np.float32).min)  # every score passes it, a skipped entry (-inf) does not

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
        self._product = _NumpyProduct(self.queries_QD) if device is None else _TorchProduct(self.queries_QD, device)

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
        start, step = 0, TILE_ROWS
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
        for q in range(0, len(self.queries_QD), TILE_QUERIES):
            queries = slice(q, q + TILE_QUERIES)
            own = (skip_query >= q) & (skip_query < q + TILE_QUERIES)
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


class _NumpyProduct:
    """Tiles on as many threads as BLAS would use, each with a BLAS of one thread and buffers of its own."""

    def __init__(self, queries_QD: Floats) -> None:
        self.queries_QD, self.tile_rows = queries_QD, TILE_ROWS
        self._blas = ThreadpoolController().select(user_api="blas")
        self._free: list[tuple[Floats, NDArray[np.bool_]]] = []  # buffers; append and pop are atomic

    @contextmanager
    def threads(self) -> Iterator[int]:
        num = max((lib["num_threads"] for lib in self._blas.info()), default=1)
        with self._blas.limit(limits=1):
            yield min(num, MAX_THREADS)

    def put(self, rows_BD: Floats) -> Floats:
        return rows_BD

    def above(
        self, part: slice, rows_BD: Floats, lowest_Q: Floats, margin_Q: Floats, num_best: int, skip: tuple[Ints, Ints]
    ) -> tuple[Ints, Ints, Floats]:
        """Query, row and score of the entries at or above `lowest_Q` or among the `num_best` best of a query."""
        queries, num = self.queries_QD[part], len(rows_BD)
        shape = (len(queries), num)
        buffers = self._free.pop() if self._free else (np.empty(0, np.float32), np.empty(0, np.bool_))
        if buffers[0].size < shape[0] * num:
            buffers = (np.empty(shape[0] * num, np.float32), np.empty(shape[0] * num, np.bool_))
        flat, mask = buffers[0][: shape[0] * num], buffers[1][: shape[0] * num]
        scores_QB = np.matmul(queries, rows_BD.T, out=flat.reshape(shape))
        scores_QB[skip] = -np.inf
        if num_best >= num:
            lowest_Q = np.full_like(lowest_Q, LOWEST)
        elif num_best:
            kth_Q = np.partition(scores_QB, num - num_best)[:, num - num_best]
            # these rows truly score at least kth - error, so a better one shows at least kth - 2 error
            lowest_Q = np.maximum(np.minimum(lowest_Q, (kth_Q - margin_Q).astype(np.float32)), LOWEST)
        np.greater_equal(scores_QB, lowest_Q[:, None], out=mask.reshape(shape))
        # flatnonzero and divmod: several times quicker than nonzero on two dimensions
        flat_S = np.flatnonzero(mask)
        query_S, row_S = np.divmod(flat_S, num)
        score_S = flat[flat_S]
        self._free.append(buffers)
        return query_S, row_S, score_S


class _TorchProduct:
    """The same product and threshold on a torch device; only survivors come back to the host."""

    def __init__(self, queries_QD: Floats, device: str) -> None:
        import torch  # only where a GPU does the product: NumPy needs no torch

        torch.set_float32_matmul_precision("highest")  # TF32 keeps 10 bits: far outside sgemm_error
        self.torch, self.device, self.tile_rows = torch, device, DEVICE_TILE_ROWS
        self.queries_QD = torch.from_numpy(queries_QD).to(device)

    @contextmanager
    def threads(self) -> Iterator[int]:
        yield 1

    def put(self, rows_BD: Floats) -> Any:
        return self.torch.from_numpy(rows_BD).to(self.device)

    def above(
        self, part: slice, rows_BD: Any, lowest_Q: Floats, margin_Q: Floats, num_best: int, skip: tuple[Ints, Ints]
    ) -> tuple[Ints, Ints, Floats]:
        """As on the CPU; in a tile without thresholds everything comes back."""
        scores_QB = self.queries_QD[part] @ rows_BD.T
        scores_QB[tuple(self.torch.from_numpy(s).to(self.device) for s in skip)] = -float("inf")
        lowest_Q = np.full_like(lowest_Q, LOWEST) if num_best else lowest_Q
        mask = scores_QB >= self.torch.from_numpy(lowest_Q[:, None]).to(self.device)
        query_S, row_S = self.torch.nonzero(mask, as_tuple=True)
        return query_S.cpu().numpy(), row_S.cpu().numpy(), scores_QB[mask].cpu().numpy()
