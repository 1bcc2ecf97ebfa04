"""The overview's numbers, and runs that recorded little."""

import pytest

from aistudio.reports import overview
from aistudio.run_record import DeltaFacts, RowTotals, RunRecord, Timings


def test_explain_names_k_and_knows_when_it_does_not_know():
    assert overview.explain("hit_rate@7") == "queries with a right image among the first 7"
    assert overview.explain("map") != overview.explain("map@5")
    assert overview.explain("my_metric") == ""


def test_headline_puts_what_the_paper_reports_first_and_skips_empty_values():
    stored = {
        m: {"value": v, "low": 0.1, "high": 0.9, "n": 5}
        for m, v in [("map", 0.5), ("hit_rate@5", 0.7), ("mrr", None), ("roc_auc", 0.6)]
    }
    rows = overview.metric_rows(stored | {"note": "text"}, {"roc_auc": 0.652})
    assert [r["name"] for r in rows] == ["map", "hit_rate@5", "mrr", "roc_auc"]
    assert [r["name"] for r in overview.headline(rows)] == ["roc_auc", "hit_rate@5", "map"]
    assert overview.headline(rows, most=1)[0]["paper"] == 0.652
    assert rows[1]["paper_name"] == "recall@5"


@pytest.mark.parametrize(("manifest", "adds_up"), [(10, True), (11, False), (None, True)])
def test_ledger(manifest, adds_up):
    found = overview.ledger(
        RunRecord(rows=RowTotals(manifest=manifest, rejected=2)),
        {"timeout": 1, "ok": 7, "http_error": 2},
        {"timeout": "slow"},
    )
    assert (found["total"], found["ok"], found["failed"], found["rejected"]) == (10, 7, 3, 2)
    assert found["adds_up"] is adds_up
    assert [r["status"] for r in found["rows"]] == ["ok", "http_error", "timeout"]
    assert found["rows"][2]["example"] == "slow"


def test_throughput_integrates_to_the_rows_done():
    line = [[t / 2, 3 * t + (5 if t > 10 else 0), 0] for t in range(41)]
    figure = overview.throughput(RunRecord(timeline=line))
    points = figure.series[0].points
    step = points[1][0] - points[0][0]
    assert sum(y * step for _, y in points) == pytest.approx(line[-1][1])
    assert overview.throughput(RunRecord(timeline=line[:2])) is None
    assert overview.throughput(RunRecord()) is None
    assert overview.throughput(RunRecord(timeline=[[0, 0, 0]] * 5)) is None


def test_cost_of_a_million():
    timings = Timings(wall_s=110.0, startup_s=10.0, steady_s=100.0, num_rows=5000, images_per_s=50.0)
    run = RunRecord(timings=timings)
    cards = overview.speed(run, 5000, 3.6)
    assert ("Cost of a million", "20.00", "at 3.6 per hour") in cards  # 50 images/s: 20,000 s at 0.001 per s
    assert len(overview.speed(run, 5000, None)) == 3
    assert overview.speed(RunRecord(), 0, 1.0) == []
    assert (
        len(overview.speed(RunRecord(timings=Timings(wall_s=100.0)), 5000, 3.6)) == 1
    )  # nothing tells start-up from work


def test_time_shares_leave_out_what_is_no_step():
    timings = Timings(wall_s=9, first_row_s=1, images_per_s=5, model_s=3, write_s=1, wait_s=0)
    shares = overview.time_shares(RunRecord(timings=timings))
    assert [(s["name"], s["share"], s["width"]) for s in shares] == [
        ("model", 75, 100),
        ("write", 25, pytest.approx(33.3, abs=0.1)),
    ]


def test_an_empty_record_gives_empty_facts():
    assert overview.facts(RunRecord()) == []
    assert overview.source(RunRecord()) == "a manifest"
    assert overview.model_names(RunRecord(models={"recall": {"name": "a"}, "ranking": None})) == "a"
    facts = dict(
        overview.facts(RunRecord(command=["score", "--conf", "x"], models={"recall": {"fingerprint": "f" * 64}}))
    )
    assert facts["Data"] == [("command", "score --conf x")]
    assert facts["Recall model"] == [("fingerprint", "f" * 16 + "…")]


def test_what_came_from_a_base_run_is_a_group_of_facts():
    assert "From the base run" not in dict(overview.facts(RunRecord()))
    delta = DeltaFacts(base="/runs/a", fingerprint="f" * 64, trust="url", matched=9, gone=2)
    groups = dict(overview.facts(RunRecord(delta=delta, reused={"no": 3, "url": 7})))
    found = dict(groups["From the base run"])
    assert found["base"] == "/runs/a" and found["gone"] == "2" and found["rows reused: url"] == "7"
    assert found["fingerprint"] == f"{'f' * 16}…" and "rows reused: no" not in found


def test_how_many_addresses_there_are_is_told_where_rows_were_put_together():
    found = dict(dict(overview.facts(RunRecord(duplicates={"addresses": 2_000, "frequent": 0})))["Data"])
    assert found == {"different addresses": "2000"}
