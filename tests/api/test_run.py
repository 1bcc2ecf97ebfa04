"""Metrics, reports and scoring from Python give what the jobs give."""

import json
from pathlib import Path

import pytest

import aistudio
from aistudio.errors import ConfigError, FailingRowsError
from aistudio.jobs import aggregate as aggregate_job
from tests.evaluation.stored_run import catalogue, write_run


def test_aggregate_is_the_job(tmp_path, capsys):
    for name in ("a", "b"):
        write_run(tmp_path / name, *catalogue(), shard=25)
    run = aistudio.open_run(tmp_path / "a")
    found = run.aggregate(query="image", k=[1, 3], slices=["category"])
    argv = ["--run", str(tmp_path / "b"), "--set", "metrics.query=image", "--set", "metrics.k=[1,3]"]
    assert aggregate_job.main([*argv, "--set", "metrics.slices=[category]"]) == 0
    stored = json.loads((tmp_path / "b/metrics/image/metrics.json").read_text())
    assert found["metrics"] == stored and "hit_rate@3" in stored
    assert found["about"] == json.loads((tmp_path / "b/metrics/image/about.json").read_text())
    (tmp_path / "m6.csv").write_text("row_id,score\n0,1\n1,2\n")
    assert run.aggregate(scores=tmp_path / "m6.csv")["about"]["given"]["used"] == 2
    with pytest.raises(ConfigError, match=r"metrics\.kk is not a setting"):
        run.aggregate(kk=[1])
    with pytest.raises(ConfigError, match="expected numbers, texts"):
        run.aggregate(k=object())


def test_a_report_goes_into_the_run_or_elsewhere(tmp_path):
    write_run(tmp_path / "run", *catalogue(), shard=25)
    run = aistudio.open_run(tmp_path / "run")
    run.aggregate()
    index = run.report(into=tmp_path / "pages", against=tmp_path / "run", title="Autumn")
    assert Path(index) == tmp_path / "pages/index.html" and "Autumn" in Path(index).read_text()
    assert (tmp_path / "pages/drift.html").exists() and not (tmp_path / "run/report").exists()
    assert Path(run.report()) == tmp_path / "run/report/index.html"


def test_score_scores_resumes_and_says_what_failed(make_config, local_ray, image_server, tmp_path):
    urls = [image_server.url(f"ok/{i}.jpg") for i in range(5)] + [image_server.url("404/x.jpg")]
    lines = [f"item{i % 2},{url},a b {i % 2}" for i, url in enumerate(urls)]
    (tmp_path / "m.csv").write_text("\n".join(["item_id,image_url,text", *lines]) + "\n")
    config = make_config(tmp_path / "m.csv")
    run = aistudio.score(config)
    assert run.record.state == "complete" and run.record.counts == {"ok": 5, "http_error": 1}
    assert run.num_rows == 6 and len(run.vectors().matrix().row_ids) == 5
    assert aistudio.score(config).record.attempt == run.record.attempt  # a finished run is left alone
    strict = config.model_copy(update={"engine": config.engine.model_copy(update={"max_failed_share": 0.1})})
    with pytest.raises(FailingRowsError, match="1 of 6 rows failed"):
        aistudio.score(strict)
    with pytest.raises(ConfigError, match="yes=True"):
        aistudio.score(config.model_copy(update={"start_over": True}))
    with pytest.raises(ConfigError, match="overrides go with the path"):
        aistudio.score(config, ["engine.shard_rows=3"])
