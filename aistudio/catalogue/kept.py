"""How a manifest's own columns are stored beside the scores: types that Parquet, its readers and our jobs all take.

Most types stay as they are. Dictionary and run-end encoded columns become their values, extension types their
storage, view types plain ones, decimals decimal128, seconds milliseconds (Parquet has none); nested columns become
JSON text; intervals, decimals of more than 38 digits and columns of nulls become text.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from aistudio.values import json_text, value_text

_MAX_DECIMAL = 38  # digits of a decimal128, the most that common readers take


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type under which a column of type `kind` is stored; its own for what this returns."""
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    if t.is_dictionary(kind) or t.is_run_end_encoded(kind):
        return stored_type(kind.value_type)
    if t.is_decimal(kind):
        return pa.decimal128(max(kind.precision, kind.scale), kind.scale) if _fits(kind) else pa.string()
    if t.is_binary_view(kind):
        return pa.binary()
    if t.is_date64(kind):
        return pa.date32()
    if kind == pa.time32("s"):
        return pa.time32("ms")
    if t.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    return kind if _stays(kind) else pa.string()


def _fits(kind: pa.DataType) -> bool:
    return bool(kind.precision <= _MAX_DECIMAL and 0 <= kind.scale <= _MAX_DECIMAL)


def _stays(kind: pa.DataType) -> bool:
    t = pa.types
    simple = t.is_boolean(kind) or t.is_integer(kind) or t.is_floating(kind) or t.is_date(kind) or t.is_time(kind)
    spans = t.is_timestamp(kind) or t.is_duration(kind)
    return bool(simple or spans or t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind))


def stored_array(array: pa.Array) -> pa.Array:
    """Return the column as it is stored, of type `stored_type(array.type)`, one value for each row; never raises.

    A value that the stored type cannot hold (a timestamp in seconds beyond the milliseconds' range) becomes null.
    """
    if (parts := _encoded(array)) is not None:
        return stored_array(parts[0]).take(parts[1])
    array = plain_array(array)
    kind = stored_type(array.type)
    if kind == array.type and not pa.types.is_string(kind):
        return array
    if pa.types.is_nested(array.type):
        return _each(array, kind, lambda a, i: json_text(a[i]))
    if pa.types.is_string(kind):
        return text_array(array)
    try:
        return array.cast(kind)
    except pa.ArrowException:
        return _each(array, kind, lambda a, i: a.slice(i, 1).cast(kind)[0])


def text_array(array: pa.Array) -> pa.Array:
    r"""Return any column as text (string); bytes that are not UTF-8 come as `\xff`."""
    if (parts := _encoded(array)) is not None:
        return text_array(parts[0]).take(parts[1])
    array = plain_array(array)
    t = pa.types
    try:
        if t.is_string(array.type) or t.is_large_string(array.type) or t.is_string_view(array.type):
            return array.cast(pa.binary()).cast(pa.string())  # Parquet readers do not check that it is UTF-8
        return array.cast(pa.string())
    except pa.ArrowException:
        return _each(array, pa.string(), value_text)


def plain_array(array: pa.Array) -> pa.Array:
    """Return the values themselves of extension, dictionary and run-end encoded columns.

    Raises:
        pa.ArrowNotImplementedError: encoded values of a type that Arrow cannot repeat; stored_array can.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        return plain_array(array.storage)
    if (parts := _encoded(array)) is not None:
        return plain_array(parts[0]).take(parts[1])
    return array


def _encoded(array: pa.Array) -> tuple[pa.Array, pa.Array] | None:
    """Distinct values and each row's place among them, of a dictionary or run-end encoded column; None of others."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _encoded(array.storage)
    if pa.types.is_dictionary(array.type):
        return array.dictionary, array.indices
    if pa.types.is_run_end_encoded(array.type):
        rows = np.arange(array.offset, array.offset + len(array))
        return array.values, pa.array(np.searchsorted(array.run_ends.to_numpy(), rows, side="right"))
    return None


def _each(array: pa.Array, kind: pa.DataType, value: Callable[[pa.Array, int], object]) -> pa.Array:
    """The values one by one, null where one cannot be had."""
    values = []
    for i in range(len(array)):
        try:
            values.append(value(array, i) if array[i].is_valid else None)
        except Exception:  # noqa: BLE001 - one value must not cost the column
            values.append(None)
    return pa.array(values, kind)
