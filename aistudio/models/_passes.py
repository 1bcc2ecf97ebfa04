"""Computing row by row results in passes of one fixed size, so that a row's numbers do not depend on its neighbours.

A float32 matrix product rounds differently for another number of rows; for one and the same number it does not,
wherever a row stands. So the last pass is filled up with rows of zeros, whose results are thrown away.
"""

from collections.abc import Callable

import numpy as np

Compute = Callable[..., np.ndarray]


def in_passes(rows: int, compute: Compute, *columns: np.ndarray) -> np.ndarray:
    """Results of `compute` on exactly `rows` rows at a time.

    Args:
        compute: columns of `rows` rows each -> (rows, D).
        columns: arrays of one length N, at least 1.
    """
    parts = []
    for start in range(0, len(columns[0]), rows):
        own = [column[start : start + rows] for column in columns]
        parts.append(compute(*(filled(column, rows) for column in own))[: len(own[0])])
    return np.concatenate(parts)


def filled(column: np.ndarray, rows: int) -> np.ndarray:
    """`column` with rows of zeros behind it, `rows` in all."""
    missing = rows - len(column)
    return np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)]) if missing else column
