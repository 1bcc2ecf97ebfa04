"""Rows of the scores by their gallery id: what is shown of them, or their vectors.

Leaves out: reading all rows (search/gallery.py).
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.runs.mapper import Mapper
from aistudio.search.gallery import ID_STEP, File
from aistudio.store import Store

Place = tuple[str, NDArray[np.int64]]  # key, rows of the file


def rows_at(
    store: Store, files: Sequence[File], ids: NDArray[np.int64], columns: Sequence[str], mapper: Mapper
) -> pa.Table:
    """Rows in the order of `ids`, which go upwards; each file is read once. A table without columns for no ids."""
    cuts = np.searchsorted(ids, [n * ID_STEP for n, _ in files] + [len(files) * ID_STEP])
    places = [(key, ids[a:b] % ID_STEP) for (_, key), a, b in zip(files, cuts, cuts[1:], strict=False) if a < b]
    parts = list(mapper.map(_rows, mapper.groups(places), store, list(columns))) if places else []
    return pa.concat_tables(parts) if parts else pa.table({c: pa.array([], pa.string()) for c in columns})


def _rows(places: Sequence[Place], store: Store, columns: list[str]) -> pa.Table:
    return pa.concat_tables(
        [store.read_table(key, columns, verify=True).select(columns).take(pa.array(rows)) for key, rows in places]
    )
