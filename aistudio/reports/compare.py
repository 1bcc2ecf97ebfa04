"""A stored comparison of two runs -> the tables of the compare page.

The tests themselves are the metrics room's; here a difference gets a verdict in words and a colour.
"""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from aistudio.reports.safe import csv_bytes

_LOWER_IS_BETTER = ("median_rank", "log_loss", "ece")
_COLUMNS = ("metric", "a", "b", "difference", "low", "high", "p_value", "p_holm", "wins", "ties", "losses", "n")
_CHANGED_COLUMNS = [
    {"name": "text", "number": False},
    {"name": "a", "number": True},
    {"name": "b", "number": True},
    {"name": "difference", "number": True},
    {"name": "first_rank_a", "number": True},
    {"name": "first_rank_b", "number": True},
]


def row_ids(data: dict[str, Any]) -> Iterator[str]:
    """Rows whose pictures the page of a comparison shows."""
    for query in data.get("changed") or []:
        for side in ("images_a", "images_b"):
            yield from (image["row_id"] for image in query.get(side) or [] if image.get("row_id"))


def no_picture(_row_id: str) -> str | None:
    """Stand for a report without pictures."""
    return None


def comparison(key: str, data: dict[str, Any], picture: Callable[[str], str | None] = no_picture) -> dict[str, Any]:
    """One comparison as the page shows it, with its CSV file.

    Args:
        key: name of the stored file, `.../compare_<name>.json`.
        data: its content: {a, b, queries, pairs, metrics: {name: {a, b, difference, ...}}, changed, changed_metric}.
        picture: path of a row's thumbnail inside the report, None where there is none.
    """
    name = PurePosixPath(key).stem.removeprefix("compare_")
    confidence = float(data.get("confidence") or 0.95)
    rows = [_row(metric, m, 1 - confidence) for metric, m in (data.get("metrics") or {}).items()]
    changed = [
        c | {side: _strip(c.get(side) or [], picture) for side in ("images_a", "images_b")}
        for c in data.get("changed") or []
    ]
    return {
        "answer": data.get("answer") or "",
        "warnings": data.get("warnings") or [],
        "pictures": any(c["images_a"] or c["images_b"] for c in changed),
        "title": f"{_last(data.get('a')) or name} (A) against {_last(data.get('b')) or 'this run'} (B)",
        "facts": _facts(data, confidence),
        "rows": rows,
        "changed": changed,
        "changed_metric": data.get("changed_metric") or "",
        "changed_columns": [c for c in _CHANGED_COLUMNS if any(c["name"] in r for r in changed)],
        "csv_path": f"data/compare-{_file_name(key)}.csv",
        "csv": csv_bytes(_COLUMNS, ([r.get(c) for c in _COLUMNS] for r in rows)),
    }


def _strip(images: list[dict[str, Any]], picture: Callable[[str], str | None]) -> list[dict[str, Any]]:
    return [{"thumb": picture(i["row_id"]), "relevant": bool(i.get("relevant")), "row_id": i["row_id"]} for i in images]


def _file_name(key: str) -> str:
    """Return the CSV file's name, from the whole key: comparisons of several aggregations end in the same file name."""
    parts = PurePosixPath(key).parts[1:]
    return "-".join(parts).removesuffix(".json").replace("compare_", "", 1)


def _row(metric: str, m: dict[str, Any], alpha: float) -> dict[str, Any]:
    difference = m.get("difference")
    p = m.get("p_holm") if m.get("p_holm") is not None else m.get("p_value")
    better = difference is not None and (difference < 0 if metric in _LOWER_IS_BETTER else difference > 0)
    if not difference:
        verdict, tone = "no difference", "even"
    elif p is None or p > alpha:
        verdict, tone = "could be chance", "even"
    else:
        verdict, tone = ("B is better", "good") if better else ("B is worse", "bad")
    empty = dict.fromkeys(_COLUMNS)
    return empty | m | {"metric": metric, "p": p, "verdict": verdict, "tone": tone}


def _facts(data: dict[str, Any], confidence: float) -> list[tuple[str, str]]:
    facts = [(label, str(data[label.lower()])) for label in ("A", "B") if data.get(label.lower())]
    for what in ("queries", "pairs"):
        counts = data.get(what) or {}
        if counts:
            shown = [f"{n:,} {k.replace('_', ' ')}" for k, n in counts.items() if n or k == "paired"]
            facts.append((what, ", ".join(shown)))
    return [*facts, ("intervals", f"{100 * confidence:g} %, paired")]


def _last(path: object) -> str:
    return str(path or "").rstrip("/").rpartition("/")[2]
