"""`npy`: vectors.npy, a matrix that np.load maps without reading it, and ids.parquet, whose line i is its row i."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.exports.format import Format, Read
from aistudio.exports.source import BATCH_ROWS, ID, Batch, Source

VECTORS, ROWS = "vectors.npy", "ids.parquet"


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of Parquet with page checksums."""
    return pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def row_ids(path: Path) -> Iterator[list[str]]:
    """Yield the row ids of a Parquet file in pieces, its checksums verified."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[ID]):
            yield batch.column(ID).to_pylist()


def _write(source: Source, batches: Iterator[Batch], folder: Path) -> dict[str, Any]:
    kind = np.dtype(np.int8 if source.codes else np.float32)
    num_rows = 0
    with (folder / VECTORS).open("w+b") as f, parquet_writer(folder / ROWS, source.table_schema) as rows:
        _header(f, kind, 0, source.dim)
        start = f.tell()
        for batch in batches:
            f.write(batch.vectors_ND.astype(kind, copy=False).tobytes())
            rows.write_table(batch.table)
            num_rows += len(batch.valid_N)
        f.seek(0)
        _header(f, kind, num_rows, source.dim)  # NumPy leaves room in it for a longer first number
        if f.tell() != start:
            raise ValueError(f"a header of {f.tell()} bytes where {start} were left")
    return {"files": [VECTORS, ROWS]}


def _header(f: Any, kind: np.dtype[Any], num_rows: int, dim: int) -> None:
    about = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (num_rows, dim)}
    np.lib.format.write_array_header_1_0(f, about)


def _read(source: Source, folder: Path) -> Iterator[Read]:
    matrix = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    start = 0
    for ids in row_ids(folder / ROWS):
        yield Read(ids, np.asarray(matrix[start : start + len(ids)]), np.ones(len(ids), bool))
        start += len(ids)
    if start != len(matrix):
        raise ValueError(f"{ROWS} has {start:,} lines, {VECTORS} {len(matrix):,} rows")


FORMAT = Format("npy", _write, _read, 'numpy.load("{out}/vectors.npy", mmap_mode="r")')
