"""Columns in types that other programs read: numbers, texts, bytes, dates. All else becomes text, JSON where nested."""

import json

import pyarrow as pa

from aistudio.schema import CROP_TYPE
from aistudio.search.alignment import whole
from aistudio.search.searched import texts_of

_ZONES = (None, "UTC")  # other names of zones are not known everywhere


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column of this type is exported as; `string` for what is written as text."""
    t = pa.types
    if t.is_float16(kind):
        return pa.float32()
    if t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
        return pa.binary()
    kept = any(test(kind) for test in (t.is_integer, t.is_floating, t.is_boolean, t.is_binary, t.is_date32))
    kept = kept or kind == CROP_TYPE or (t.is_timestamp(kind) and kind.tz in _ZONES)
    return kind if kept else pa.string()


def plain(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Return a column as `plain_type(its type)`; bytes that are no UTF-8 in a text are written as `\\xff`."""
    array = whole(column) if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_string(kind):
        return array if array.type == kind else array.cast(kind)
    texts = texts_of(array)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        raw = texts.cast(pa.binary()).to_pylist()
        texts = pa.array([None if b is None else b.decode("utf-8", "backslashreplace") for b in raw], pa.string())
    return texts


def json_bytes(row: dict[str, object]) -> bytes:
    """Return a row as JSON in UTF-8: NaN and infinities are null, bytes are hexadecimal, dates as they are written."""
    from aistudio.store import storable_json

    def told(value: object) -> str:
        return value.hex() if isinstance(value, bytes) else str(value)

    return json.dumps(storable_json(row), ensure_ascii=False, allow_nan=False, default=told).encode()
