"""A stored comparison of two runs -> the tables of the compare page.

The tests themselves are the metrics room's; here a difference gets a verdict in words and a colour.
"""

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


def comparison(key: str, data: dict[str, Any]) -> dict[str, Any]:
    """One comparison as the page shows it, with its CSV file.

    Args:
        key: name of the stored file, `.../compare_<name>.json`.
        data: its content: {a, b, queries, pairs, metrics: {name: {a, b, difference, ...}}, changed, changed_metric}.
    """
    name = PurePosixPath(key).stem.removeprefix("compare_")
    confidence = float(data.get("confidence") or 0.95)
    rows = [_row(metric, m, 1 - confidence) for metric, m in (data.get("metrics") or {}).items()]
    changed = data.get("changed") or []
    return {
        "title": f"{_last(data.get('a')) or name} (A) against {_last(data.get('b')) or 'this run'} (B)",
        "facts": _facts(data, confidence),
        "rows": rows,
        "changed": changed,
        "changed_metric": data.get("changed_metric") or "",
        "changed_columns": [c for c in _CHANGED_COLUMNS if any(c["name"] in r for r in changed)],
        "csv_path": f"data/compare-{name}.csv",
        "csv": csv_bytes(_COLUMNS, ([r.get(c) for c in _COLUMNS] for r in rows)),
    }


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
