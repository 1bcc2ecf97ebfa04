"""Puts the aggregations of a run beside each other: text and image queries, one for each encoder."""

from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = ("hit_rate@1", "hit_rate@5", "recall@5", "recall@10", "map", "ndcg@10", "mrr", "pairwise_accuracy")


def aggregation_table(by_name: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return a table of their main metrics for the metrics page; None where there is one aggregation, or none.

    Args:
        by_name: metrics.json of each aggregation, by its name.

    Returns:
        {metrics, rows: [{name, cells}]}; a cell is {value, low, high, n}, None where an aggregation lacks the metric.
    """
    if len(by_name) < 2:
        return None
    metrics = [m for m in _SHOWN if any(_value(found, m) is not None for found in by_name.values())]
    if not metrics:
        return None
    rows = [{"name": name, "cells": [_cell(found, m) for m in metrics]} for name, found in sorted(by_name.items())]
    return {"metrics": metrics, "rows": rows}


def _cell(found: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    return None if _value(found, metric) is None else {k: found[metric].get(k) for k in ("value", "low", "high", "n")}


def _value(found: Mapping[str, Any], metric: str) -> float | None:
    stored = found.get(metric)
    value = stored.get("value") if isinstance(stored, dict) else None
    return value if isinstance(value, int | float) else None


def given_columns(rows: Sequence[dict[str, Any]], given: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return somebody else's numbers as columns beside the metrics that are shown.

    Args:
        rows: of `overview.metric_rows`; each gets `given`, a cell for each column: {value, low, high}, or None.
        given: by the name of the aggregation: {"metrics": metrics.json, "alike": whether it was computed from the same
            images, queries and judgements as those that are shown}.

    Returns:
        {name, alike} of each column that has a number for any of the metrics.
    """
    columns = []
    for row in rows:
        row["given"] = []
    for name, found in sorted(given.items()):
        cells = [_cell(found["metrics"], row["name"]) for row in rows]
        if any(cells):
            columns.append({"name": name, "alike": bool(found["alike"])})
            for row, cell in zip(rows, cells, strict=True):
                row["given"].append(cell)
    return columns
