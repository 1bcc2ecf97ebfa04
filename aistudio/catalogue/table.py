"""The shapes that readers share: Batch, Columns, Reject, and the cutting of parsed rows into batches.

A line-based reader yields one event per record: `Rows` (candidate rows, tuples in the order of `Columns.schema` without
the source columns), its short form, or a `Reject`. What a line means is the readers' business, not this file's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from aistudio.catalogue.lines import NOT_DECODABLE, Lines
from aistudio.errors import ManifestError
from aistudio.schema import CANDIDATE_COLUMNS, REJECTED_SCHEMA, SOURCE_FIELDS, candidate_schema

MAX_RAW_CHARS = 10_000
# A batch is also cut after this much text, so that long lines do not make large batches.
MAX_BATCH_BYTES = 32_000_000
MAX_NAMED = 5  # suspicious records that are named


class Reading(NamedTuple):
    """How many lines a batch was made from (Parquet: records, folders: images), and what became of them.

    `lines` = `records` + `rejected` + `continued` + `others`.
    """

    lines: int = 0
    records: int = 0  # each became a row, or several
    rejected: int = 0
    continued: int = 0  # lines inside quoted fields of records that began before
    others: int = 0  # headers and empty lines
    suspicious: int = 0  # records that look as if an unclosed quote had swallowed lines
    named: tuple[str, ...] = ()  # the first of those, with file and lines

    def plus(self, other: "Reading") -> "Reading":
        """Return the sums of both."""
        a, b, c, d, e, f, names = self
        return Reading(
            a + other.lines, b + other.records, c + other.rejected, d + other.continued, e + other.others,
            f + other.suspicious, (*names, *other.named)[:MAX_NAMED],
        )  # fmt: skip


class Batch(NamedTuple):
    """A piece of a manifest: accepted rows and refused lines. Either table may be empty."""

    candidates: pa.Table  # Columns.schema
    rejected: pa.Table  # schema.REJECTED_SCHEMA
    reading: Reading = Reading()


class Reject(NamedTuple):
    """One refused line (for Parquet: record), `line_number` from 1."""

    line_number: int
    raw: str
    reason: str


Row = tuple[Any, ...]


class Rows(NamedTuple):
    """The candidate rows of one line. A row_id of None is made from the line's number and the position."""

    line_number: int
    rows: list[Row]
    positions: Sequence[int] = ()  # of each row in the item's list of images, from 1; (): there is no list
    num_lines: int = 1  # physical lines of the record
    suspicious: bool = False


# The short form (line number, row) is for the usual record: one line, one row, nothing special. There are millions.
Event = tuple[int, Row] | Rows | Reject
_LONG_FORMS = (Rows, Reject)


@dataclass(frozen=True)
class Columns:
    """How a manifest's columns become the candidate table. Made by `inspect_manifest`; can be pickled."""

    found: tuple[str, ...]  # the manifest's own columns
    mapping: dict[str, str]  # candidate column -> manifest column, only those that exist
    passthrough: tuple[tuple[str, pa.Field], ...]  # manifest column, stored field
    images: tuple[str, ...] = ()  # manifest columns of an item's images, when image_url is mapped to several
    inline: str = ""  # manifest column that holds the pictures themselves, when image_url is one

    @property
    def passthrough_fields(self) -> list[pa.Field]:
        """Stored passthrough fields, in order: what `schema.candidate_schema` takes."""
        return [field for _, field in self.passthrough]

    @property
    def schema(self) -> pa.Schema:
        """Schema of the candidate tables of this manifest."""
        return candidate_schema([*SOURCE_FIELDS, *self.passthrough_fields])


