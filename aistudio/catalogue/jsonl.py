"""JSON lines: one object per line.

Types are not inferred from a few first lines, which breaks on the first odd one: passthrough columns are the
union of the keys of the first HEAD_LINES lines, stored as string. A string is kept as it is, null and a missing
key are null, anything else is its JSON text. Keys that first appear later are left out. Empty lines are skipped.
"""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.lines import Line, Lines
from aistudio.catalogue.table import Columns, Event, Reject
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

HEAD_LINES = 1000
TOO_DEEP = "not valid JSON: nested too deeply"


def inspect_jsonl(lines: Lines, file: str, settings: ManifestSettings) -> Columns:
    """Columns by the keys of the first HEAD_LINES lines.

    Raises:
        ManifestError: none of them is a JSON object, or a column is missing.
    """
    keys: dict[str, None] = {}
    problem = "no lines"
    for line in islice(lines, HEAD_LINES):
        value = _parse(line)
        if isinstance(value, dict):
            keys.update(dict.fromkeys(value))
        elif problem == "no lines" and line.text.strip():
            problem = f"line {line.number}: {value}"
    if not keys:
        raise ManifestError(f"{file}: expected one JSON object per line, found none ({problem})")
    return resolve(list(keys), {}, settings, file)


def jsonl_events(lines: Lines, columns: Columns, start_row: int, id_prefix: str) -> Iterator[Event]:
    """Candidate rows and rejects, one event per line."""
    n = start_row
    for line in lines:
        if line.problem is None and not line.text.strip("\r\n"):
            continue
        value = _parse(line)
        try:
            row = value if isinstance(value, str) else _candidate(value, columns, n, id_prefix)
        except RecursionError:  # parsed, but too deep to be written as text again
            row = TOO_DEEP
        if isinstance(row, str):
            yield Reject(line.number, line.text.rstrip("\r\n"), row)
        else:
            n += 1
            yield [row]


def _parse(line: Line) -> dict[str, Any] | str:
    """The line's object, or the reason why there is none."""
    if line.problem is not None:
        return line.problem
    try:
        value = json.loads(line.text, parse_constant=_refuse)
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


def _candidate(value: dict[str, Any], columns: Columns, n: int, id_prefix: str) -> tuple[Any, ...] | str:
    found: dict[str, str] = {}
    for column, name in columns.mapping.items():
        cell = value.get(name)
        if isinstance(cell, bool | list | dict):
            return f"{column} is not a string: {json.dumps(cell, ensure_ascii=False)[:100]}"
        found[column] = _text(cell) or ""
    item_id, image_url = found["item_id"], found["image_url"].strip()
    if not item_id.strip():
        return "empty item_id"
    if not image_url:
        return "empty image_url"
    row_id = found.get("row_id", f"{id_prefix}{n}")
    if not row_id.strip():
        return "empty row_id"
    poi_names = found.get("poi_names", "")
    return (
        row_id,
        item_id,
        image_url,
        found.get("fallback_url", "").strip() or None,
        found.get("text", ""),
        poi_names if poi_names.strip() else None,
        *(_text(value.get(name)) for name, _ in columns.passthrough),
    )


def _text(cell: Any) -> str | None:
    if cell is None or isinstance(cell, str):
        return cell
    return json.dumps(cell, ensure_ascii=False)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
