"""Slice tables: how good the models are per category, size, status..., one table per column."""

from typing import Any

from aistudio.reports.safe import csv_bytes

_METRICS = 6  # columns of one table
_ROWS = 200  # shown; the CSV file has all
_PREFERRED = ("hit_rate@5", "recall@5", "map", "mrr", "ndcg@10", "pairwise_accuracy", "roc_auc", "hit_rate@1")


def slice_tables(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tables for the metrics page, in the order in which the columns come.

    Args:
        rows: of slices.parquet: column, value, metric, estimate, low, high, n.

    Returns:
        Per column {column, metrics, rows: [{value, n, cells}], cut, csv_path, csv}; largest slices first.
    """
    by_column: dict[str, list[dict[str, Any]]] = {}
    for r in rows:
        by_column.setdefault(r["column"], []).append(r)
    return [_table(i, column, part) for i, (column, part) in enumerate(by_column.items())]


def _table(number: int, column: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    present = list(dict.fromkeys(r["metric"] for r in rows))
    metrics = [m for m in _PREFERRED if m in present]
    metrics = [*metrics, *(m for m in present if m not in metrics)][:_METRICS]
    values: dict[str, dict[str, Any]] = {}
    for r in rows:
        cell = {"estimate": r.get("estimate"), "low": r.get("low"), "high": r.get("high")}
        entry = values.setdefault(str(r["value"]), {"value": str(r["value"]), "n": r.get("n"), "by_metric": {}})
        entry["by_metric"][r["metric"]] = cell
        entry["n"] = max(entry["n"] or 0, r.get("n") or 0)
    shown = sorted(values.values(), key=lambda e: (-(e["n"] or 0), e["value"]))
    for entry in shown:
        entry["cells"] = [entry["by_metric"].get(m) for m in metrics]
    header = ["column", "value", "metric", "estimate", "low", "high", "n"]
    return {
        "column": column, "metrics": metrics, "rows": shown[:_ROWS], "cut": max(0, len(shown) - _ROWS),
        "csv_path": f"data/slices-{number:02d}.csv",
        "csv": csv_bytes(header, ([r.get(h) for h in header] for r in rows)),
    }  # fmt: skip
