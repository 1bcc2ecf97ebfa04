"""The composed page: curves over K, and tables by data set and kind of change; its cards are those of searches."""

from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.reports.figures import Figure, Series
from aistudio.reports.safe import csv_bytes

COMPOSED = "picture and text"  # kind of a query
CSV = "data/changes.csv"
_DEEPEST = 100  # of a curve
_KINDS = 40  # rows of one search


def is_composed(about: dict[str, Any]) -> bool:
    """Whether a search has queries of a picture and a text."""
    return bool((about.get("kinds") or {}).get(COMPOSED))


def curve(about: dict[str, Any], queries: pa.Table) -> list[list[Any]]:
    """[K, share of queries with a right result among the first K]; empty where nothing is judged.

    Args:
        about: of the search; searches of earlier versions say no depth, and get no curve.
        queries: columns num_relevant and first_rank.
    """
    first = _first_ranks(queries)
    deepest = min(_DEEPEST, int(about.get("depth") or 0), int(about.get("gallery_rows") or 0))
    return [[k, round(float((first <= k).mean()), 6)] for k in range(1, deepest + 1)] if len(first) else []


def figures(curves: dict[str, list[list[Any]]]) -> list[Figure]:
    """One figure with a line for each search that is judged."""
    series = [Series(name, points) for name, points in curves.items() if points]
    note = "share of queries with a right result among the first K; searches of one protocol can be compared"
    return (
        [Figure("composed", "Found among the first K", note, "line", "K", "share", series, y_max=1)] if series else []
    )


def rows(name: str, about: dict[str, Any], queries: pa.Table) -> list[dict[str, Any]]:
    """Rows of the table for one search: all its queries, then each kind of change, the most frequent first.

    Returns:
        {search, dataset, change, n, shares}: n judged queries, K -> share with a right result among the first K.
    """
    ks = [int(k) for k in about.get("k") or []]
    if not ks or "change" not in queries.column_names:
        return []
    judged = queries.filter(_judged(queries))
    first, change = _first_ranks(queries), np.array(judged["change"].to_pylist(), object)
    kinds = sorted({c for c in change.tolist() if c}, key=lambda c: (-int((change == c).sum()), c))
    masks = [("all", np.ones(len(first), bool)), *((kind, change == kind) for kind in kinds[:_KINDS])]
    dataset = about.get("dataset") or "own"
    return [
        {
            "search": name, "dataset": dataset, "change": kind, "n": int(mask.sum()),
            "shares": {k: float((first[mask] <= k).mean()) for k in ks},
        }
        for kind, mask in masks
        if mask.any()
    ]  # fmt: skip


def table(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Columns, rows and CSV of the table of all searches; None without a row."""
    if not found:
        return None
    ks = sorted({k for row in found for k in row["shares"]})
    header = ["search", "dataset", "change", "n", *(f"K={k}" for k in ks)]
    lines = ([row[c] for c in header[:4]] + [row["shares"].get(k) for k in ks] for row in found)
    cells = [row | {"cells": [row["shares"].get(k) for k in ks]} for row in found]
    return {"ks": ks, "rows": cells, "csv_path": CSV, "csv": csv_bytes(header, lines)}


def _judged(queries: pa.Table) -> pa.Array:
    return pa.array(np.array([(n or 0) > 0 for n in queries["num_relevant"].to_pylist()], bool))


def _first_ranks(queries: pa.Table) -> np.ndarray:
    """(Q,) of the judged queries; infinite where nothing right is in the list."""
    found = queries.filter(_judged(queries))["first_rank"].to_pylist()
    return np.array([np.inf if rank is None else float(rank) for rank in found])
