"""aistudio/reports/notions.py: metrics by notions of similar, grouped for the metrics page, and the page itself."""

import csv
import io

from aistudio.config import MetricsSettings, ReportSettings
from aistudio.evaluation.aggregate import aggregate
from aistudio.jobs import aggregate as job
from aistudio.pipeline.report import write_report
from aistudio.reports import overview
from aistudio.reports.notions import notion_files, notion_tables, split_rows
from tests.evaluation.test_by_notion import BOTH, COLUMNS, similar_rows, write_run

M = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "macro": 0.45, "chance": 0.1, "chance_macro": 0.12}
METRICS = {
    "map": {"value": 0.1, "low": None, "high": None, "n": 3}, "metal/item_level/map": M, "metal/item_level/mrr": M,
    "metal/item_level/hits@1/20": M, "metal/item_level/precision@1": M,
    "a_b/split/median_rank": M | {"value": 7.0},
}  # fmt: skip
FACTS = {
    "queries": 9,
    "queries_drawn_from": 20,
    "classes": 2,
    "queries_without_relevant": 1,
    "rows_ignored": {"no value": 4},
}
ABOUT = {"relevant_by": {
    "metal/item_level": {"column": "metal", "protocol": "item_level", **FACTS},
    "a_b/split": {"column": "a/b", "protocol": "split"},
}}  # fmt: skip
CLASSES = [
    {"relevant_by": "metal", "protocol": "item_level", "value": v, "metric": m, "estimate": 0.5, "n": n, "chance": 0.2}
    for v, n in (("gold", 6), ("silver", 3)) for m in ("map", "ndcg@5")
]  # fmt: skip


def test_metrics_are_grouped_by_notion_and_protocol():
    metal, other = notion_tables(METRICS, CLASSES, ABOUT)
    (table,) = metal["protocols"]
    assert [r["name"] for r in table["rows"]] == ["map", "mrr"] and table["rows"][0]["chance_macro"] == 0.12
    assert table["facts"].startswith("9 queries of 20 · 2 values · 1 queries with nothing right · 4 images without")
    assert table["classes"]["metrics"] == ["map"] and [r["value"] for r in table["classes"]["rows"]] == [
        "gold",
        "silver",
    ]
    assert table["classes"]["rows"][0]["chance"] == 0.2
    assert other["column"] == "a/b" and other["protocols"][0]["rows"][0]["value"] == 7.0
    assert other["protocols"][0]["classes"] is None
    assert [r["name"] for r in split_rows(overview.metric_rows(METRICS, {}), ABOUT)] == ["map"]


def test_everything_is_in_the_csv_and_an_older_run_has_none():
    files = notion_files(METRICS, CLASSES, ABOUT)
    lines = list(csv.DictReader(io.StringIO(files["data/relevant-by.csv"].decode("utf-8-sig"))))
    assert [(r["relevant_by"], r["protocol"], r["metric"]) for r in lines][2:] == [
        ("metal", "item_level", "hits@1/20"), ("metal", "item_level", "precision@1"), ("a/b", "split", "median_rank")
    ]  # fmt: skip
    assert files["data/classes.csv"].count(b"\n") >= len(CLASSES)
    for about in ({}, {"relevant_by": "same item_id"}):
        assert notion_files(METRICS, [], about) == {} and notion_tables(METRICS, [], about) == []
        assert len(split_rows(overview.metric_rows(METRICS, {}), about)) == len(METRICS)


def test_the_page_and_the_terminal_show_them(tmp_path, capsys):
    rows, texts = similar_rows()
    for row in rows[:9]:
        row["category"] = "<script>1</script>"
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    argv = ["--run", store.root, "--set", "metrics.query=image", "--set", "metrics.relevant_by=[category]"]
    assert job.main(argv) == 0
    told = capsys.readouterr().out
    assert "category/item_level/map " in told and "random macro 0." in told and "/hits@" not in told
    aggregate(store, MetricsSettings(**BOTH))
    page = tmp_path / "run" / "report" / "metrics.html"
    write_report(store, ReportSettings())
    html = page.read_text(encoding="utf-8")
    assert html.count("Similar by") == 2 and "<code>leave_self_out</code>" in html
    assert "&lt;script&gt;1&lt;/script&gt;" in html and "<script>1" not in html
    assert "<code>category/" not in html  # their own tables, not among all metrics
    assert (page.parent / "data" / "relevant-by.csv").exists() and (page.parent / "data" / "classes.csv").exists()
    assert "metal/item_level" not in (page.parent / "report.md").read_text(encoding="utf-8")
