"""One tile: the scores of some queries with some gallery rows, and the entries that pass a threshold.

On the CPU by NumPy's BLAS or on a CUDA device by torch. Leaves out: thresholds and the walk over tiles (sieve.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

TILE_ROWS = 1024  # gallery rows per product: with TILE_QUERIES 4 MiB of scores per thread, which stay in cache
TILE_QUERIES = 1024
DEVICE_TILE_ROWS = 65_536  # a GPU wants larger products: 256 MiB of scores
MAX_THREADS = 32  # each holds a tile
FOLD = 8  # scores of a tile that are looked at together: their maximum costs a third of a comparison of each
DENSE = 8  # where one fold in so many holds a survivor, comparing everything is quicker than looking into folds
LOWEST = np.float32(np.finfo(np.float32).min)  # every score passes it, a skipped entry (-inf) does not


class NumpyProduct:
    """Tiles on as many threads as BLAS would use, each with a BLAS of one thread and buffers of its own."""

    def __init__(self, queries_QD: Floats) -> None:
        self.queries_QD, self.tile_rows = queries_QD, TILE_ROWS
        self._blas = ThreadpoolController().select(user_api="blas")
        self._free: list[_Buffers] = []  # append and pop are atomic

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
        """Query, row and score of the entries at or above `lowest_Q` or among the `num_best` best of a query.

        In the order of the queries, and of one query in no order.
        """
        queries_QD, num = self.queries_QD[part], len(rows_BD)
        buffers = self._free.pop() if self._free else _Buffers()
        scores_FPQ = buffers.scores(-(-num // FOLD), len(queries_QD))
        scores_BQ = scores_FPQ.reshape(-1, len(queries_QD))
        np.matmul(rows_BD, queries_QD.T, out=scores_BQ[:num])
        scores_BQ[num:] = -np.inf
        scores_BQ[skip[1], skip[0]] = -np.inf
        if num_best >= num:
            lowest_Q = np.full(len(queries_QD), LOWEST)
        elif num_best:
            kth_Q = np.partition(scores_BQ.T, len(scores_BQ) - num_best, axis=1)[:, len(scores_BQ) - num_best]
            lowest_Q = _below_kth(lowest_Q, kth_Q, margin_Q)
        found = _survivors(scores_FPQ, lowest_Q, buffers)
        self._free.append(buffers)
        return _by_query(*found)


class _Buffers:
    """One thread's scores, their maxima and a mask: kept, because fresh memory costs more than what is done in it."""

    def __init__(self) -> None:
        self._scores, self._mask = np.empty(0, np.float32), np.empty(0, np.bool_)
        self._largest = np.empty(0, np.float32)

    def scores(self, per_fold: int, num_queries: int) -> Floats:
        size = FOLD * per_fold * num_queries
        if self._scores.size < size:
            self._scores, self._mask = np.empty(size, np.float32), np.empty(size, np.bool_)
            self._largest = np.empty(size // FOLD, np.float32)
        return self._scores[:size].reshape(FOLD, per_fold, num_queries)

    def largest(self, size: int) -> Floats:
        return self._largest[:size]

    def mask(self, size: int) -> NDArray[np.bool_]:
        return self._mask[:size]


def _survivors(scores_FPQ: Floats, lowest_Q: Floats, buffers: _Buffers) -> tuple[Ints, Ints, Floats]:
    """Query, row and score of entries at or above `lowest_Q`; row `p` of fold `f` is row f * P + p of the tile.

    First the maximum of each FOLD scores that lie P rows apart, then the few folds whose maximum passes.
    """
    flat = scores_FPQ.reshape(-1)
    num_queries, step = scores_FPQ.shape[2], flat.size // FOLD
    # one long reduction over flat memory: along queries NumPy would start anew for every row
    largest = np.maximum.reduce(flat.reshape(FOLD, step), axis=0, out=buffers.largest(step))
    mask = buffers.mask(step)
    np.greater_equal(largest.reshape(-1, num_queries), lowest_Q, out=mask.reshape(-1, num_queries))
    if np.count_nonzero(mask) * DENSE > step:
        mask = buffers.mask(flat.size)
        np.greater_equal(flat.reshape(-1, num_queries), lowest_Q, out=mask.reshape(-1, num_queries))
        place_S = np.flatnonzero(mask)
    else:
        # flatnonzero and divmod: several times quicker than nonzero on two dimensions
        first_M = np.flatnonzero(mask)
        place_MF = first_M[:, None] + np.arange(0, flat.size, step)
        place_S = place_MF[flat[place_MF] >= lowest_Q[first_M % num_queries, None]]
    row_S, query_S = np.divmod(place_S, num_queries)
    return query_S, row_S, flat[place_S]


def _by_query(query_S: Ints, row_S: Ints, score_S: Floats) -> tuple[Ints, Ints, Floats]:
    order = np.argsort(query_S.astype(np.uint16), kind="stable")  # NumPy sorts 16 bits by radix
    return query_S[order], row_S[order], score_S[order]


def _below_kth(lowest_Q: Floats, kth_Q: Floats, margin_Q: Floats) -> Floats:
    """A threshold that lets the K best of the tile through, where `lowest_Q` would not.

    The rows up to place K truly score at least kth - error, so a better one shows at least kth - 2 error.
    """
    return np.maximum(np.minimum(lowest_Q, (kth_Q - margin_Q).astype(np.float32)), LOWEST)


class TorchProduct:
    """The same product and threshold on a torch device; only survivors come back to the host."""

    def __init__(self, queries_QD: Floats, device: str) -> None:
        import torch  # only where a GPU does the product: NumPy needs no torch

        torch.set_float32_matmul_precision("highest")  # TF32 keeps 10 bits: far outside sgemm_error
        self.torch, self.device, self.tile_rows = torch, device, DEVICE_TILE_ROWS
        self.queries_QD = torch.from_numpy(queries_QD).to(device)

    @contextmanager
    def threads(self) -> Iterator[int]:
        yield 2  # one looks at survivors while the device works for the other

    def put(self, rows_BD: Floats) -> Any:
        return self.torch.from_numpy(rows_BD).to(self.device)

    def above(
        self, part: slice, rows_BD: Any, lowest_Q: Floats, margin_Q: Floats, num_best: int, skip: tuple[Ints, Ints]
    ) -> tuple[Ints, Ints, Floats]:
        """As on the CPU."""
        scores_QB = self.queries_QD[part] @ rows_BD.T
        scores_QB[tuple(self.torch.from_numpy(s).to(self.device) for s in skip)] = -float("inf")
        if num_best >= scores_QB.shape[1]:
            lowest_Q = np.full_like(lowest_Q, LOWEST)
        elif num_best:
            kth_Q = self.torch.topk(scores_QB, num_best).values[:, -1].cpu().numpy()
            lowest_Q = _below_kth(lowest_Q, kth_Q, margin_Q)
        mask = scores_QB >= self.torch.from_numpy(lowest_Q[:, None]).to(self.device)
        query_S, row_S = self.torch.nonzero(mask, as_tuple=True)
        return query_S.cpu().numpy(), row_S.cpu().numpy(), scores_QB[mask].cpu().numpy()
