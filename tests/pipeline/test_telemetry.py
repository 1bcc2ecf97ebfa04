"""Metrics as Prometheus reads them from a node, the dashboard that draws them, log lines."""

import io
import json
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from aistudio.pipeline import telemetry
from aistudio.pipeline.coordinator import Bookkeeping, Coordinator, start_coordinator
from aistudio.pipeline.progress import say
from aistudio.pipeline.telemetry import Meters, label, log_event

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy/grafana/aistudio.json"


class Recorder:
    """Stands in for ray.util.metrics' classes."""

    def __init__(self, name, description, boundaries=None, tag_keys=()):
        self.name, self.tag_keys, self.values = name, tag_keys, []

    def set_default_tags(self, tags):
        assert set(tags) <= set(self.tag_keys)

    def inc(self, value, tags=None):
        assert value > 0 and set(tags or {}) <= set(self.tag_keys)
        self.values.append((value, *(tags or {}).values()))

    def set(self, value):
        self.values.append(value)

    observe = set


@pytest.fixture
def recorded(monkeypatch):
    made = {}

    def make(name, *args, **kwargs):
        made[name] = Recorder(name, *args, **kwargs)
        return made[name]

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(telemetry, kind, make)
    return made


def test_a_finished_shard_is_counted_once_and_in_full(recorded):
    run = Coordinator("s3://b/run")
    run.begin("0", "score", "a")
    run.begin("1", "score", "a")
    run.begin("0", "score", "b")  # after a death
    counts = {"ok": 8.0, "timeout": 2.0, "http_error": 0.0, "bytes": 5e5, "model_s": 0.4, "wait_s": 1.0}
    run.done("0", counts)
    run.done("0", counts)  # told again by a worker that did not hear the answer
    assert recorded["aistudio_images"].values == [(8.0, "ok"), (2.0, "timeout")]
    assert recorded["aistudio_downloaded_bytes"].values == [(5e5,)]
    assert recorded["aistudio_stage_seconds"].values == [(0.4, "model"), (1.0, "wait")]
    assert recorded["aistudio_model_ms_per_image"].values == [pytest.approx(50)]
    assert (
        recorded["aistudio_shards_in_work"].values == [1, 2, 2, 1]
        and len(recorded["aistudio_shard_seconds"].values) == 1
    )


def test_a_coordinator_without_a_label_measures_nothing(recorded):
    run = Coordinator()
    run.begin("0", "score", "a")
    run.done("0", {"ok": 1.0})
    assert not recorded


def test_a_node_exports_what_the_dashboard_draws(local_ray):
    meters = ray.remote(Meters).options(num_cpus=0).remote("reports/x")
    ray.get(meters.begin.remote("1"), timeout=60)
    ray.get(meters.begin.remote("0"), timeout=60)
    ray.get(
        meters.done.remote("0", {"ok": 7.0, "timeout": 1.0, "bytes": 9e5, "model_s": 0.5, "wait_s": 1.0}), timeout=60
    )
    deadline = time.monotonic() + 90
    text = ""
    while not (mine := [x for x in text.splitlines() if 'run="reports/x"' in x]):
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(0.5)
        try:
            text = urllib.request.urlopen(local_ray, timeout=5).read().decode()
        except OSError:
            continue
    line = next(x for x in mine if x.startswith("ray_aistudio_images_total") and 'status="ok"' in x)
    assert line.endswith(" 7.0")
    names = set(re.findall(r"^(ray_aistudio_\w+)\{", "\n".join(mine), re.MULTILINE))
    drawn = set(re.findall(r"ray_aistudio_\w+", DASHBOARD.read_text()))
    assert drawn and drawn <= names


def test_the_dashboard_is_one():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert board["title"] and board["schemaVersion"] >= 36
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids)) >= 6
    for panel in board["panels"]:
        assert panel["title"] and panel["type"] and set(panel["gridPos"]) == {"x", "y", "w", "h"}
        assert all('run=~"$run"' in t["expr"] for t in panel["targets"])


