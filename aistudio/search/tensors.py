"""Arrow batches as torch tensors."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from aistudio.errors import StoreError
from aistudio.schema import is_vector, vector_matrix, vector_width
from aistudio.values import column_values


def to_tensors(batch: pa.RecordBatch) -> dict[str, Any]:
    """Return the columns of a batch, as `Rows.torch` says. Raises StoreError for vectors of several widths."""
    return {field.name: _column(batch.column(i), field) for i, field in enumerate(batch.schema)}


def _column(column: pa.Array, field: pa.Field) -> Any:
    kind = column.type
    if is_vector(kind):
        return _vectors(column, field)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return column_values(column)
    if column.null_count:
        column = column.cast(pa.float64())
    return torch.from_numpy(np.array(column.to_numpy(zero_copy_only=False)))


def _vectors(column: pa.Array, field: pa.Field) -> torch.Tensor:
    try:
        rows_MD = vector_matrix(column)
    except ValueError as e:
        raise StoreError(f"{field.name}: {e}") from None
    width = rows_MD.shape[1] or vector_width(field) or 0
    out_ND = np.full((len(column), width), np.nan, rows_MD.dtype)
    out_ND[pc.is_valid(column).to_numpy(zero_copy_only=False)] = rows_MD.reshape(-1, width)
    return torch.from_numpy(out_ND)
