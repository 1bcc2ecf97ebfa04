"""Parquet manifests, read by record batch with Arrow's own operations.

Passthrough columns keep their types where every reader of Parquet takes them; kept.py says what becomes of the others.
A record is never refused for a column that is only kept.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.kept import plain_array, stored_array, stored_type, text_array
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, decompressed, plain_name
from aistudio.catalogue.table import Batch, Columns, Reject, rejected_table
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.schema import CANDIDATE_COLUMNS
from aistudio.values import plain_value

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def inspect_parquet(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the file's schema.

    Raises:
        ManifestError: not a Parquet file, a missing column, or a nested column mapped to a candidate column.
    """
    schema = _open(stream, file).schema_arrow
    types = {field.name: stored_type(field.type) for field in schema}
    columns = resolve(schema.names, types, settings, file)
    for column, name in columns.mapping.items():
        _check_flat(column, name, schema.field(name).type, file)
    return columns


def read_parquet(
    stream: BinaryIO, file: str, columns: Columns, start_row: int, batch_rows: int, id_prefix: str
) -> Iterator[Batch]:
    """Batches of a Parquet file; rejects carry the record number and the row's columns as JSON text.

    Raises:
        ManifestError: not a Parquet file, a damaged one, or one whose columns differ from `columns`.
    """
    parquet = _open(stream, file)
    wanted = list(dict.fromkeys([*columns.mapping.values(), *(name for name, _ in columns.passthrough)]))
    schema = parquet.schema_arrow
    for name in wanted:
        if schema.names.count(name) != 1:
            raise ManifestError(
                f"{file}: column {name!r} is missing here, though the manifest's first file has it; "
                f"columns found: {', '.join(schema.names)}"
            )
    for column, name in columns.mapping.items():
        _check_flat(column, name, schema.field(name).type, file)
    n, record = start_row, 1
    batches = parquet.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False)
    while True:
        try:
            table = next(batches, None)
        except (OSError, pa.ArrowException) as e:
            raise ManifestError(f"{file}: damaged Parquet file after record {record - 1}: {e}") from None
        if table is None:
            return
        batch = _Records(table, columns, file).batch(n, record, id_prefix)
        n += batch.candidates.num_rows
        record += table.num_rows
        if table.num_rows:
            yield batch


class _Records:
    """One record batch on its way to a Batch: converts columns and notes why records are refused."""

    def __init__(self, table: pa.RecordBatch, columns: Columns, file: str) -> None:
        self._table, self._columns, self._file = table, columns, file
        self._reasons: list[str | None] = [None] * table.num_rows

    def batch(self, n: int, record: int, id_prefix: str) -> Batch:
        candidate = {column: self._candidate(column) for column in CANDIDATE_COLUMNS}
        kept = [self._passthrough(name, field) for name, field in self._columns.passthrough]
        ok = np.array([reason is None for reason in self._reasons], dtype=bool)
        mask = pa.array(ok)
        arrays = {c: a.filter(mask) for c, a in candidate.items() if a is not None}
        num = int(ok.sum())
        arrays.setdefault("row_id", pa.array([f"{id_prefix}{i}" for i in range(n, n + num)], pa.string()))
        arrays.setdefault("text", pa.array([""] * num, pa.string()))
        for column in ("fallback_url", "poi_names"):
            arrays.setdefault(column, pa.nulls(num, pa.string()))
        ordered = [arrays[c] for c in CANDIDATE_COLUMNS] + [array.filter(mask) for array in kept]
        rejects = [
            Reject(record + i, self._raw(i), reason) for i, reason in enumerate(self._reasons) if reason is not None
        ]
        table = pa.Table.from_arrays(ordered, schema=self._columns.schema)
        return Batch(table, rejected_table(rejects, self._file))

    def _refuse(self, bad: Mask, reason: str) -> None:
        for i in np.flatnonzero(bad):
            self._reasons[i] = self._reasons[i] or reason

    def _candidate(self, column: str) -> pa.Array | None:
        if column not in self._columns.mapping:
            return None
        name = self._columns.mapping[column]
        text = self._text(self._table.column(name), name)
        self._refuse(_true(pc.match_substring(text, "\0")), f"holds NUL: column {name!r}")
        if column.endswith("_url"):
            text = pc.utf8_trim_whitespace(text)
        blank = pc.equal(pc.utf8_trim_whitespace(text), "")
        if column in ("row_id", "item_id", "image_url"):
            self._refuse(_true(pc.fill_null(blank, True)), f"empty {column}")
        elif column == "text":
            return pc.fill_null(text, "")
        else:
            return pc.if_else(blank, pa.scalar(None, pa.string()), text)
        return text

    def _passthrough(self, name: str, field: pa.Field) -> pa.Array:
        array = stored_array(self._table.column(name))
        try:
            return array.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise ManifestError(
                f"{self._file}: column {name!r} is {array.type}, the manifest's first file has {field.type}: {e}"
            ) from None

    def _text(self, array: pa.Array, name: str) -> pa.Array:
        """The column as string; records whose bytes are not UTF-8 are refused (Parquet readers don't check)."""
        array = plain_array(array)
        if not (_is_string(array.type) or _is_binary(array.type)):
            return text_array(array)
        data = array.cast(pa.binary())
        try:
            return data.cast(pa.string())
        except pa.ArrowInvalid:
            values = data.to_pylist()
            bad = np.array([v is not None and not _is_utf8(v) for v in values], dtype=bool)
            self._refuse(bad, f"not decodable as utf-8: column {name!r}")
            return pa.array([None if v is None else v.decode("utf-8", "backslashreplace") for v in values], pa.string())

    def _raw(self, i: int) -> str:
        row: dict[str, Any] = {}
        for name in self._table.schema.names:
            row[name] = plain_value(self._table.column(name), i)
        return json.dumps(row, ensure_ascii=False, default=str)


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


def _check_flat(column: str, name: str, kind: pa.DataType, file: str) -> None:
    if _is_nested(kind):
        raise ManifestError(f"{file}: column {name!r} is {kind}; {column} needs a column of plain values")


def _is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _true(mask: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)
