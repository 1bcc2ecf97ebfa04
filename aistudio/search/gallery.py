"""The gallery of `aggregate`: image vectors of all ok rows, from score files, in blocks of bounded size.

A gallery row's id is its place in the manifest: number of its score file (files sorted by name) times 2**32 plus its
row in the file. Ties in a ranking go by it. Leaves out: what is searched for (search/exact.py).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.index import checked
from aistudio.schema import Status, vector_matrix
from aistudio.search.vectors import RECALL_VECTORS, VectorColumn
from aistudio.store import Store

ID_STEP = 2**32
READ_BYTES = 2**20  # of a local file at once, so that a whole column is not held as it is stored; on S3 one request

File = tuple[int, str]  # number, key


@dataclass(frozen=True)
class Vectors:
    """Ok rows of the gallery: vectors, ids and the values of some columns."""

    rows_ND: NDArray[np.float32]
    ids_N: NDArray[np.int64]
    values: dict[str, pa.Array]


def vector_blocks(
    store: Store,
    files: Sequence[File],
    block_rows: int,
    columns: Sequence[str] = (),
    vectors: VectorColumn = RECALL_VECTORS,
) -> Iterator[Vectors]:
    """The gallery in blocks of about `block_rows`: small files are put together, large ones read in parts.

    A thread reads one block ahead, so that reading goes on beside the search; at most two blocks are held.

    Raises:
        StoreError: a file is damaged, or a vector of an ok row holds NaN; names the file.
    """
    blocks = _blocks(store, files, block_rows, columns, vectors)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def _blocks(
    store: Store, files: Sequence[File], block_rows: int, columns: Sequence[str], vectors: VectorColumn
) -> Iterator[Vectors]:
    held: list[Vectors] = []
    for number, key in files:
        for part in _parts(store, (number, key), block_rows, columns, vectors):
            held.append(part)
            if sum(len(v.ids_N) for v in held) >= block_rows:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _parts(
    store: Store, numbered: File, block_rows: int, columns: Sequence[str], vectors: VectorColumn
) -> Iterator[Vectors]:
    number, key = numbered
    start, wanted = number * ID_STEP, list(dict.fromkeys([*columns, "status", vectors.name]))
    with _opened(store, key) as f:
        try:
            # no threads: one wide column gains nothing from them, and the search needs the cores
            buffer = READ_BYTES if store.is_local else 0
            file = pq.ParquetFile(f, buffer_size=buffer, page_checksum_verification=True)
            for batch in file.iter_batches(block_rows, columns=wanted, use_threads=False):
                good = pc.and_(pc.equal(batch["status"], Status.OK.value), pc.is_valid(batch[vectors.name]))
                ids = start + np.flatnonzero(good.to_numpy(zero_copy_only=False))
                start += batch.num_rows
                kept = batch if len(ids) == batch.num_rows else batch.filter(good)
                if kept.num_rows:
                    values = {c: kept[c] for c in columns}
                    yield Vectors(matrix(kept[vectors.name], store.path(key), vectors), ids, values)
        except (pa.ArrowException, OSError) as e:
            raise StoreError(f"{store.path(key)}: damaged or not a score file: {e}") from None


def _opened(store: Store, key: str) -> Any:
    """Arrow reads a local file itself: through a Python file each read is fresh memory, 60 % more CPU for vectors."""
    if not store.is_local:
        return store.open(key)
    try:
        return pa.OSFile(store.path(key))
    except OSError as e:
        raise StoreError(f"{store.path(key)}: cannot be read: {e}") from None


def _joined(parts: list[Vectors]) -> Vectors:
    if len(parts) == 1:
        return parts[0]
    return Vectors(
        np.concatenate([p.rows_ND for p in parts]), np.concatenate([p.ids_N for p in parts]),
        {c: pa.concat_arrays([p.values[c] for p in parts]) for c in parts[0].values},
    )  # fmt: skip


def matrix(
    column: pa.Array | pa.ChunkedArray,
    place: str,
    vectors: VectorColumn = RECALL_VECTORS,
) -> NDArray[np.float32]:
    """Return a column of vectors without nulls as (rows, D) float32, as unit rows unless they are stored so.

    Raises:
        StoreError: NaN, vectors of several widths, or no vectors at all in the column; names `place` and the row.
    """
    try:
        rows_ND = checked(vector_matrix(column), f"{place}: {vectors.name}")
    except ValueError as e:
        raise StoreError(f"{place}: {e}" if place not in str(e) else str(e)) from None
    return rows_ND if vectors.normalised else unit_rows(rows_ND)


def unit_rows(rows_ND: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Divide each row by its length, computed in float64; a row of zeros stays."""
    length_N1 = np.linalg.norm(rows_ND.astype(np.float64), axis=1, keepdims=True)
    return (rows_ND / np.where(length_N1 > 0, length_N1, 1)).astype(np.float32)
