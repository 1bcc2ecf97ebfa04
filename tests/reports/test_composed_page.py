"""The composed page: curves and tables from what a search stored, old and odd searches included."""

import csv
import io
import math

import pyarrow as pa
import pytest

from aistudio.reports import composed
from aistudio.reports.page import Site, render
from aistudio.reports.searches import summary

ABOUT = {"kinds": {"picture and text": 5}, "k": [1, 3], "depth": 5, "gallery_rows": 4, "dataset": "fashion200k"}
QUERIES = pa.table(
    {
        "num_relevant": pa.array([1, 2, 1, 0, None, 1], pa.int64()),
        "first_rank": pa.array([1, 3, None, None, None, 2], pa.int64()),
        "change": ["colour", "state", "colour", "colour", None, "<b>own</b>"],
    }
)


def test_curves_count_judged_queries_as_far_as_lists_and_gallery_go():
    points = composed.curve(ABOUT, QUERIES)
    assert points == [[1, 0.25], [2, 0.5], [3, 0.75], [4, 0.75]]
    (figure,) = composed.figures({"a": points, "none": []})
    assert [s.name for s in figure.series] == ["a"]
    unjudged = QUERIES.set_column(0, "num_relevant", pa.nulls(6, pa.int64()))
    assert composed.curve(ABOUT, unjudged) == [] and composed.figures({"a": []}) == []
    assert composed.curve({}, QUERIES) == []  # a search of an earlier version


def test_rows_are_all_queries_then_each_kind():
    rows = composed.rows("a", ABOUT, QUERIES)
    assert [(r["change"], r["n"], r["shares"][1]) for r in rows] == [
        ("all", 4, 0.25), ("colour", 2, 0.5), ("<b>own</b>", 1, 0.0), ("state", 1, 0.0),
    ]  # fmt: skip
    assert math.isclose(rows[0]["shares"][3], 0.75)
    assert composed.rows("a", ABOUT, QUERIES.drop_columns("change")) == []
    assert composed.table([]) is None


def test_the_page_and_its_csv_hold_every_row_and_no_markup_of_users():
    other = composed.rows("b", ABOUT | {"k": [10], "dataset": None}, QUERIES)
    table = composed.table(composed.rows("a", ABOUT, QUERIES) + other)
    assert table["ks"] == [1, 3, 10]
    lines = list(csv.DictReader(io.StringIO(table["csv"].decode("utf-8-sig"))))
    assert [line["change"] for line in lines[:2]] == ["all", "colour"] and lines[-1]["dataset"] == "own"
    assert float(lines[0]["K=3"]) == 0.75 and lines[0]["K=10"] == ""
    site = Site("t", "r", "complete", "now", ("index", "composed"))
    metrics = {f"m@{k}": {"value": 0.5, "low": None, "high": None, "n": 4} for k in range(25)}
    page = render(site, "composed", searches=[summary("a", ABOUT, metrics)], figures=[], changes=table).decode()
    assert "&lt;b&gt;own" in page and "<b>own" not in page and "25 metrics" in page and "0.750" in page


@pytest.mark.parametrize(("about", "wanted"), [(ABOUT, True), ({"kinds": {"text": 3}}, False), ({}, False)])
def test_which_searches_are_composed(about, wanted):
    assert composed.is_composed(about) is wanted
