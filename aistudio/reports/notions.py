"""Metrics by notions of similar, `<column>/<protocol>/<metric>`, grouped for the metrics page by protocol."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aistudio.reports.overview import explain
from aistudio.reports.safe import csv_bytes

PROTOCOLS = {
    "leave_self_out": "every image asks all others",
    "item_level": "items: an item stands where its best image stands",
    "split": "some images ask (metrics.query_where), others are searched (metrics.gallery_where)",
    "new_classes": "values that training never saw, among themselves (metrics.new_classes)",
}
# at K = 1 the others say what hit_rate says
_SHOWN = r"hit_rate@\d+|(precision|map_capped)@(?!1$)\d+|map|map_at_r|r_precision|mrr|median_rank"
_CLASS_SHOWN = r"hit_rate@\d+|precision@(?!1$)\d+|map|r_precision"
_NUMBERS = ("value", "low", "high", "macro", "macro_low", "macro_high", "chance", "chance_macro", "n")
_CLASS_COLUMNS = ("relevant_by", "protocol", "value", "metric", "estimate", "low", "high", "n", "chance")
_CLASSES = 100  # shown of each protocol; the CSV file has all
_EXPLAINED = (
    (r"map_capped@(\d+)", "average precision of the first {0}, out of what {0} places can hold"),
    (r"map_at_r", "average precision of as many places as images are right"),
)


def split_rows(rows: Sequence[dict[str, Any]], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of `overview.metric_rows` that belong to no notion."""
    keys = tuple(f"{key}/" for key in _told(about))
    return [row for row in rows if not str(row["name"]).startswith(keys)]


def notion_tables(
    metrics: Mapping[str, Any], classes: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Group the metrics of about.json's `relevant_by`, in its order.

    Args:
        metrics: metrics.json.
        classes: rows of classes.parquet.

    Returns:
        {column, protocols: [{protocol, says, facts, rows, has_macro, classes: {metrics, rows, cut} or None}]}.
    """
    by_column: dict[str, list[dict[str, Any]]] = {}
    for key, facts in _told(about).items():
        rows = [_row(key, name, m) for name, m in metrics.items() if name.startswith(f"{key}/") and isinstance(m, dict)]
        own = [c for c in classes if (c.get("relevant_by"), c.get("protocol")) == (facts["column"], facts["protocol"])]
        by_column.setdefault(str(facts["column"]), []).append({
            "protocol": facts["protocol"], "says": PROTOCOLS.get(str(facts["protocol"]), ""), "facts": _facts(facts),
            "rows": [row for row in rows if re.fullmatch(_SHOWN, row["name"])], "classes": _classes(own),
        })  # fmt: skip
    return [{"column": column, "protocols": protocols} for column, protocols in by_column.items()]


def notion_files(
    metrics: Mapping[str, Any], classes: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the CSV files of everything, by path in the report; none where no notion was asked for."""
    if not _told(about):
        return {}
    lines = (
        [facts["column"], facts["protocol"], name.removeprefix(f"{key}/"), *(m.get(n) for n in _NUMBERS)]
        for key, facts in _told(about).items()
        for name, m in metrics.items()
        if name.startswith(f"{key}/") and isinstance(m, dict)
    )
    return {
        "data/relevant-by.csv": csv_bytes(["relevant_by", "protocol", "metric", *_NUMBERS], lines),
        "data/classes.csv": csv_bytes(_CLASS_COLUMNS, ([c.get(n) for n in _CLASS_COLUMNS] for c in classes)),
    }


def _told(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    told = about.get("relevant_by")
    return {k: v for k, v in told.items() if isinstance(v, dict)} if isinstance(told, dict) else {}


def _row(key: str, name: str, m: Mapping[str, Any]) -> dict[str, Any]:
    short = name.removeprefix(f"{key}/")
    says = next((text.format(*f.groups()) for p, text in _EXPLAINED if (f := re.fullmatch(p, short))), explain(short))
    return {"name": short, "explained": says, "bounded": short != "median_rank", **{n: m.get(n) for n in _NUMBERS}}


def _facts(facts: Mapping[str, Any]) -> str:
    parts = [f"{facts.get('queries', 0):,} queries", f"{facts.get('classes', 0):,} values"]
    if (drawn := facts.get("queries_drawn_from", 0)) > facts.get("queries", 0):
        parts[0] += f" of {drawn:,}"
    if without := facts.get("queries_without_relevant"):
        parts.append(f"{without:,} queries with nothing right")
    if ignored := sum((facts.get("rows_ignored") or {}).values()):
        parts.append(f"{ignored:,} images without a usable value ignored")
    return " · ".join(parts)


def _classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One row for each class, in stored order: the largest first."""
    names = [n for n in dict.fromkeys(str(r["metric"]) for r in rows) if re.fullmatch(_CLASS_SHOWN, n)]
    by_value: dict[str, dict[str, Any]] = {}
    for r in rows:
        entry = by_value.setdefault(str(r["value"]), {"value": str(r["value"]), "n": r.get("n"), "by": {}})
        entry["by"][r["metric"]] = r
    shown = list(by_value.values())
    for entry in shown:
        entry["cells"] = [entry["by"].get(n) for n in names]
        entry["chance"] = (entry["by"].get("map") or {}).get("chance")
    return {"metrics": names, "rows": shown[:_CLASSES], "cut": max(0, len(shown) - _CLASSES)} if shown else None
