"""CSV, TSV and the paper's headerless recall CSV.

Quoting is RFC 4180's, read strictly: a quoted field may hold delimiters, line ends and doubled quotes. Where
quoting is broken (a quote that never closes, text after a closing quote), only the line in which the record
starts is rejected and reading goes on at the next line, so one stray quote does not swallow its neighbours.
Empty lines are skipped.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.lines import Line, Lines
from aistudio.catalogue.table import Columns, Event, Reject
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

DELIMITERS = {"csv": ",", "tsv": "\t", "poi_recall": ","}
POI_RECALL_COLUMNS = ("poi_id", "poi_name", "image_url", "rank_number", "width", "height", "extend")
POI_RECALL_TYPES = {"rank_number": pa.int64(), "width": pa.int64(), "height": pa.int64()}
POI_RECALL_DEFAULTS = {"item_id": "poi_id", "text": "poi_name", "image_url": "image_url"}
HEAD_LINES = 100  # looked at to decide whether a headerless file has this format at all

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # always fits int64


class Record(NamedTuple):
    """A record's fields, or why it has none; `lines` are the physical lines it came from."""

    lines: list[Line]
    fields: list[str]
    problem: str | None

    def rejected(self, reason: str) -> Reject:
        return Reject(self.lines[0].number, "".join(line.text for line in self.lines).rstrip("\r\n"), reason)


def inspect_delimited(lines: Lines, file: str, settings: ManifestSettings) -> Columns:
    """Columns of a CSV or TSV by its header, of poi_recall by its definition. Passthrough is string typed
    (poi_recall: int64 where the format says so).

    Raises:
        ManifestError: no usable header, a missing column, or no line of the head looks like poi_recall.
    """
    records = split_records(lines, DELIMITERS[settings.format])
    if settings.format != "poi_recall":
        return resolve(_header(records, file), {}, settings, file)
    width = len(POI_RECALL_COLUMNS)
    head = [record for _, record in zip(range(HEAD_LINES), records, strict=False)]
    if not any(record.problem is None and len(record.fields) == width for record in head):
        found = head[0].problem or f"{len(head[0].fields)} fields" if head else "no lines"
        raise ManifestError(
            f"{file}: not a poi_recall manifest: expected lines of {width} fields "
            f"({','.join(POI_RECALL_COLUMNS)}, no header), found {found}"
        )
    return resolve(POI_RECALL_COLUMNS, POI_RECALL_TYPES, settings, file, defaults=POI_RECALL_DEFAULTS)


def delimited_events(
    lines: Lines, file: str, settings: ManifestSettings, columns: Columns, start_row: int, id_prefix: str
) -> Iterator[Event]:
    """Candidate rows and rejects of a delimited file, one event per record.

    Raises:
        ManifestError: this file's header lacks a column that `columns` needs.
    """
    records = split_records(lines, DELIMITERS[settings.format])
    names = list(POI_RECALL_COLUMNS) if settings.format == "poi_recall" else _header(records, file)
    at = {column: _position(name, names, file) for column, name in columns.mapping.items()}
    extra = [
        (_position(name, names, file), pa.types.is_integer(field.type), name) for name, field in columns.passthrough
    ]
    n, width = start_row, len(names)
    for record in records:
        fields = record.fields
        if record.problem is not None:
            yield record.rejected(record.problem)
        elif len(fields) != width:
            yield record.rejected(f"wrong field count: {len(fields)}, expected {width}")
        else:
            row = _candidate(fields, at, extra, n, id_prefix)
            if isinstance(row, str):
                yield record.rejected(row)
            else:
                n += 1
                yield [row]


def _candidate(
    fields: list[str], at: dict[str, int], extra: list[tuple[int, bool, str]], n: int, id_prefix: str
) -> tuple[Any, ...] | str:
    """The candidate row of a record, or the reason why there is none."""
    item_id, image_url = fields[at["item_id"]], fields[at["image_url"]].strip()
    if not item_id.strip():
        return "empty item_id"
    if not image_url:
        return "empty image_url"
    row_id = fields[at["row_id"]] if "row_id" in at else f"{id_prefix}{n}"
    if not row_id.strip():
        return "empty row_id"
    fallback_url = fields[at["fallback_url"]].strip() or None if "fallback_url" in at else None
    text = fields[at["text"]] if "text" in at else ""
    poi_names = fields[at["poi_names"]] if "poi_names" in at else ""
    kept: list[Any] = []
    for position, is_number, name in extra:
        value: Any = fields[position]
        if is_number:
            value = value.strip()
            if value and not _INTEGER.fullmatch(value):
                return f"bad number: {name} is {value[:100]!r}"
            value = int(value) if value else None
        kept.append(value)
    return (row_id, item_id, image_url, fallback_url, text, poi_names if poi_names.strip() else None, *kept)


def split_records(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Records of a delimited file; raises nothing for any content.

    A field is at most `csv.field_size_limit()` characters (131,072 unless somebody changed it).
    """
    feed = _Feed(iter(lines))
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _UnreadableLine) as e:
            first, *rest = feed.record
            feed.again.extendleft(reversed(rest))
            yield Record([first], [], first.problem or _quoting_problem(str(e)))
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
        else:
            if fields:
                yield Record(feed.record, fields, None)
        feed.record = []


class _UnreadableLine(Exception):
    """Stops csv.reader at a line that has no text; never leaves this file."""


class _Feed:
    """Gives csv.reader its lines and remembers which of them the current record consists of."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self.record: list[Line] = []
        self.again: deque[Line] = deque()  # lines of a broken record, to be read once more
        self._lines = lines

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self._lines)
        self.record.append(line)
        if line.problem is not None:
            raise _UnreadableLine("a quoted field runs into an unreadable line")
        return line.text


def _quoting_problem(message: str) -> str:
    if "unexpected end" in message:
        return "bad quoting: a quoted field is never closed"
    if "expected after" in message:
        return "bad quoting: text after a closing quote"
    if "new-line" in message:
        return "a carriage return inside an unquoted field"
    return message


def _header(records: Iterator[Record], file: str) -> list[str]:
    record = next(records, None)
    if record is None:
        raise ManifestError(f"{file}: no header line: the file has only empty lines")
    if record.problem is not None:
        raise ManifestError(f"{file}: the header (line {record.lines[0].number}) cannot be read: {record.problem}")
    return [name.strip() or f"column_{i}" for i, name in enumerate(record.fields, 1)]


def _position(name: str, names: list[str], file: str) -> int:
    if name not in names:
        raise ManifestError(
            f"{file}: column {name!r} is missing here, though the manifest's first file has it; "
            f"columns found: {', '.join(names)}"
        )
    return names.index(name)
