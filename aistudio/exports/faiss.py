"""`faiss`: an exact index of inner products over unit vectors, so of cosines, and ids.parquet, whose line i is id i.

IndexIDMap2 over IndexFlatIP; with int8 over IndexScalarQuantizer QT_8bit, a dimension's range being that of all rows.
FAISS holds an index in memory: rows x numbers x 4 bytes (int8: 1), up to twice that while it grows.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.exports.format import Format, Read
from aistudio.exports.npy import ROWS, parquet_writer, row_ids
from aistudio.exports.source import Batch, Source

INDEX = "index.faiss"


def _write(source: Source, batches: Iterator[Batch], folder: Path) -> dict[str, Any]:
    import faiss

    index = faiss.IndexIDMap2(_empty_index(faiss, source))
    with parquet_writer(folder / ROWS, source.table_schema) as rows:
        for batch in batches:
            ids = np.arange(batch.first, batch.first + len(batch.valid_N), dtype=np.int64)
            index.add_with_ids(batch.vectors_ND, ids)
            rows.write_table(batch.table)
    faiss.write_index(index, str(folder / INDEX))
    return {
        "files": [INDEX, ROWS],
        "index": type(faiss.downcast_index(index.index)).__name__,
        "metric": "inner product",
    }


def _empty_index(faiss: Any, source: Source) -> Any:
    if not source.own_codes:
        return faiss.IndexFlatIP(source.dim)
    index = faiss.IndexScalarQuantizer(source.dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    low_D, high_D = np.full(source.dim, np.inf, np.float32), np.full(source.dim, -np.inf, np.float32)
    for batch in source.batches(with_columns=False):
        low_D, high_D = (
            np.minimum(low_D, batch.vectors_ND.min(axis=0)),
            np.maximum(high_D, batch.vectors_ND.max(axis=0)),
        )
    if np.isfinite(low_D).all():  # else there is no row
        index.train(np.stack([low_D, high_D]))
    return index


def _read(source: Source, folder: Path) -> Iterator[Read]:
    import faiss

    index: Any = faiss.read_index(str(folder / INDEX))
    held = faiss.downcast_index(index.index)
    numbers_N = faiss.vector_to_array(index.id_map)
    if not np.array_equal(numbers_N, np.arange(index.ntotal)):
        raise ValueError("its ids are not those of the lines of ids.parquet")
    start = 0
    for ids in row_ids(folder / ROWS):
        num = min(len(ids), index.ntotal - start)
        yield Read(ids[:num], held.reconstruct_n(start, num) if num else _nothing(source), np.ones(num, bool))
        start += len(ids)
    if start != index.ntotal:
        raise ValueError(f"{ROWS} has {start:,} lines, the index {index.ntotal:,} vectors")


def _nothing(source: Source) -> NDArray[np.float32]:
    return np.zeros((0, source.dim), np.float32)


def _as_stored(source: Source, folder: Path) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """Return what the index's code makes of vectors: the same as it gives back of those that it holds."""
    if not source.own_codes:
        return lambda vectors_ND: vectors_ND
    import faiss

    index: Any = faiss.read_index(str(folder / INDEX))
    held = faiss.downcast_index(index.index)  # belongs to the index

    def stored(vectors_ND: NDArray[np.float32], index: Any = index) -> NDArray[Any]:
        decoded: NDArray[Any] = held.sa_decode(held.sa_encode(vectors_ND))
        return decoded

    return stored


FORMAT = Format(
    "faiss", _write, _read, 'faiss.read_index("{out}/index.faiss")', "faiss-cpu", "faiss", "export-faiss", unit=True,
    int8="own", as_stored=_as_stored,
)  # fmt: skip
