"""Pictures in a column of a Parquet file: rows of a row group in the order in which a shard asks, read once.

A row group is decoded from its beginning, a few rows at a time, and what was passed by is kept for a while: rows are
asked for nearly in order. The column is one of bytes, or Hugging Face's struct {bytes, path}.
"""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.file_ranges import KeyLocks
from aistudio.images._fetched import FetchFailed
from aistudio.parts import Part, footer_mark
from aistudio.schema import Status
from aistudio.storable import error_text

_CURSORS = 4  # row groups being read at once
_KEPT_BYTES = 32 << 20  # of each, passed by and not asked for yet
_ROWS = 16  # decoded at a time
_FOOTERS = 64

Open = Callable[[str], BinaryIO]


class _Footer(NamedTuple):
    mark: str  # parts.footer_mark
    metadata: pq.FileMetaData
    ends: list[int]  # row after the last one of each row group, from 0


class RowReader:
    """Reads pictures by row number; for several threads at once."""

    def __init__(self, open_file: Open) -> None:
        """`open_file`: gives a seekable stream of a file; its FileNotFoundError and StoreError are handed through."""
        self._open = open_file
        self._lock, self._opening = threading.Lock(), KeyLocks()
        self._footers: OrderedDict[str, _Footer] = OrderedDict()
        self._cursors: OrderedDict[tuple[str, str, str, int], _Cursor] = OrderedDict()

    def read(self, place: str, part: Part, max_bytes: int) -> bytes:
        """The picture of a row, at most `max_bytes`. Raises FetchFailed, what opening raises, StoreError."""
        row, column = part.at, part.name
        mark, footer, ends = self._footer(place, part.mark)
        group = bisect.bisect_right(ends, row - 1)
        if row < 1 or group >= len(ends):
            raise FetchFailed(Status.NOT_FOUND, f"the file has {footer.num_rows:,} rows, none of number {row:,}")
        first = ends[group - 1] if group else 0
        key = (place, mark, column, group)
        with self._lock:
            cursor = self._cursors.pop(key, None) or _Cursor(lambda: self._opened(place, mark), footer, group, column)
            self._cursors[key] = cursor
            while len(self._cursors) > _CURSORS:
                self._cursors.popitem(last=False)
        found = cursor.row(row - 1 - first, max_bytes)
        if found is None and part.num_bytes:
            raise FetchFailed(
                Status.TOO_LARGE,
                f"the picture has {part.num_bytes:,} bytes and was not copied when the manifest was read, because of "
                "download.max_bytes; a new run with a larger one copies it",
            )
        if found is None:
            raise FetchFailed(Status.EMPTY, "the row holds no bytes of a picture")
        if isinstance(found, int):
            raise FetchFailed(Status.TOO_LARGE, f"the picture has {found:,} bytes; download.max_bytes is {max_bytes:,}")
        return found

    def _opened(self, place: str, mark: str) -> BinaryIO:
        """A stream of the file that had this footer."""
        stream = self._open(place)
        try:
            if footer_mark(stream) != mark:
                raise _replaced(place)
        except BaseException:
            stream.close()
            self._forget(place)
            raise
        return stream

    def _forget(self, place: str) -> None:
        with self._lock:
            self._footers.pop(place, None)

    def _footer(self, place: str, wanted: str) -> _Footer:
        with self._opening(place):
            with self._lock:
                known = self._footers.get(place)
            found = known if known and wanted in ("", known.mark) else self._read_footer(place)
        if wanted not in ("", found.mark):
            raise _replaced(place)
        return found

    def _read_footer(self, place: str) -> _Footer:
        with closing(self._open(place)) as stream:
            try:
                mark = footer_mark(stream)
                footer = pq.ParquetFile(stream).metadata
            except (OSError, pa.ArrowException) as e:
                raise _damaged(e) from None
        ends = list(accumulate(footer.row_group(i).num_rows for i in range(footer.num_row_groups)))
        with self._lock:
            found = self._footers[place] = _Footer(mark, footer, ends)
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return found


class _Cursor:
    """One column of one row group."""

    def __init__(self, open_file: Callable[[], BinaryIO], footer: pq.FileMetaData, group: int, column: str) -> None:
        self._open, self._footer, self._group, self._column = open_file, footer, group, column
        self._lock = threading.Lock()
        self._stream: BinaryIO | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next = self._bytes = 0
        self._kept: OrderedDict[int, bytes | int | None] = OrderedDict()  # number of a row -> bytes, or their number

    def __del__(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def row(self, number: int, max_bytes: int) -> bytes | int | None:
        """Bytes of a row (from 0), their number where they are too many, None where there are none."""
        with self._lock:
            if number not in self._kept and (self._stream is None or number < self._next):
                self._begin()
            while number not in self._kept:
                self._decode(number, max_bytes)
            found = self._kept.pop(number)
            self._bytes -= len(found) if isinstance(found, bytes) else 0
            return found

    def _begin(self) -> None:
        self._drop()
        self._stream = self._open()
        try:
            file = pq.ParquetFile(self._stream, metadata=self._footer, buffer_size=1 << 20, pre_buffer=False)
            column = self._leaf(file.schema_arrow)
            self._batches = file.iter_batches(_ROWS, row_groups=[self._group], columns=[column], use_threads=False)
        except BaseException as e:
            self._drop()
            if isinstance(e, OSError | pa.ArrowException):
                raise _damaged(e) from None
            raise
        self._next = 0

    def _leaf(self, schema: pa.Schema) -> str:
        place = schema.get_field_index(self._column)
        if place < 0:
            raise FetchFailed(Status.NOT_FOUND, f"the file has no column {self._column!r}, or several")
        return f"{self._column}.bytes" if pa.types.is_struct(schema.field(place).type) else self._column

    def _decode(self, wanted: int, max_bytes: int) -> None:
        try:
            batch = next(self._batches)
            values = list(values_of(batch.column(0)))
        except BaseException as e:  # whatever it is, the next row begins anew
            self._drop()
            if isinstance(e, StopIteration):
                raise FetchFailed(Status.TRUNCATED_IMAGE, "the Parquet file ends before this row") from None
            if isinstance(e, OSError | pa.ArrowException) and not isinstance(e, FileNotFoundError):
                raise _damaged(e) from None
            raise
        for value in values:
            found = self._kept[self._next] = within(value, max_bytes)
            self._bytes += len(found) if isinstance(found, bytes) else 0
            self._next += 1
        while self._bytes > _KEPT_BYTES and (oldest := next(iter(self._kept))) < wanted:
            dropped = self._kept.pop(oldest)
            self._bytes -= len(dropped) if isinstance(dropped, bytes) else 0

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def values_of(array: pa.Array) -> Iterator[Any]:
    """Yield the values of a column of bytes, or of structs of nothing but bytes, as buffers; None for nulls."""
    while isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_struct(array.type):
        array = array.flatten()[0]  # the field alone, null where the struct is
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    for value in array:
        yield value.as_buffer()


def within(value: Any, max_bytes: int) -> bytes | int | None:
    """Return a buffer's bytes, their number where they are too many, None where there are none."""
    if value is None or not len(value):
        return None
    return value.to_pybytes() if len(value) <= max_bytes else len(value)


def _replaced(place: str) -> FetchFailed:
    return FetchFailed(Status.NOT_FOUND, f"{place} is another file than when the manifest was read")


def _damaged(e: Exception) -> FetchFailed:
    return FetchFailed(Status.TRUNCATED_IMAGE, f"the Parquet file is damaged here: {error_text(e, 200)}")
