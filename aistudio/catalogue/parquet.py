"""Parquet manifests, read by record batch; what becomes of the records, record_batches.py says.

A column of pictures themselves (inline.py) becomes addresses of its rows; its bytes are not read here.
"""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue.inline import picture_column, place_of_parts
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, decompressed, plain_name
from aistudio.catalogue.record_batches import columns_of_schema, records_batch, wanted_columns
from aistudio.catalogue.table import Batch, Columns
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.parts import Part, footer_mark, part_address


def inspect_parquet(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the file's schema.

    Raises:
        ManifestError: not a Parquet file, a missing column, or a nested column mapped to a candidate column.
    """
    parquet = _open(stream, file)
    return columns_of_schema(parquet.schema_arrow, settings, file, picture_column(parquet, file, settings))


def read_parquet(
    stream: BinaryIO,
    file: str,
    settings: ManifestSettings,
    columns: Columns,
    batch_rows: int,
    id_prefix: str,
    place: str | None,
) -> Iterator[Batch]:
    """Batches of a Parquet file; rejects carry the record number and the row's columns as JSON text.

    Raises:
        ManifestError: not a Parquet file, a damaged one, or one whose columns differ from `columns`.
    """
    picture = None
    if columns.inline:
        picture = partial(_address, place_of_parts(file, place), columns.inline, footer_mark(stream))
    parquet = _open(stream, file)
    wanted = wanted_columns(parquet.schema_arrow, columns, file)
    record = 1
    batches = _record_batches(parquet, wanted, batch_rows)
    while True:
        try:
            table = next(batches, None)
        except (OSError, pa.ArrowException) as e:
            raise ManifestError(f"{file}: damaged Parquet file after record {record - 1}: {e}") from None
        if table is None:
            return
        batch = records_batch(table, columns, file, settings, record, id_prefix, picture)
        record += table.num_rows
        if table.num_rows:
            yield batch


def _address(place: str, column: str, mark: str, record: int) -> str:
    return part_address(place, Part("row", column, record, mark=mark))


def _record_batches(parquet: pq.ParquetFile, wanted: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    if wanted:
        yield from parquet.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False)
        return
    left = parquet.metadata.num_rows  # nothing but pictures, whose bytes are not read here
    while left > 0:
        num = min(left, batch_rows)
        yield pa.RecordBatch.from_struct_array(pa.array([{}] * num, pa.struct([])))
        left -= num


def _open(stream: BinaryIO, file: str) -> pq.ParquetFile:
    compressed = plain_name(file).endswith(COMPRESSED_SUFFIXES)
    if compressed or not stream.seekable():
        spool = tempfile.TemporaryFile()  # noqa: SIM115  (closed when ParquetFile lets go of it)
        shutil.copyfileobj(decompressed(stream, file), spool)
        spool.seek(0)
        stream = spool
    try:
        # Buffered reading keeps memory at a few pages instead of a whole row group's columns.
        return pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pa.ArrowException) as e:
        raise ManifestError(f"{file}: not a readable Parquet file: {e}") from None