class Gathered:
    """Candidate rows on their way into a table, with the line and position of each."""

    def __init__(self, file: str, id_prefix: str) -> None:
        self.file, self.id_prefix = file, id_prefix
        self.rows: list[Row] = []
        self.lines: list[int] = []  # of each row
        self._positions: list[int | None] = []  # of the rows up to the last one of a list; None: no list

    def add(self, event: Rows) -> None:
        """Take the rows of one line."""
        if event.positions:
            self._positions += [None] * (len(self.rows) - len(self._positions))
            self._positions += event.positions
        self.rows += event.rows
        self.lines += [event.line_number] * len(event.rows)

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return the rows as a table of the schema; no rows give an empty one."""
        if not self.rows:
            return schema.empty_table()
        num_own = len(CANDIDATE_COLUMNS)
        values = list(zip(*self.rows, strict=True))
        lines = pa.array(self.lines, pa.int64())
        rest = [None] * (len(self.rows) - len(self._positions))
        positions = pa.array(self._positions + rest, pa.int32()) if self._positions else pa.nulls(len(rest), pa.int32())
        given = values[0][0] is not None
        row_ids = pa.array(values[0], pa.string()) if given else row_ids_of(self.id_prefix, lines, positions)
        source = [repeated(self.file, len(lines)), lines, positions]
        types = [f.type for f in schema if f not in SOURCE_FIELDS]
        arrays = [pa.array(v, kind) for v, kind in zip(values[1:], types[1:], strict=True)]
        ordered = [row_ids, *arrays[: num_own - 1], *source, *arrays[num_own - 1 :]]
        return pa.Table.from_arrays(ordered, schema=schema)


def row_ids_of(prefix: str, lines: pa.Array, positions: pa.Array) -> pa.Array:
    """Return `<prefix><line>`, and `:<position>` where there is one."""
    ids = lines.cast(pa.string())
    if positions.null_count < len(positions):
        ids = pc.binary_join_element_wise(ids, positions.cast(pa.string()), ":", null_handling="skip")
    return pc.binary_join_element_wise(prefix, ids, "") if prefix else ids


def repeated(text: str, num: int) -> pa.Array:
    """Return a string array of one value; surrogates of a file's name are written as escapes."""
    return pa.repeat(pa.scalar(storable(text), pa.string()), num)


def batches(
    events: Iterable[Event], columns: Columns, file: str, batch_rows: int, lines: Lines, id_prefix: str
) -> Iterator[Batch]:
    """Cut events into batches of about `batch_rows` candidate rows; the rows of one line stay together.

    Raises:
        ManifestError: no line of the first batch (at least two lines) can be decoded: the encoding is wrong.
    """
    schema, first = columns.schema, True
    cut = _Cut(file, id_prefix, lines)
    rows, numbers = cut.gathered.rows, cut.gathered.lines
    for event in events:
        if isinstance(event, _LONG_FORMS):
            cut.add(event)
        else:
            numbers.append(event[0])
            rows.append(event[1])
        if len(rows) >= batch_rows or len(cut.rejects) >= batch_rows or lines.num_bytes >= cut.until_byte:
            if first:
                _check_encoding(rows, cut.rejects, file)
            yield cut.batch(schema)
            cut, first = _Cut(file, id_prefix, lines), False
            rows, numbers = cut.gathered.rows, cut.gathered.lines
    if first:
        _check_encoding(rows, cut.rejects, file)
    if rows or cut.rejects or lines.num_lines > cut.lines_before:
        yield cut.batch(schema)


class _Cut:
    """What is read between two cuts of `batches`."""

    def __init__(self, file: str, id_prefix: str, lines: Lines) -> None:
        self.gathered = Gathered(file, id_prefix)
        self.rejects: list[Reject] = []
        self.lines_before, self.until_byte = lines.num_lines, lines.num_bytes + MAX_BATCH_BYTES
        self._lines = lines
        self._more_rows = self._continued = self._suspicious = 0
        self._named: list[str] = []

    def add(self, event: Rows | Reject) -> None:
        """Take an event of the long form."""
        if isinstance(event, Reject):
            self.rejects.append(event)
            return
        self.gathered.add(event)
        self._more_rows += len(event.rows) - 1
        self._continued += event.num_lines - 1
        if event.suspicious:
            self._suspicious += 1
            last = event.line_number + event.num_lines - 1
            self._named.append(f"{self.gathered.file} lines {event.line_number} to {last}")

    def batch(self, schema: pa.Schema) -> Batch:
        """Return all of it."""
        lines, rejected = self._lines.num_lines - self.lines_before, len(self.rejects)
        records = len(self.gathered.rows) - self._more_rows
        others = lines - records - rejected - self._continued
        named = tuple(self._named[:MAX_NAMED])
        reading = Reading(lines, records, rejected, self._continued, others, self._suspicious, named)
        return Batch(self.gathered.table(schema), rejected_table(self.rejects, self.gathered.file), reading)


def rejected_table(rejects: list[Reject], file: str) -> pa.Table:
    """Rejects of one file as a table of REJECTED_SCHEMA; `raw` is cut to MAX_RAW_CHARS."""
    columns = {
        "file": [storable(file)] * len(rejects),
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
