"""Arrow values as Python values, whatever the type: what Python cannot hold comes out as text.

`to_pylist()` and `as_py()` raise on a date after the year 9999, a zone that this machine does not know, nanoseconds
beyond pandas' range, bytes that are not UTF-8 and more. A column that is only kept beside the scores must not end a
job for that.
"""

import json
import math
from typing import Any

import pyarrow as pa

# A text that is a number, written as a number is: a double gives it back. `0012` and `+49` are names.
NUMBER_TEXT = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?$"
_UNREADABLE = "(not readable)"


def column_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the column's values as `to_pylist()` does, text in place of each that Python cannot hold."""
    try:
        return list(column.to_pylist())
    except Exception:  # noqa: BLE001 - each type fails in its own way
        return [plain_value(column, i) for i in range(len(column))]


def table_rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows as dicts, as `to_pylist()` does, text in place of each value that Python cannot hold."""
    columns = {name: column_values(table.column(i)) for i, name in enumerate(table.column_names)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain_value(column: pa.Array | pa.ChunkedArray, row: int) -> Any:
    """Return one value as Python has it, as text when Python cannot hold it, None for null."""
    try:
        return column[row].as_py()
    except Exception:  # noqa: BLE001 - each type fails in its own way
        return value_text(column, row)


def value_text(column: pa.Array | pa.ChunkedArray, row: int) -> str | None:
    """Return one value as text; bytes that are not UTF-8 as `\\xff`. None for null."""
    scalar = column[row]
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if isinstance(kind, pa.BaseExtensionType) and isinstance(column, pa.Array):
        return value_text(column.storage, row)
    if _is_text(kind):
        return str(scalar.as_buffer().to_pybytes().decode("utf-8", "backslashreplace"))
    if pa.types.is_nested(kind):
        return json_text(scalar)
    for attempt in (kind, pa.timestamp(kind.unit) if pa.types.is_timestamp(kind) else None):  # a zone may be unknown
        try:
            return str(column.slice(row, 1).cast(attempt).cast(pa.string())[0].as_py())
        except Exception:  # noqa: BLE001 - there are types without a cast
            continue
    try:
        return str(scalar.as_py())
    except Exception:  # noqa: BLE001 - the last resort below holds for every type
        return _UNREADABLE


def json_text(scalar: pa.Scalar) -> str | None:
    """Return a nested value as JSON; NaN, which JSON lacks, is null, infinities are text. None for null."""
    if not scalar.is_valid:
        return None
    try:
        return json.dumps(scalar.as_py(), ensure_ascii=False, default=str, allow_nan=False)
    except Exception:  # noqa: BLE001 - what Python or JSON cannot hold is looked for value by value
        return json.dumps(_json_value(scalar), ensure_ascii=False, default=str, allow_nan=False)


def _json_value(scalar: pa.Scalar) -> Any:
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_struct(kind):
        return _json_struct(scalar)
    if pa.types.is_map(kind):
        keys, items = scalar.values.field(0), scalar.values.field(1)
        return [[_json_value(k), _json_value(v)] for k, v in zip(keys, items, strict=True)]
    if pa.types.is_nested(kind) and hasattr(scalar, "values"):  # lists of every kind
        return [_json_value(v) for v in scalar.values]
    if pa.types.is_union(kind) or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return _json_value(scalar.value)
    if pa.types.is_floating(kind):
        number = float(scalar.as_py())
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        return None if math.isnan(number) else number
    if _is_text(kind):
        return plain_value(_one(scalar), 0)
    try:
        return plain_value(pa.array([scalar], kind), 0)
    except pa.ArrowException:  # runs of equal values within a struct
        return _UNREADABLE


def _json_struct(scalar: pa.Scalar) -> dict[str, Any]:
    """Fields by name; a name that occurs again gets its number, for a Python dict holds it once."""
    found: dict[str, Any] = {}
    for i in range(scalar.type.num_fields):
        name = scalar.type.field(i).name
        found[name if name not in found else f"{name}_{i}"] = _json_value(scalar[i])
    return found


def _one(scalar: pa.Scalar) -> pa.Array:
    """One text as an array, whose bytes need not be UTF-8."""
    data = scalar.as_buffer().to_pybytes()
    return pa.array([data.decode("utf-8", "backslashreplace")], pa.string())


def _is_text(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))
