"""The paper's ranking pairs: two images of one item and their click rates on a line.

Each line becomes two candidate rows, side a and side b, or one reject: a pair is never torn. Which of the
two is better is for the metrics to say.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.lines import Lines
from aistudio.catalogue.table import Columns, Event, Reject, Rows
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

SEPARATOR = "$record$"
FIELDS = ("item_id", "url_a", "url_b", "ctr_a", "ctr_b", "title", "cate_name", "oss_url", "oss_url2", "poi_names")
HEAD_LINES = 100
# What a candidate row can be made of: the fields that both sides share, and three made here.
_OFFERED = ("pair_id", "side", "ctr", "cate_name", "item_id", "title", "poi_names")
_DEFAULTS = {"item_id": "item_id", "text": "title", "poi_names": "poi_names"}
_SIDES = (("a", "oss_url", "url_a", "ctr_a"), ("b", "oss_url2", "url_b", "ctr_b"))


def inspect_pairs(lines: Lines, file: str, settings: ManifestSettings) -> Columns:
    """Columns of a pair file: passthrough pair_id, side, ctr (float64), cate_name.

    Raises:
        ManifestError: no line of the head has ten fields, or the mapping names an unknown field.
    """
    head = list(islice(lines, HEAD_LINES))
    counts = [line.text.strip().count(SEPARATOR) + 1 for line in head if line.problem is None and line.text.strip()]
    if len(FIELDS) not in counts:
        found = f"{counts[0]} field(s)" if counts else "no readable lines"
        raise ManifestError(
            f"{file}: not a ranking_pairs manifest: expected lines of {len(FIELDS)} fields split by {SEPARATOR} "
            f"({', '.join(FIELDS)}), found {found}"
        )
    fixed = ("image_url", "fallback_url")
    return resolve(_OFFERED, {"ctr": pa.float64()}, settings, file, defaults=_DEFAULTS, fixed=fixed)


def pair_events(lines: Lines, columns: Columns, id_prefix: str) -> Iterator[Event]:
    """Two rows per line, with row ids `<line>:a` and `<line>:b`; pair_id is `<item_id>#<line>`.

    item_id alone may come twice in a file, and a stream cannot know, so the number is always in pair_id.
    The oss URLs are the durable copies; the others are the fallback, or stand in where there is no oss URL.
    Blanks at both ends of the line are dropped before splitting, so poi_names loses the ones at its end and
    keeps the ones at its start, as in the published data set class.
    """
    for line in lines:
        text = line.text.strip()
        if line.problem is not None:
            yield Reject(line.number, line.text.rstrip("\r\n"), line.problem)
        elif line.text.strip("\r\n"):
            rows = _pair(text.split(SEPARATOR), columns, f"{id_prefix}{line.number}")
            if isinstance(rows, str):
                yield Reject(line.number, line.text.rstrip("\r\n"), rows)
            else:
                yield Rows(line.number, rows)


def _pair(values: list[str], columns: Columns, name: str) -> list[tuple[Any, ...]] | str:
    """Both rows of a pair, or the reason why there are none."""
    if len(values) != len(FIELDS):
        return f"wrong field count: {len(values)}, expected {len(FIELDS)}"
    fields: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
    if not fields["item_id"].strip():
        return "empty item_id"
    fields["pair_id"] = f"{fields['item_id']}#{name}"
    shared = {column: fields[name] for column, name in columns.mapping.items() if name in fields}
    if not shared["item_id"].strip():
        return "empty item_id"
    rows = []
    for side, durable, other, ctr in _SIDES:
        urls = [url for url in (fields[durable].strip(), fields[other].strip()) if url]
        if not urls:
            return f"empty image_url: neither {durable} nor {other}"
        rate = _rate(fields[ctr])
        if rate is None:
            return f"CTR is not a number: {ctr} is {fields[ctr][:100]!r}"
        own = fields | {"side": side, "ctr": rate}
        row_id = f"{own[columns.mapping['row_id']]}:{side}" if "row_id" in columns.mapping else f"{name}:{side}"
        candidate = (
            row_id,
            shared["item_id"],
            urls[0],
            urls[1] if len(urls) == 2 else None,
            text if (text := shared.get("text", "")).strip() else "",
            shared.get("poi_names") or None,
        )
        rows.append((*candidate, *(own[name] for name, _ in columns.passthrough)))
    return rows


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if math.isfinite(rate) and "_" not in text else None
