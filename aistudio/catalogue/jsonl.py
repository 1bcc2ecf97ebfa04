"""JSON lines: one object per line.

Types are not inferred from a few first lines, which breaks on the first odd one: passthrough columns are the
union of the keys of the first HEAD_LINES lines, stored as string. A string is kept as it is, null and a missing
key are null, anything else is its JSON text. Keys that first appear later are left out. Empty lines are skipped.

`NaN`, which is not JSON but what some writers make of a missing number, is null; `Infinity` is that text. An item_id
that is a whole float (1001.0, as pandas writes ids of a column with gaps) is the integer 1001.
"""

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.images import cells_of, image_list, with_images
from aistudio.catalogue.lines import Line, Lines
from aistudio.catalogue.table import Columns, Event, Reject, Rows
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

HEAD_LINES = 1000
TOO_DEEP = "not valid JSON: nested too deeply"
MAX_EXACT = 2**53  # up to here a float holds every integer
_CONSTANTS = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}


def inspect_jsonl(lines: Lines, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the keys of the first HEAD_LINES lines.

    Raises:
        ManifestError: none of them is a JSON object, or a column is missing.
    """
    keys: dict[str, None] = {}
    problem = "no lines"
    for line in islice(lines, HEAD_LINES):
        value = parse_object(line)
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
        elif problem == "no lines" and line.text.strip():
            problem = f"line {line.number}: {value}"
    if not keys:
        raise ManifestError(f"{file}: expected one JSON object per line, found none ({problem})")
    return resolve(list(keys), {}, settings, file)


def jsonl_events(lines: Lines, settings: ManifestSettings, columns: Columns) -> Iterator[Event]:
    """Candidate rows and rejects, one event per line."""
    for line in lines:
        if line.problem is None and not line.text.strip("\r\n"):
            continue
        value = parse_object(line)
        try:
            event = value if isinstance(value, str) else _rows(line.number, value, columns, settings)
        except RecursionError:  # parsed, but too deep to be written as text again
            event = TOO_DEEP
        yield Reject(line.number, line.text.rstrip("\r\n"), event) if isinstance(event, str) else event


def parse_object(line: Line) -> dict[str, Any] | str:
    """The line's object, or the reason why there is none."""
    if line.problem is not None:
        return line.problem
    try:
        value = json.loads(line.text, parse_constant=_CONSTANTS.get)
        # Only escapes can bring in what a decoded line cannot hold.
        escaped = json.dumps(value, ensure_ascii=False) if "\\u" in line.text else ""
    except RecursionError:
        return TOO_DEEP
    except ValueError as e:
        return f"not valid JSON: {e}"
    if not isinstance(value, dict):
        return f"not a JSON object but {type(value).__name__}"
    if any("\ud800" <= c <= "\udfff" for c in escaped):
        return "undecodable text: a lone surrogate escape"
    if escaped and any(isinstance(cell, str) and "\0" in cell for cell in value.values()):
        return "holds NUL"
    return value


def _rows(line_number: int, value: dict[str, Any], columns: Columns, settings: ManifestSettings) -> Rows | str:
    """The rows of an object, or the reason why there are none."""
    names = columns.images or (columns.mapping["image_url"],)
    cells = [value.get(name) for name in names]
    listed = bool(columns.images) or settings.image_separator is not None or isinstance(cells[0], list)
    row = candidate_row(value, columns, "" if listed else cells[0])
    if isinstance(row, str):
        return row
    if not listed:
        return Rows(line_number, [row]) if row[2] else "empty image_url"
    texts = cells_of(cells)
    if isinstance(texts, str):
        return texts
    images = image_list(texts, settings.image_separator)
    if not images:
        return "empty image_url"
    return Rows(line_number, with_images(row, images), [position for position, _ in images])


def candidate_row(value: dict[str, Any], columns: Columns, image: Any) -> tuple[Any, ...] | str:
    """The candidate row with `image` as its address, or the reason why there is none."""
    found: dict[str, str] = {}
    for column, name in columns.mapping.items():
        cell = image if column == "image_url" else value.get(name)
        if isinstance(cell, bool | list | dict):
            return f"{column} is not a string: {json.dumps(cell, ensure_ascii=False)[:100]}"
        found[column] = _id(cell) if column.endswith("_id") else _text(cell) or ""
    if not found["item_id"].strip():
        return "empty item_id"
    row_id = found.get("row_id")
    if row_id is not None and not row_id.strip():
        return "empty row_id"
    text, poi_names = found.get("text", ""), found.get("poi_names", "")
    return (
        row_id,
        found["item_id"],
        found["image_url"].strip(),
        found.get("fallback_url", "").strip() or None,
        text if text.strip() else "",
        poi_names if poi_names.strip() else None,
        *(_text(value.get(name)) for name, _ in columns.passthrough),
    )


def _id(cell: Any) -> str:
    """An id as text: a whole float is the integer that it stands for."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) <= MAX_EXACT:
        return str(int(cell))
    return _text(cell) or ""


def _text(cell: Any) -> str | None:
    if isinstance(cell, float):  # 1e400 is one that is infinite
        cell = _finite(cell)
    return cell if cell is None or isinstance(cell, str) else json_text(cell)


def json_text(value: Any) -> str:
    """The value as JSON: what JSON cannot hold (NaN) is null, an infinite number its name, other objects their text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {_finite(k) if isinstance(k, float) else k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
