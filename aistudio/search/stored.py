"""Finds the rows of a run that queries mean, by row id, by item or all of them, and reads their vectors.

Leaves out: the search itself (listing.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.runs import layout
from aistudio.runs.mapper import Mapper
from aistudio.schema import Status, vector_matrix
from aistudio.search.gallery import ID_STEP, File, matrix
from aistudio.search.lookup import rows_at
from aistudio.search.pairs import Ints
from aistudio.search.searched import texts_of
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store

KEYS = ("row_id", "item_id")


@dataclass(frozen=True)
class Rows:
    """Rows of a run in the order of the gallery: their ids, whether they have vectors, and columns as texts."""

    ids_N: Ints
    usable_N: NDArray[np.bool_]
    texts: dict[str, list[str | None]]

    def __len__(self) -> int:
        return len(self.ids_N)


def find_rows(
    store: Store,
    files: Sequence[File],
    named: Mapping[str, Sequence[str]] | None,
    columns: Sequence[str],
    mapper: Mapper,
) -> Rows:
    """Find rows.

    Args:
        named: column -> texts; a row is found when one of its columns has one of them. None: every row.
        columns: whose texts are wanted.
    """
    wanted = None if named is None else {c: pa.array(sorted(set(v)), pa.string()) for c, v in named.items()}
    parts = list(mapper.map(_find, mapper.groups(files), store, wanted, list(dict.fromkeys(columns))))
    return Rows(
        np.concatenate([np.empty(0, np.int64), *(p.ids_N for p in parts)]),
        np.concatenate([np.empty(0, bool), *(p.usable_N for p in parts)]),
        {c: [text for p in parts for text in p.texts[c]] for c in dict.fromkeys(columns)},
    )


def _find(files: Sequence[File], store: Store, wanted: dict[str, pa.Array] | None, columns: list[str]) -> Rows:
    ids, usable = [np.empty(0, np.int64)], [np.empty(0, bool)]
    texts: dict[str, list[str | None]] = {c: [] for c in columns}
    for number, key in files:
        table = store.read_table(key, list(dict.fromkeys([*columns, *(wanted or ()), "status"])), verify=True)
        kept = np.ones(table.num_rows, bool)
        if wanted is not None:
            kept[:] = False
            for column, names in wanted.items():
                here = texts_of(_whole(table[column]))
                kept |= pc.is_in(here, value_set=names, skip_nulls=True).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(kept)
        part = table.take(pa.array(rows))
        ids.append(number * ID_STEP + rows)
        usable.append(pc.equal(_whole(part["status"]), Status.OK.value).to_numpy(zero_copy_only=False))
        for column in columns:
            texts[column] += texts_of(_whole(part[column])).to_pylist()
    return Rows(np.concatenate(ids), np.concatenate(usable), texts)


def stored_vectors(
    store: Store, files: Sequence[File], ids: Ints, vectors: VectorColumn, mapper: Mapper, *, raw: bool = False
) -> NDArray[np.float32]:
    """Vectors of some ok rows, in the order of `ids`: (n, D) unit rows, or as they are stored. (0, 0) for no ids."""
    if not len(ids):
        return np.zeros((0, 0), np.float32)
    distinct, back = np.unique(ids, return_inverse=True)
    column = rows_at(store, files, distinct, [vectors.name], mapper)[vectors.name]
    if raw:
        found = np.asarray(vector_matrix(column), dtype=np.float32)
    else:
        found = matrix(column, store.path(layout.SCORES), vectors)
    return found[back.reshape(-1)]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
