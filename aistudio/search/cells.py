"""Cells of a user's table as texts, numbers and vectors, whatever they are: what is none becomes None or NaN."""

import json
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.search.searched import text_of, texts_of
from aistudio.storable import storable_text
from aistudio.values import column_values

Cells = Any  # an Arrow array, or a sequence of Python values

_BETWEEN = re.compile(r"[\s,;]+")
_LISTS = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip


def texts(cells: Cells) -> list[str | None]:
    """Return cells as storable texts, as `texts_of` has them (3.0 is "3"); None for null and for nothing but blanks."""
    values = column_values(texts_of(cells)) if isinstance(cells, pa.Array) else [_text(v) for v in cells]
    return [None if v is None or not v.strip() else storable_text(v, 6 * len(v)) for v in values]


def numbers(cells: Cells) -> NDArray[np.float64]:
    """Return cells as numbers, (N,) float64; NaN for what is no finite number."""
    if isinstance(cells, pa.Array):
        kind = cells.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            found = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return np.where(np.isfinite(found), found, np.nan)
        cells = column_values(cells)
    return np.array([_number(value) for value in cells], np.float64)


def vectors(cells: Cells) -> pa.ListArray:
    """Return cells as lists of float64, null for what is no list of numbers; numbers in it may be NaN or infinite."""
    kind = pa.list_(pa.float64())
    if isinstance(cells, pa.Array):
        inner = getattr(cells.type, "value_type", None)
        plain = inner is not None and (pa.types.is_floating(inner) or pa.types.is_integer(inner))
        if plain and any(test(cells.type) for test in _LISTS):
            return cells.cast(kind, safe=False)
        cells = column_values(cells)
    return pa.array([_vector(value) for value in cells], kind)


def nested(value: Any) -> bool:
    """Whether a cell of a CSV or JSON file looks like a vector: a list, or several numbers in one text."""
    return isinstance(value, list) or (
        isinstance(value, str) and _number(value) != _number(value) and bool(_vector(value))
    )


def _text(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else text_of(value)


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" not in value:  # 1_000 is Python's alone
        try:
            value = float(value)
        except ValueError:
            return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return math.nan
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an integer of 400 digits, a signalling NaN
        return math.nan
    return number if math.isfinite(number) else math.nan


def _vector(value: Any) -> list[float] | None:
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else [part for part in _BETWEEN.split(text) if part]
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return found.tolist() if found.ndim == 1 else None
