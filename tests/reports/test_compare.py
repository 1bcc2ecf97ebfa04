"""Verdicts follow direction and corrected p-value; a sparse file still gives a table."""

from aistudio.reports.compare import comparison
from tests.reports.synthetic_run import comparison_of


def _metric(difference: float, p: float) -> dict:
    return {
        "a": 0.5,
        "b": 0.5 + difference,
        "difference": difference,
        "low": 0.0,
        "high": 1.0,
        "p_value": p / 2,
        "p_holm": p,
    }


def test_verdicts():
    metrics = {
        "map": _metric(0.1, 0.01),
        "mrr": _metric(-0.1, 0.01),
        "ece": _metric(-0.1, 0.01),
        "recall@5": _metric(0.1, 0.3),
        "recall@1": _metric(0.0, 0.001),
    }
    found = comparison("metrics/compare_old.json", {"metrics": metrics})
    assert [(r["verdict"], r["tone"]) for r in found["rows"]] == [
        ("B is better", "good"),
        ("B is worse", "bad"),
        ("B is better", "good"),
        ("could be chance", "even"),
        ("no difference", "even"),
    ]
    assert found["rows"][0]["p"] == 0.01 and found["rows"][0]["wins"] is None
    assert found["title"] == "old (A) against this run (B)"
    strict = comparison("compare_x.json", {"metrics": metrics, "confidence": 0.995})
    assert strict["rows"][0]["verdict"] == "could be chance"


def test_tables_of_a_whole_file():
    data = comparison_of([{"query_id": "q", "text": "西湖", "map": 0.5, "first_rank": 2}] * 3, "/runs/b")
    found = comparison("metrics/compare_baseline.json", data)
    assert found["title"] == "baseline (A) against b (B)"
    assert [c["name"] for c in found["changed_columns"]][:2] == ["text", "a"]
    assert dict(found["facts"])["queries"] == "3 paired, 1 only a"
    assert found["csv"].decode("utf-8-sig").splitlines()[0].startswith("metric,a,b,difference")


def test_an_empty_file():
    found = comparison("metrics/compare_x.json", {})
    assert found["rows"] == [] and found["changed"] == []
