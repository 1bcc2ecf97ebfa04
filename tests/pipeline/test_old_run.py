"""Runs that version 8b17918 began go on: read, verified, resumed, aggregated, reported, retried."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aistudio.config import JobConfig, load_config
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline.report import write_report
from aistudio.pipeline.score import prepare, score
from aistudio.runs.ledger import check_run
from aistudio.runs.record import load_run
from aistudio.status_filter import parse_status
from aistudio.store import open_store
from tests.score_here import finished_here

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests/data/run_8b17918"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """`old("run")`: settings of a copy of the half-scored run, `old("whole")` of the finished one."""
    monkeypatch.chdir(ROOT)  # the run's conf has relative paths

    def copied(name: str) -> JobConfig:
        shutil.copytree(OLD / name, tmp_path / name)
        pictures = f"download.url_map={{'http://pictures.example/': 'file://{OLD}/images/'}}"
        return load_config(
            OLD / "conf.yaml", [f"output={tmp_path / name}", pictures, "engine.plan=fused", "engine.device=cpu"]
        )

    return copied


def stored(output: str | Path) -> dict[str, dict]:
    """Rows by row_id, without the error texts: a missing file is not a missing page."""
    table = pq.read_table(f"{output}/scores").to_pandas().drop(columns=["error", "http_status"])
    table["status"] = table["status"].replace("http_error", "not_found")
    return {row["row_id"]: row for row in table.to_dict("records")}


def same(a: dict, b: dict) -> bool:
    """Equal, but for the last digits of scores: another version of a library may have computed them."""
    for key, value in a.items():
        if key in ("recall_score", "rank_score", "embedding"):
            if value is not None and value != pytest.approx(b[key], abs=1e-5, nan_ok=True):
                return False
        elif value != b[key] and not (value is None or value != value):
            return False
    return True


def test_a_half_scored_run_is_resumed(old, local_ray):
    config = old("run")
    before = {p.name: p.read_bytes() for p in Path(config.output, "scores").iterdir()}
    result = finished_here(config)
    assert result.ledger.complete and result.ledger.counts["ok"] == 27 and len(before) == 2
    assert all(Path(config.output, "scores", name).read_bytes() == data for name, data in before.items())
    assert check_run(open_store(config.output), deep=True, fingerprint=result.record.fingerprint).complete
    expected, found = stored(OLD / "whole"), stored(config.output)
    assert found.keys() == expected.keys()
    assert [row for row in expected if not same(expected[row], found[row])] == []


def test_a_finished_run_is_known_as_finished_and_its_failed_rows_are_retried(old, local_ray):
    config = old("whole")
    assert score(prepare(config)).did_nothing
    result = score(prepare(config), retry=(parse_status("http_error"),))
    assert result.ledger.complete and result.ledger.counts == {"ok": 27, "not_found": 3}


def test_a_finished_run_is_verified_aggregated_and_reported(old):
    config = old("whole")
    store = open_store(config.output)
    assert check_run(store, deep=True, fingerprint=load_run(store).fingerprint).complete
    found = aggregate(store, config.metrics)
    assert found["metrics"]["hit_rate@10"]["n"] == 6 and found["about"]["gallery_rows"] == 27
    assert Path(write_report(store, config.report)).exists()
