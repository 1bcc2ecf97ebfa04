"""What shorter or smaller vectors lose: of each query's ten nearest rows by the exact vectors, how many are found."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aistudio.exports.source import Batch
from aistudio.index import TopK, unit_rows

K = 10
_SEED = 0


class Sample:
    """Rows of a stream, drawn evenly whatever its length: each row gets a random number, the smallest ones stay."""

    def __init__(self, size: int, seed: int = _SEED) -> None:
        self._rng, self._size = np.random.default_rng(seed), size
        self._drawn_S = np.empty(0)
        self.rows_S = np.empty(0, np.int64)  # of the export
        self.stored_SD: NDArray[np.float32] | None = None

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches on, drawing from those of their rows that have a vector."""
        for batch in batches:
            self._draw(batch)
            yield batch

    def _draw(self, batch: Batch) -> None:
        drawn = np.concatenate([self._drawn_S, self._rng.random(int(batch.valid_N.sum()))])
        rows = np.concatenate([self.rows_S, batch.first + np.flatnonzero(batch.valid_N)])
        fresh = batch.stored_ND[batch.valid_N]
        stored = fresh if self.stored_SD is None else np.concatenate([self.stored_SD, fresh])
        kept = np.sort(np.argsort(drawn, kind="stable")[: self._size])
        self._drawn_S, self.rows_S, self.stored_SD = drawn[kept], rows[kept], stored[kept]


class Overlap:
    """Asks with S rows of the export, by cosine: the exact vectors with exact ones, the exported with shortened ones.

    Queries keep float32 numbers, as fresh queries have them; the row that asks is not among its own results.
    """

    def __init__(self, rows_S: NDArray[np.int64], stored_SD: NDArray[np.float32], dim: int) -> None:
        """`dim`: numbers of an exported vector."""
        self._rows_S = rows_S
        self._exact, self._ours = TopK(K + 1, unit_rows(stored_SD)), TopK(K + 1, unit_rows(stored_SD[:, :dim]))

    def add(self, rows_N: NDArray[np.int64], stored_ND: NDArray[np.float32], found_ND: NDArray[np.float32]) -> None:
        """Add rows of the export: their stored vectors, and what was read back of them as float32."""
        self._exact.update(unit_rows(stored_ND), rows_N)
        self._ours.update(unit_rows(found_ND), rows_N)

    def value(self) -> float | None:
        """Return the mean share of the ten nearest that are the same; None where there is no other row."""
        shares = []
        for row, exact, ours in zip(self._rows_S, self._exact.result()[1], self._ours.result()[1], strict=True):
            best, found = (ids[(ids != row) & (ids >= 0)][:K] for ids in (exact, ours))
            if len(best):
                shares.append(len(np.intersect1d(best, found)) / len(best))
        return float(np.mean(shares)) if shares else None
