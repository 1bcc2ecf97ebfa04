"""Pictures in a column of a Lance data set: neighbouring rows by one read, shared by the threads that want them.

The column is one of bytes, Hugging Face's struct {bytes, path}, or of Lance's blobs, whose sizes are known before they
are read. Rows are asked for nearly in order, so a block of them is kept until each was given away or room is needed.
"""

import threading
import time
from collections import OrderedDict
from contextlib import closing
from typing import Any, NamedTuple

import pyarrow as pa

from aistudio.config import StoreSettings
from aistudio.file_ranges import KeyLocks
from aistudio.images._fetched import FetchFailed
from aistudio.images._parquet_rows import values_of, within
from aistudio.lance_data import LanceError, Version, is_blob, lance_errors, open_lance
from aistudio.parts import Part
from aistudio.schema import Status
from aistudio.storable import error_text

_MOST_ROWS = 16  # of a block
_BLOCK_BYTES = 4 << 20  # of a block, about
_MOST_BLOCKS = 64  # kept
_KEPT_BYTES = 64 << 20  # of all of them
_MOST_OPEN = 16  # data sets
_FRESH_S = 300.0  # a role's keys end; a data set that has been open for longer is opened anew

_STATUS = {
    "missing": Status.NOT_FOUND,
    "denied": Status.ACCESS_DENIED,
    "lost": Status.CONNECTION_ERROR,
    "damaged": Status.TRUNCATED_IMAGE,
}
Found = bytes | int | None  # a picture's bytes, their number where they are too many, None where there are none


class _Open(NamedTuple):
    version: Version
    num_rows: int
    block_rows: int
    since: float


class LanceReader:
    """Reads pictures by row number; for several threads at once."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._lock, self._busy = threading.Lock(), KeyLocks()
        self._open: OrderedDict[tuple[str, str], _Open] = OrderedDict()
        self._blocks: OrderedDict[tuple[str, str, str, int], dict[int, Found]] = OrderedDict()

    def read(self, place: str, part: Part, max_bytes: int) -> bytes:
        """Return the picture of a row, at most `max_bytes`. Raises FetchFailed, StoreError."""
        try:
            found = self._row(place, part, max_bytes)
        except LanceError as e:
            raise FetchFailed(_STATUS[e.kind], error_text(e, 400), retry=e.kind == "lost") from None
        if found is None:
            raise FetchFailed(Status.EMPTY, "the row holds no bytes of a picture")
        if isinstance(found, int):
            text = f"the picture has {found:,} bytes; download.max_bytes is {max_bytes:,}"
            raise FetchFailed(Status.TOO_LARGE, text)
        return found

    def _row(self, place: str, part: Part, max_bytes: int) -> Found:
        opened = self._opened(place, part.mark)
        row = part.at - 1
        if not 0 <= row < opened.num_rows:
            text = f"the data set has {opened.num_rows:,} rows, none of number {part.at:,}"
            raise FetchFailed(Status.NOT_FOUND, text)
        schema = opened.version.data.schema
        if schema.names.count(part.name) != 1:
            raise FetchFailed(Status.NOT_FOUND, f"the data set has no column {part.name!r}, or several")
        if is_blob(schema.field(part.name)):
            return _blob(place, opened.version, part.name, row, max_bytes)
        key = (place, part.mark, part.name, row // opened.block_rows)
        with self._busy(key):
            with self._lock:
                block = self._blocks.pop(key, None)
            if block is None or row not in block:
                block = _block(place, opened, part.name, row, max_bytes)
            found = block.pop(row)
            if block:
                self._keep(key, block)
        return found

    def _keep(self, key: tuple[str, str, str, int], block: dict[int, Found]) -> None:
        with self._lock:
            self._blocks[key] = block
            held = sum(_num_bytes(b) for b in self._blocks.values())
            while len(self._blocks) > 1 and (held > _KEPT_BYTES or len(self._blocks) > _MOST_BLOCKS):
                held -= _num_bytes(self._blocks.popitem(last=False)[1])

    def _opened(self, place: str, mark: str) -> _Open:
        """The version that a mark names. Raises FetchFailed where another data set is there."""
        key = (place, mark)
        with self._busy(key):
            with self._lock:
                known = self._open.get(key)
            if known is not None and time.monotonic() - known.since < _FRESH_S:
                return known
            version = open_lance(place, self._settings, int(mark.partition("-")[0]))
            if version.mark != mark:
                text = f"{place} is another data set than when the manifest was read"
                raise FetchFailed(Status.NOT_FOUND, text)
            with lance_errors(place):
                num_rows = version.data.count_rows()
            rows = _BLOCK_BYTES * num_rows // max(1, version.num_bytes)
            found = _Open(version, num_rows, min(_MOST_ROWS, max(1, rows)), time.monotonic())
            with self._lock:
                self._open[key] = found
                while len(self._open) > _MOST_OPEN:
                    self._open.popitem(last=False)
            return found


def _block(place: str, opened: _Open, column: str, row: int, max_bytes: int) -> dict[int, Found]:
    """The pictures of a row and its neighbours; of the row alone where one of these is damaged."""
    first = row - row % opened.block_rows
    rows = list(range(first, min(opened.num_rows, first + opened.block_rows)))
    try:
        return _taken(place, opened.version, column, rows, max_bytes)
    except LanceError as e:
        if e.kind != "damaged" or len(rows) == 1:
            raise
    return _taken(place, opened.version, column, [row], max_bytes)


def _taken(place: str, version: Version, column: str, rows: list[int], max_bytes: int) -> dict[int, Found]:
    with lance_errors(place):
        table: Any = version.data.take(rows, columns=[column])
        values = [within(value, max_bytes) for chunk in table.column(0).chunks for value in values_of(_bytes_of(chunk))]
    if len(values) != len(rows):
        raise LanceError(f"{place}: {len(values)} rows came of {len(rows)} asked for", "damaged")
    return dict(zip(rows, values, strict=True))


def _bytes_of(array: pa.Array) -> pa.Array:
    """The field `bytes` of structs, null where the struct is; any other column as it is."""
    if not pa.types.is_struct(array.type):
        return array
    return array.flatten()[array.type.get_field_index("bytes")]


def _blob(place: str, version: Version, column: str, row: int, max_bytes: int) -> Found:
    with lance_errors(place):
        [file] = version.data.take_blobs(column, indices=[row])
        if file is None:
            return None
        with closing(file):
            size = int(file.size())
            data = bytes(file.readall()) if 0 < size <= max_bytes else b""
    if size > max_bytes:
        return size
    if len(data) < size:
        raise LanceError(f"{place}: {len(data):,} of a picture's {size:,} bytes are there", "damaged")
    return data or None


def _num_bytes(block: dict[int, Found]) -> int:
    return sum(len(value) for value in block.values() if isinstance(value, bytes))
