"""The shapes that readers share: Batch, Columns, Reject, and the cutting of parsed rows into batches.

A line-based reader yields one event per record: a list of candidate rows (tuples in the order of
`Columns.schema`), or a `Reject`. What a line means is the readers' business, not this file's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from aistudio.catalogue.lines import NOT_DECODABLE, Lines
from aistudio.errors import ManifestError
from aistudio.schema import REJECTED_SCHEMA, candidate_schema

MAX_RAW_CHARS = 10_000
# A batch is also cut after this much text, so that long lines do not make large batches.
MAX_BATCH_BYTES = 32_000_000


class Batch(NamedTuple):
    """A piece of a manifest: accepted rows and refused lines. Either table may be empty."""

    candidates: pa.Table  # Columns.schema
    rejected: pa.Table  # schema.REJECTED_SCHEMA


class Reject(NamedTuple):
    """One refused line (for Parquet: record), `line_number` from 1."""

    line_number: int
    raw: str
    reason: str


@dataclass(frozen=True)
class Columns:
    """How a manifest's columns become the candidate table. Made by `inspect_manifest`; can be pickled."""

    found: tuple[str, ...]  # the manifest's own columns
    mapping: dict[str, str]  # candidate column -> manifest column, only those that exist
    passthrough: tuple[tuple[str, pa.Field], ...]  # manifest column, stored field

    @property
    def passthrough_fields(self) -> list[pa.Field]:
        """Stored passthrough fields, in order: what `schema.candidate_schema` takes."""
        return [field for _, field in self.passthrough]

    @property
    def schema(self) -> pa.Schema:
        """Schema of the candidate tables of this manifest."""
        return candidate_schema(self.passthrough_fields)


Row = tuple[Any, ...]
Event = list[Row] | Reject


def batches(events: Iterable[Event], columns: Columns, file: str, batch_rows: int, lines: Lines) -> Iterator[Batch]:
    """Cut events into batches of about `batch_rows` candidate rows; the rows of one line stay together.

    Raises:
        ManifestError: no line of the first batch (at least two lines) can be decoded: the encoding is wrong.
    """
    rows: list[Row] = []
    rejects: list[Reject] = []
    schema, first, bytes_before = columns.schema, True, 0
    for event in events:
        if isinstance(event, Reject):
            rejects.append(event)
        else:
            rows += event
        if len(rows) >= batch_rows or len(rejects) >= batch_rows or lines.num_bytes - bytes_before >= MAX_BATCH_BYTES:
            if first:
                _check_encoding(rows, rejects, file)
            yield Batch(candidate_table(rows, schema), rejected_table(rejects, file))
            rows, rejects, first, bytes_before = [], [], False, lines.num_bytes
    if first:
        _check_encoding(rows, rejects, file)
    if rows or rejects:
        yield Batch(candidate_table(rows, schema), rejected_table(rejects, file))


def candidate_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows (tuples in the schema's order) as a table; empty rows give an empty table of the schema."""
    if not rows:
        return schema.empty_table()
    values = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def rejected_table(rejects: list[Reject], file: str) -> pa.Table:
    """Rejects of one file as a table of REJECTED_SCHEMA; `raw` is cut to MAX_RAW_CHARS."""
    columns = {
        "file": [file] * len(rejects),
        "line_number": [r.line_number for r in rejects],
        "raw": [storable(r.raw[:MAX_RAW_CHARS]) for r in rejects],
        "reason": [storable(r.reason) for r in rejects],
    }
    return pa.table(columns, schema=REJECTED_SCHEMA)


def storable(text: str) -> str:
    """The text with whatever UTF-8 cannot hold (lone surrogates) and NUL written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _check_encoding(rows: list[Row], rejects: list[Reject], file: str) -> None:
    if rows or len(rejects) < 2 or not all(r.reason.startswith(NOT_DECODABLE) for r in rejects):
        return
    raise ManifestError(
        f"{file}: none of the first {len(rejects)} lines can be decoded (line {rejects[0].line_number}: "
        f"{rejects[0].reason}); set manifest.encoding to the file's encoding, e.g. gb18030"
    )
