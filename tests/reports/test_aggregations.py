"""Aggregations beside each other on the metrics page."""

from aistudio.reports.aggregations import aggregation_table
from aistudio.reports.overview import facts, warnings
from aistudio.run_record import RunRecord


def metric(value):
    return {"value": value, "low": None, "high": None, "n": 3}


def test_what_only_one_has_is_left_open():
    found = aggregation_table(
        {"image_look": {"map": metric(0.5), "mrr": metric(None)}, "image": {"hit_rate@5": metric(1), "note": "x"}}
    )
    assert found["metrics"] == ["hit_rate@5", "map"]
    assert [row["name"] for row in found["rows"]] == ["image", "image_look"]
    assert found["rows"][0]["cells"] == [metric(1), None] and found["rows"][1]["cells"] == [None, metric(0.5)]


def test_one_alone_or_nothing_to_show_is_no_table():
    assert aggregation_table({}) is None and aggregation_table({"text": {"map": metric(1)}}) is None
    assert aggregation_table({"a": {}, "b": {"map": metric(None)}}) is None


def test_a_run_without_a_recall_model_does_not_miss_texts():
    about = {"rows_without_text": 300}
    assert warnings(RunRecord(models={"encoders.look": {"name": "m"}}), about) == []
    assert "300 ok rows have no text" in warnings(RunRecord(models={"recall": {"name": "m"}}), about)[0]
    assert "Encoder look" in dict(facts(RunRecord(models={"encoders.look": {"name": "m"}})))
