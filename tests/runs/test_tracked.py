"""What a tracking server is told: every setting, count and metric once, under names that MLflow takes, no secret."""

import re

import pytest

from aistudio.evaluation.aggregate import aggregate
from aistudio.runs.mapper import InProcess
from aistudio.runs.record import stored_settings
from aistudio.runs.tracked import tracked_run, tracked_training
from tests.evaluation.stored_run import catalogue, write_run

NAME = re.compile(r"[A-Za-z0-9_\-. ]{1,250}")


@pytest.fixture
def run(tmp_path):
    store = write_run(tmp_path / "run", *catalogue())
    data = store.read_json("run.json")
    data["config"]["download"] = {"headers": {"X-Api-Key": "***", "Accept": "image/*"}, "user_agent": "x" * 900}
    data["config"]["manifest"]["path"] = "https://u:secret@h/m.csv?token=hidden"
    data |= {"state": "complete", "fingerprint": "f0", "counts": {"ok": 50, "timeout": 10}, "attempt": 2}
    data["models"] = {"recall": {"name": "tiny", "fingerprint": "abc"}}
    data["timings"] = {"wall_s": 3.5, "decode_s": 1, "images_per_s": None}
    store.write_json("run.json", data)
    return store


def test_a_run(run):
    aggregate(run, stored_settings(run.root).metrics, InProcess())
    told = tracked_run(run)
    assert told.outcome == "finished" and told.name == "run" and told.tags["aistudio.fingerprint"] == "f0"
    assert told.params["manifest.format"] == "csv" and told.params["model.recall.fingerprint"] == "abc"
    assert told.metrics["rows.status.ok"] == 50 and told.metrics["seconds.wall"] == 3.5
    stored = run.read_json("metrics/text/metrics.json")
    assert told.metrics["metrics.text.hit_rate_at_5"] == stored["hit_rate@5"]["value"]
    assert told.metrics["metrics.text.hit_rate_at_5.low"] == stored["hit_rate@5"]["low"]
    assert "aistudio.report" not in told.tags and "images_per_s" not in told.metrics
    for name in (*told.params, *told.metrics):
        assert NAME.fullmatch(name), name
    text = repr(told)
    assert "secret" not in text and "hidden" not in text and max(map(len, told.params.values())) == 500
    assert tracked_run(run).key == told.key
    run.write_bytes("report/index.html", b"")
    assert tracked_run(run).tags["aistudio.report"] == f"{run.root}/report/index.html"


def test_names_that_a_user_chose(run):
    run.write_json("metrics/metrics.json", {})
    values = {"类别/../x@5": 1.0, "a:b": 2.0, "a b": 3.0, "a?b": 4.0, "//": 5.0, "k" * 400: 6.0, "nan": float("inf")}
    run.write_json("metrics/mine/metrics.json", {k: {"value": v} for k, v in values.items()})
    told = {k: v for k, v in tracked_run(run).metrics.items() if k.startswith("metrics")}
    assert sorted(told.values()) == [1, 2, 3, 4, 5, 6] and all(NAME.fullmatch(k) for k in told)
    assert not any(".." in k for k in told)


def test_a_training():
    record = {
        "state": "finished", "config": {"task": "vae", "data": {"path": "http://a:b@c/"}, "seed": 3, "log": {"x": 1}},
        "settings": {}, "inputs": {}, "counts": {"train": 100}, "steps": 40, "name": "m",
        "best": {"step": 30, "metrics": {"hit_rate@1": 0.5}}, "seconds": 1.5, "skipped_batches": 0,
    }  # fmt: skip
    told = tracked_training(record, "out/vae", "out/vae/report/index.html")
    assert told.params == {"task": "vae", "data.path": "http://***@c/", "seed": "3"}
    assert told.metrics["metrics.hit_rate_at_1"] == 0.5 and told.metrics["rows.train"] == 100
    assert told.tags["aistudio.report"] == "out/vae/report/index.html" and told.outcome == "finished"
    assert tracked_training(record | {"state": "running"}, "out/vae", "r").outcome == "running"
