"""Differences from an earlier run -> the tables and figures of the drift page.

What differs, and whether it matters, is evaluation's business.
"""

import itertools
from collections.abc import Callable
from typing import Any

from aistudio.reports.figures import Figure, Series
from aistudio.reports.safe import csv_bytes

SHOWN = 24  # new and gone items with a picture, each
_WORDS = {
    "moved": ("moved", "bad"),
    "a little": ("a little", "even"),
    "not surely": ("could be chance", "even"),
    "not known": ("not tested", "even"),
}
_ITEM_COLUMNS = ("change", "item_id", "text", "rows", "ok")


def figures(result: dict[str, Any]) -> list[Figure]:
    """One figure of each score: its distribution before and now."""
    return [_figure(column, score["histogram"]) for column, score in result["scores"].items()]


def _figure(column: str, histogram: dict[str, Any]) -> Figure:
    edges = histogram["edges"]
    series = []
    for label, side in (("before", "earlier"), ("now", "now")):
        total = sum(histogram[side]) or 1
        middles = [round((a + b) / 2, 5) for a, b in itertools.pairwise(edges)]
        points = [[x, n / total] for x, n in zip(middles, histogram[side], strict=True)]
        series.append(Series(label, points, area=True))
    return Figure(
        f"drift-{column}", column, "share of the ok images of each run at each score", "line", "score",
        "share of its run", series, x_min=edges[0], x_max=edges[-1],
    )  # fmt: skip


def tables(result: dict[str, Any], verdict: Callable[[float | None, float | None], str]) -> dict[str, Any]:
    """Rows of the page's tables: tests, statuses, what changed in rows that both runs have."""
    tests = [
        {
            "what": column, "before": s["median_a"], "now": s["median_b"], "unit": "median",
            "size": s["distance"], "size_name": "D", "p": s["p_holm"], "said": verdict(s["p_holm"], s["distance"]),
        }
        for column, s in result["scores"].items()
    ]  # fmt: skip
    test, statuses = result["status_test"], result["statuses"]
    totals = {side: sum(s[side] for s in statuses) for side in ("earlier", "now")}
    failed = {side: sum(s[side] for s in statuses if s["status"] != "ok") for side in totals}
    shares = {side: failed[side] / totals[side] if totals[side] else None for side in totals}
    tests.append({
        "what": "status", "before": shares["earlier"], "now": shares["now"], "unit": "share that failed",
        "size": test["cramers_v"], "size_name": "V", "p": test["p_holm"],
        "said": verdict(test["p_holm"], test["cramers_v"]),
    })  # fmt: skip
    for row in tests:
        row["words"], row["tone"] = _WORDS[row["said"]]
    return {"tests": tests, "statuses": statuses, "totals": totals}


def items_csv(result: dict[str, Any]) -> bytes:
    """New and gone items as CSV."""
    rows = [{"change": change} | item for change in ("new", "gone") for item in result[change]]
    return csv_bytes(_ITEM_COLUMNS, ([r[c] for c in _ITEM_COLUMNS] for r in rows))
