"""CSV, TSV and the paper's headerless recall CSV: records become candidate rows.

How a line's text is cut into fields, and what a quote means, is records.py's. Empty lines are skipped.
"""

import re
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import pyarrow as pa

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.images import image_list, with_images
from aistudio.catalogue.lines import Lines
from aistudio.catalogue.records import Record, records
from aistudio.catalogue.table import Columns, Event, Rows
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

DELIMITERS = {"csv": ",", "tsv": "\t", "poi_recall": ","}
POI_RECALL_COLUMNS = ("poi_id", "poi_name", "image_url", "rank_number", "width", "height", "extend")
POI_RECALL_TYPES = {"rank_number": pa.int64(), "width": pa.int64(), "height": pa.int64()}
POI_RECALL_DEFAULTS = {"item_id": "poi_id", "text": "poi_name", "image_url": "image_url"}
HEAD_LINES = 100  # looked at to decide whether a headerless file has this format at all
# A record this long is more likely a quote that never closed than a text: it is stored, counted and said.
MAX_RECORD_LINES = 20
MAX_RECORD_CHARS = 64_000

_OPTIONAL = ("row_id", "fallback_url", "text", "poi_names")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # always fits int64


def inspect_delimited(lines: Lines, file: str, settings: ManifestSettings) -> Columns:
    """Columns of a CSV or TSV by its header, of poi_recall by its definition. Passthrough is string typed
    (poi_recall: int64 where the format says so).

    Raises:
        ManifestError: no usable header, a missing column, or no line of the head looks like poi_recall.
    """
    width = len(POI_RECALL_COLUMNS)
    found = records(lines, DELIMITERS[settings.format], settings, width if settings.format == "poi_recall" else None)
    if settings.format != "poi_recall":
        return resolve(_header(found, file), {}, settings, file)
    head = [record for _, record in zip(range(HEAD_LINES), found, strict=False)]
    if not any(record.problem is None and len(record.fields) == width for record in head):
        what = head[0].problem or f"{len(head[0].fields)} fields" if head else "no lines"
        raise ManifestError(
            f"{file}: not a poi_recall manifest: expected lines of {width} fields "
            f"({','.join(POI_RECALL_COLUMNS)}, no header), found {what}"
        )
    return resolve(POI_RECALL_COLUMNS, POI_RECALL_TYPES, settings, file, defaults=POI_RECALL_DEFAULTS)


def delimited_events(lines: Lines, file: str, settings: ManifestSettings, columns: Columns) -> Iterator[Event]:
    """Candidate rows and rejects of a delimited file, one event per record.

    Raises:
        ManifestError: this file's header lacks a column that `columns` needs.
    """
    headerless = settings.format == "poi_recall"
    width = len(POI_RECALL_COLUMNS) if headerless else None
    found = records(lines, DELIMITERS[settings.format], settings, width)
    names = list(POI_RECALL_COLUMNS) if headerless else _header(found, file)
    make, width = _Candidates(names, columns, settings, file), len(names)
    one_image = not columns.images and settings.image_separator is None
    for record in found:
        lines_of, fields, problem = record
        if problem is not None:
            yield record.rejected(problem)
        elif len(fields) != width:
            yield record.rejected(f"wrong field count: {len(fields)}, expected {width}")
        else:
            row = make.row(fields)
            if isinstance(row, str):
                yield record.rejected(row)
            elif one_image and len(lines_of) == 1:
                yield lines_of[0].number, row
            else:
                yield make.rows(row, record)


class _Candidates:
    """Makes candidate rows from the fields of one file."""

    def __init__(self, names: list[str], columns: Columns, settings: ManifestSettings, file: str) -> None:
        at = {column: _position(name, names, file) for column, name in columns.mapping.items()}
        self._item_id, self._image_url = at["item_id"], at["image_url"]
        self._row_id, self._fallback_url, self._text, self._poi_names = map(at.get, _OPTIONAL)
        kept = [(_position(name, names, file), field) for name, field in columns.passthrough]
        self._kept = _getter([i for i, _ in kept])
        self._numbers = [(k, names[i]) for k, (i, field) in enumerate(kept) if pa.types.is_integer(field.type)]
        self._images = [_position(name, names, file) for name in columns.images]
        self._separator = settings.image_separator
        self._delimiter = DELIMITERS[settings.format]
        self._width = len(names)

    def row(self, fields: list[str]) -> tuple[Any, ...] | str:
        """The candidate row of a record's fields, or the reason why there is none.

        Of a list of images, image_url is the first, to be taken apart by `rows`.
        """
        item_id, image_url = fields[self._item_id], fields[self._image_url].strip()
        if not item_id.strip():
            return "empty item_id"
        if not image_url and not any(fields[i].strip() for i in self._images):
            return "empty image_url"
        row_id = None if self._row_id is None else fields[self._row_id]
        if row_id is not None and not row_id.strip():
            return "empty row_id"
        fallback_url = None if self._fallback_url is None else fields[self._fallback_url].strip() or None
        text = "" if self._text is None else fields[self._text]
        poi_names = None if self._poi_names is None else fields[self._poi_names]
        plain = self._kept(fields)
        kept = _with_numbers(plain, self._numbers) if self._numbers else plain
        if isinstance(kept, str):
            return kept
        if text.isspace():
            text = ""
        if poi_names is not None and not poi_names.strip():
            poi_names = None
        return (row_id, item_id, image_url, fallback_url, text, poi_names, *kept)

    def rows(self, row: tuple[Any, ...], record: Record) -> Event:
        """The rows of a record of several lines, or of several images."""
        line, num_lines = record.lines[0].number, len(record.lines)
        suspicious = num_lines > 1 and self._suspicious(record)
        if not self._images and self._separator is None:
            return Rows(line, [row], (), num_lines, suspicious)
        images = image_list([record.fields[i] for i in self._images or [self._image_url]], self._separator)
        if not images:  # nothing but separators
            return record.rejected("empty image_url")
        return Rows(line, with_images(row, images), [position for position, _ in images], num_lines, suspicious)

    def _suspicious(self, record: Record) -> bool:
        """Whether a record of several lines is very long, or a later line of it looks like a record of its own."""
        if len(record.lines) > MAX_RECORD_LINES or sum(len(line.text) for line in record.lines) > MAX_RECORD_CHARS:
            return True
        at = self._image_url
        for line in record.lines[1:]:
            fields = line.text.rstrip("\r\n").split(self._delimiter)
            if len(fields) == self._width and _like(fields[at], record.fields[at]):
                return True
        return False


def _getter(positions: list[int]) -> Callable[[list[str]], tuple[Any, ...]]:
    """A function that takes these fields."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda fields: tuple(fields[i] for i in positions)


def _with_numbers(kept: tuple[Any, ...], numbers: list[tuple[int, str]]) -> tuple[Any, ...] | str:
    """The kept fields with some of them as numbers, or why that cannot be."""
    values = list(kept)
    for k, name in numbers:
        value = values[k].strip()
        if value and not _INTEGER.fullmatch(value):
            return f"bad number: {name} is {value[:100]!r}"
        values[k] = int(value) if value else None
    return tuple(values)


def _like(a: str, b: str) -> bool:
    """Whether two fields may both be addresses of pictures: the same beginning, of a fair length."""
    beginning = b.strip()[:4]
    return len(beginning) == 4 and a.strip().startswith(beginning)


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
