"""Arrow's types as the Parquet reader sees them: what a column holds, as what it is stored, ids as text."""

import pyarrow as pa

from aistudio.catalogue.jsonl import MAX_EXACT


def id_texts(array: pa.Array) -> pa.Array:
    """Ids of a column of floats: whole ones as integers, NaN as null."""
    if not pa.types.is_floating(array.type):
        return array
    numbers = array.cast(pa.float64()).to_pylist()
    return pa.array([_id(number) for number in numbers], pa.string())


def _id(number: float | None) -> str | None:
    if number is None or number != number:
        return None
    return str(int(number)) if number.is_integer() and abs(number) <= MAX_EXACT else repr(number)


def bare_type(kind: pa.DataType) -> pa.DataType:
    """The type without extension and dictionary."""
    if isinstance(kind, pa.BaseExtensionType):
        return bare_type(kind.storage_type)
    return bare_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def stored_type(kind: pa.DataType) -> pa.DataType:
    kind = bare_type(kind)
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.string() if is_nested(kind) or pa.types.is_null(kind) or is_string(kind) else kind


def plain(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        return plain(array.storage)
    return plain(array.dictionary_decode()) if pa.types.is_dictionary(array.type) else array


def is_nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind))


def is_list(kind: pa.DataType) -> bool:
    t = pa.types
    views = t.is_list_view(kind) or t.is_large_list_view(kind)
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or views)


def is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind) or t.is_fixed_size_binary(kind))
