"""Stored image vectors as a stream of matrices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.schema import vector_matrix
from aistudio.search.gallery import unit_rows
from aistudio.search.rows import Rows


class VectorBatch(NamedTuple):
    """N images: their row ids, and their vectors (N, D) float32."""

    row_ids: list[str]
    vectors_ND: NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """The vectors of the rows that have one, in the order of the manifest; read while one iterates.

    `column` is where they are stored, `width` is D (None where the run does not say).
    """

    column: str
    width: int | None
    _rows: Rows
    _unit: bool

    def __iter__(self) -> Iterator[VectorBatch]:
        """Yield batches. Raises StoreError for a damaged file, or vectors of several widths in one batch."""
        for batch in self._rows:
            vectors = batch.column(self.column)
            has = pc.is_valid(vectors)
            row_ids = batch.column("row_id").filter(has).to_pylist()
            if not row_ids:
                continue
            try:
                found_ND = np.asarray(vector_matrix(vectors), dtype=np.float32)
            except ValueError as e:
                raise StoreError(f"{self.column}: {e}") from None
            yield VectorBatch(row_ids, unit_rows(found_ND) if self._unit else found_ND)

    def matrix(self) -> VectorBatch:
        """Return all of them at once: N times D times 4 bytes. (0, D) where no row has a vector.

        Raises:
            StoreError: as iterating does; vectors of several widths.
        """
        parts = list(self)
        if len({part.vectors_ND.shape[1] for part in parts}) > 1:
            raise StoreError(f"{self.column}: vectors of several widths")
        matrices = [part.vectors_ND for part in parts] or [np.zeros((0, self.width or 0), np.float32)]
        return VectorBatch([row_id for part in parts for row_id in part.row_ids], np.concatenate(matrices))