def test_log_lines_are_json_and_only_on_request(capsys, monkeypatch):
    monkeypatch.delenv("AISTUDIO_LOG", raising=False)
    log_event("shard", ok=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("AISTUDIO_LOG", "json")
    log_event("shard", shard="0-1", ok=3.0, error="西湖")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time").endswith("Z") and line == {"event": "shard", "shard": "0-1", "ok": 3.0, "error": "西湖"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("reports/x", "reports/x"),
        ("s3://shop/scores/2026-11", "s3://shop/scores/2026-11"),
        ("/data/图片打分", "/data/%E5%9B%BE%E7%89%87%E6%89%93%E5%88%86"),
        ("s3://b/été run", "s3://b/%C3%A9t%C3%A9 run"),
        ("a\nb\0", "a%0Ab%00"),
        ("\udce9", "%E9"),
        ("50%", "50%25"),
        ("", "-"),
    ],
)
def test_labels_are_ascii_and_say_which_run(text, want):
    assert label(text) == want


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_a_label(text):
    got = label(text)
    assert got.isascii() and got.isprintable() and 1 <= len(got) <= 200


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("run", ["/数据/图片打分", "s3://bucket/été", "x" * 5000, "\udce9\0\n"])
def test_real_metrics_take_any_runs_name(run):
    meters = Meters(run)
    meters.begin("0")
    meters.done("0", {"ok": 1.0, "bytes": 5.0, "model_s": 0.1})


def test_metrics_that_fail_end_nothing(monkeypatch):
    class Broken(Recorder):
        def set_default_tags(self, tags):
            raise UnicodeEncodeError("ascii", "x", 0, 1, "no")

    monkeypatch.setattr(telemetry, "Counter", Broken)
    run = Coordinator("run")
    run.begin("0", "score", "a")
    run.done("0", {"ok": 1.0})
    assert run.snapshot() == {"ok": 1.0}

    class Later(Recorder):
        def set(self, value):
            raise RuntimeError("no exporter")

        inc = observe = set

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(telemetry, kind, Later)
    run = Coordinator("run")
    run.begin("0", "score", "a")
    run.done("0", {"ok": 1.0})
    assert run.snapshot() == {"ok": 1.0}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "gbk", "latin-1"])
def test_log_lines_fit_any_standard_error(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(raw, encoding))
    monkeypatch.setenv("AISTUDIO_LOG", "json")
    log_event("failed", error="西湖 P\udce1gina \0", plan=object(), rate=float("nan"))
    line = json.loads(raw.getvalue().decode(encoding))
    assert line["error"] == r"西湖 P\xe1gina \x00" and line["rate"] is None


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", [None, Full()])
def test_a_closed_or_full_standard_error_ends_nothing(monkeypatch, broken):
    monkeypatch.setenv("AISTUDIO_LOG", "json")
    monkeypatch.setattr("sys.stderr", broken)
    log_event("shard", ok=1)
    say("done")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    log_event("shard", ok=1)
    say("done")


@pytest.mark.usefixtures("local_ray")
def test_bookkeeping_without_a_coordinator_goes_on():
    book = Bookkeeping("nobody")
    assert book.begin("0", "score", "a") == (False, ())
    book.progress("0", {"ok": 1.0})
    book.in_hand("0", "score", 1)
    book.end("0", "score")
    book.done("0", {"ok": 1.0})
    name = "bookkeeping-test"
    actor = start_coordinator(name, "运行")
    book = Bookkeeping(name)
    assert book.begin("0", "score", "a") == (False, ())
    book.done("0", {"ok": 1.0})
    assert ray.get(actor.snapshot.remote(), timeout=60) == {"ok": 1.0}
    ray.kill(actor)
    assert book.begin("1", "score", "a") == (False, ())
