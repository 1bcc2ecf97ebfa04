"""Parquet manifests, read by record batch; what becomes of the records, record_batches.py says.

A column of pictures themselves (inline.py) becomes addresses of its rows; its bytes are not read here.
"""

import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue.inline import picture_column
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, decompressed, plain_name
from aistudio.catalogue.record_batches import check_types, columns_of_schema, records_batch
from aistudio.catalogue.table import Batch, Columns
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.parts import footer_mark


def inspect_parquet(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the file's schema.

    Raises:
        ManifestError: not a Parquet file, a missing column, or a nested column mapped to a candidate column.
    """
    parquet = _open(stream, file)
    return columns_of_schema(parquet.schema_arrow, settings, file, picture_column(parquet, file, settings))


def read_parquet(
    stream: BinaryIO, file: str, settings: ManifestSettings, columns: Columns, batch_rows: int, id_prefix: str
) -> Iterator[Batch]:
    """Batches of a Parquet file; rejects carry the record number and the row's columns as JSON text.

    Raises:
        ManifestError: not a Parquet file, a damaged one, or one whose columns differ from `columns`.
    """
    mark = footer_mark(stream) if columns.inline else ""
    parquet = _open(stream, file)
    kept = [name for name, _ in columns.passthrough]
    mapped = [name for column, name in columns.mapping.items() if not (columns.inline and column == "image_url")]
    wanted = list(dict.fromkeys([*mapped, *columns.images, *kept]))
    schema = parquet.schema_arrow
    for name in [*wanted, *([columns.inline] if columns.inline else [])]:
        if schema.names.count(name) != 1:
            raise ManifestError(
                f"{file}: column {name!r} is missing here, though the manifest's first file has it; "
                f"columns found: {', '.join(schema.names)}"
            )
    check_types(schema, columns, file)
    record = 1
    batches = _record_batches(parquet, wanted, batch_rows)
    while True:
        try:
            table = next(batches, None)
        except (OSError, pa.ArrowException) as e:
            raise ManifestError(f"{file}: damaged Parquet file after record {record - 1}: {e}") from None
        if table is None:
            return
        batch = records_batch(table, columns, file, settings, record, id_prefix, mark)
        record += table.num_rows
        if table.num_rows:
            yield batch


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
