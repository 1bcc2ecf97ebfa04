"""Values from a manifest are hostile until they pass here: links, script data, CSV cells, long names.

HTML escaping itself is jinja2's autoescape (page.py) and, in the browser, textContent.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

MAX_VALUE_CHARS = 10_000  # one value in a lightbox; more helps nobody and fattens every data file

# What could end a <script>, start a comment or break a line in an older JavaScript parser.
_SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def safe_link(url: object) -> str | None:
    """The URL when a person may be offered it as a link (http or https with a host), else None."""
    text = str(url or "")
    if any(ord(c) <= 0x20 for c in text.strip()):  # browsers drop tabs and newlines inside `java\tscript:`
        return None
    try:
        parts = urlsplit(text.strip())
        host = parts.hostname
    except ValueError:
        return None
    return text.strip() if parts.scheme.lower() in ("http", "https") and host else None


def clip(text: object, limit: int) -> str:
    """At most `limit` characters, the last one an ellipsis when something was cut."""
    value = "" if text is None else str(text)
    return value if len(value) <= limit else value[: limit - 1] + "…"


def plain(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinities become None, bytes a size, long text is clipped."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return clip(value, MAX_VALUE_CHARS)
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        return {clip(k, MAX_VALUE_CHARS): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):  # a NumPy scalar
        return plain(value.item())
    return clip(value, MAX_VALUE_CHARS)  # dates, decimals


def script_data(name: str, value: Any) -> bytes:
    """A JavaScript file that hands `value` to the page under `name`.

    Pages opened from disk may not fetch(), so data come as scripts that call back. The JSON is safe
    inside <script> too: no `</script>`, `<!--` or U+2028 survives.
    """
    body = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = f"AIStudio.receive({json.dumps(name)},{body.translate(_SCRIPT_ESCAPES)});\n"
    return text.encode("utf-8", errors="replace")  # a lone surrogate is no character


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file (UTF-8 with BOM, so that spreadsheets read Chinese) whose text cells cannot become formulas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_cell(h) for h in header])
    writer.writerows([_cell(v) for v in row] for row in rows)
    return out.getvalue().encode("utf-8-sig", errors="replace")


def _cell(value: Any) -> Any:
    value = plain(value)
    return "'" + value if isinstance(value, str) and value.startswith(_FORMULA_START) else value
