"""Lines of a delimited file -> records of fields, and what a quote means (`manifest.quoting`).

full: RFC 4180, read strictly. A quoted field may hold delimiters, line ends and doubled quotes. Where quoting is
broken (a quote that never closes, text after a closing quote), only the line in which the record starts is rejected and
reading goes on at the next line, so one stray quote does not swallow its neighbours.

line: a record is a line. A field counts as quoted when it is quoted from end to end, as spreadsheets write it; any
other quote is a character like any other (IANA's text/tab-separated-values has no quoting at all). The reading that
gives as many fields as the header has is taken.

none: a quote is always a character like any other.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aistudio.catalogue.lines import Line, Lines
from aistudio.catalogue.table import Reject
from aistudio.config import ManifestSettings

_QUOTED = '"(?:[^"]|"")*"'


class Record(NamedTuple):
    """A record's fields, or why it has none; `lines` are the physical lines it came from."""

    lines: list[Line]
    fields: list[str]
    problem: str | None

    def rejected(self, reason: str) -> Reject:
        return Reject(self.lines[0].number, "".join(line.text for line in self.lines).rstrip("\r\n"), reason)


def records(lines: Lines, delimiter: str, settings: ManifestSettings, width: int | None) -> Iterator[Record]:
    """Yield the records of a file; raises nothing for any content. Empty lines are left out.

    Args:
        width: number of fields of a record; None: as many as the first one has.
    """
    quoting = settings.quoting
    if quoting == "auto":
        quoting = "line" if settings.format == "tsv" else "full"
    if quoting == "full":
        return split_records(lines, delimiter)
    return _line_records(lines, delimiter, quoting == "line", width)


def _line_records(lines: Iterable[Line], delimiter: str, quotes: bool, width: int | None) -> Iterator[Record]:
    end = re.escape(delimiter)
    field = re.compile(f"(?:^|{end})({_QUOTED}(?={end}|$)|[^{end}]*)")
    quoted = re.compile(_QUOTED)
    for line in lines:
        text = line.text.removesuffix("\n").removesuffix("\r")
        if line.problem is not None:
            yield Record([line], [], line.problem)
        elif "\r" in text:
            yield Record([line], [], "a carriage return inside a line")
        elif text:
            fields = text.split(delimiter)
            if quotes and '"' in text:
                by_quotes = field.findall(text)
                fields = fields if len(fields) == width and len(by_quotes) != width else by_quotes
                fields = [f[1:-1].replace('""', '"') if quoted.fullmatch(f) else f for f in fields]
            width = width or len(fields)
            yield Record([line], fields, None)


def split_records(lines: Iterable[Line], delimiter: str) -> Iterator[Record]:
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
