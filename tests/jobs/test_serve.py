"""The job `serve`: says what it holds, listens, answers, ends cleanly on Ctrl-C; what it refuses to start."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from aistudio.errors import ConfigError
from aistudio.jobs import serve
from tests.evaluation.stored_run import catalogue, write_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AISTUDIO_SERVE_TOKEN", raising=False)
    write_run(tmp_path / "run", *catalogue())
    return str(tmp_path / "run")


def test_a_dry_run_says_what_would_be_held_and_makes_nothing(run, tmp_path, capsys):
    assert serve.main(["--run", run, "--dry-run", "--where", "category=hat"]) == 0
    text = capsys.readouterr().out
    assert "run:recall (recall model): 30 rows of 16 numbers" in text and "MiB of memory" in text
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_on_a_cluster_says_what_each_shard_would_hold(run, tmp_path, capsys):
    assert serve.main(["--run", run, "--dry-run", "--on-cluster", "--shards", "4"]) == 0
    text = capsys.readouterr().out
    assert "run:recall (recall model): 4 shards of at most 15 rows of 16 numbers" in text
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--host", "0.0.0.0"], "AISTUDIO_SERVE_TOKEN"), (["--where", "category"], "COLUMN=VALUE"),
        (["--where", "nope=1"], "not a column"), (["--model", "nope"], "has vectors of recall"),
        (["--set", "serve.memory_mib=1"], r"needs .* MiB"), (["--columns", "nope"], "not a column"),
        (["--set", "serve.token=short"], "token"), (["--on-cluster", "--host", "0.0.0.0"], "AISTUDIO_SERVE_TOKEN"),
        (["--shards", "2"], "with --on-cluster"), (["--on-cluster", "--shards", "0"], "from 1 on"),
        (["--on-cluster", "--port", "0"], "must be named"), (["--on-cluster", "--where", "nope=1"], "not a column"),
    ],
)  # fmt: skip
def test_what_it_refuses_before_it_loads(run, argv, said):
    with pytest.raises(ConfigError, match=said):
        serve.main(["--run", run, "--dry-run", *argv])


def test_it_listens_logs_and_ends_cleanly(run):
    argv = [sys.executable, "-m", "jobs.serve", "--run", run, "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    watch = threading.Timer(120, process.kill)
    watch.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "search page:" in line:
                break
        text = "".join(lines)
        assert "its model cannot be asked" in text  # this run's weights are nowhere: what is stored can be searched
        base = re.search(r"search page: (http://127.0.0.1:\d+)/", text)[1]
        found = httpx.post(f"{base}/v1/search", json={"row_id": "0", "top_n": 3}, timeout=30).json()
        assert len(found["results"]) == 3
        refused = httpx.post(f"{base}/v1/search", json={"text": "hat"}, timeout=30)
        assert refused.status_code == 422 and "could not be loaded" in refused.json()["error"]
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest = process.communicate(timeout=30)[0]
        assert process.returncode == 0 and rest.rstrip().endswith("stopped") and "Traceback" not in rest
        assert time.monotonic() - began < 30
        logged = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
        assert [(one["path"], one["status"]) for one in logged][-2:] == [("/v1/search", 200), ("/v1/search", 422)]
    finally:
        watch.cancel()
        process.kill()
        process.wait(10)
