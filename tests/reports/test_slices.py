"""Slice tables: one per column, largest slices first, everything in the CSV."""

from aistudio.reports.slices import slice_tables


def _row(column: str, value: str, metric: str, n: int, estimate: float | None = 0.5) -> dict:
    return {"column": column, "value": value, "metric": metric, "estimate": estimate, "low": 0.4, "high": 0.6, "n": n}


def test_tables():
    rows = [_row("category", f"v{i}", m, i) for i in range(250) for m in ("odd", "map")] + [
        _row("size", "big", "map", 3, None)
    ]
    category, size = slice_tables(rows)
    assert (category["column"], category["metrics"], len(category["rows"]), category["cut"]) == (
        "category",
        ["map", "odd"],
        200,
        50,
    )
    assert category["rows"][0]["value"] == "v249" and category["rows"][0]["cells"][0]["estimate"] == 0.5
    assert category["csv"].decode().count("\r\n") == 501
    assert size["rows"][0]["cells"][0]["estimate"] is None
    assert category["csv_path"] != size["csv_path"]
    assert slice_tables([]) == []
