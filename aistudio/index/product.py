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

TILE_ROWS = 2048  # gallery rows per product: with TILE_QUERIES 8 MiB of scores per thread, which stay in cache
TILE_QUERIES = 1024
DEVICE_TILE_ROWS = 65_536  # a GPU wants larger products: 256 MiB of scores
MAX_THREADS = 32  # each holds a tile
LOWEST = np.float32(np.finfo(np.float32).min)  # every score passes it, a skipped entry (-inf) does not


class NumpyProduct:
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


class TorchProduct:
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
