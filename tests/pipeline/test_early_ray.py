"""A local Ray that begins to start while weights are checked: taken over once, or ended with what it started."""

import os
import subprocess
import sys
import threading
import time

import pytest

from aistudio.config import EngineSettings
from aistudio.pipeline import early_ray
from aistudio.pipeline.starting import Start


@pytest.fixture(autouse=True)
def no_start(monkeypatch):
    monkeypatch.setattr(early_ray, "_start", None)
    monkeypatch.setattr(early_ray.ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_it_begins_once_and_is_handed_over_once(monkeypatch):
    begun = []
    monkeypatch.setattr(early_ray, "_begin_quietly", lambda: begun.append(1))
    early_ray.begin(EngineSettings())
    early_ray.begin(EngineSettings())
    start = early_ray.take()
    assert start is not None and early_ray.take() is None
    with start.finished(10):
        assert begun == [1] and start.is_over


@pytest.mark.parametrize("where", ["engine.address", "RAY_ADDRESS", "initialised"])
def test_a_cluster_or_a_ray_that_runs_already_is_not_started(where, monkeypatch):
    monkeypatch.setattr(early_ray, "_begin_quietly", lambda: pytest.fail("started"))
    if where == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    if where == "initialised":
        monkeypatch.setattr(early_ray.ray, "is_initialized", lambda: True)
    early_ray.begin(EngineSettings(address="10.0.0.5:6379" if where == "engine.address" else None))
    assert early_ray.take() is None


def test_a_mistake_found_meanwhile_ends_what_was_started(monkeypatch):
    pids: list[int] = []
    started = threading.Event()

    def begin():
        pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
        started.set()

    monkeypatch.setattr(early_ray, "_begin_quietly", begin)
    monkeypatch.setattr(early_ray.ray, "shutdown", lambda: None)
    with pytest.raises(ValueError, match="weights"), early_ray.abandoned_on_error():
        early_ray.begin(EngineSettings())
        assert started.wait(10)
        raise ValueError("weights")
    assert early_ray.take() is None
    deadline = time.monotonic() + 10
    while _alive(pids[0]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def test_what_python_says_meanwhile_is_seen_and_what_the_core_says_is_not():
    code = """
import os, sys
from aistudio.pipeline.early_ray import quiet_stderr
from aistudio.pipeline.start_up import say
with quiet_stderr():
    os.write(2, b"the core\\n")
    say("a stage: 西湖")
    kept = sys.stderr
say("after")
kept.write("kept by a log\\n")
os.write(2, b"and the descriptor is back\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, env={**os.environ, "PYTHONUTF8": "1"}
    )
    lines = done.stderr.decode().splitlines()
    assert sorted(lines) == sorted(["a stage: 西湖", "after", "kept by a log", "and the descriptor is back"])


def test_a_start_that_fails_raises_where_it_is_waited_for():
    def begin():
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"), Start(begin).finished(10):
        pytest.fail("not started")
