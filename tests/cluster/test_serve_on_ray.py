"""The search page on a real Ray Serve, the index in three shards: the same answers, a killed shard, a replaced run.

A Ray of its own, started and stopped by the job in a process of its own; the tests' shared one is not touched.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import parse_config
from aistudio.pipeline.search import plan_search, run_search
from tests.serving.served import app_of, listening, make_run

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 3
RESULT = ("rank", "item_id", "row_id", "score", "why")
INDEX_FILES = ("rows.f32", "codes.i8", "step.f32", "error.f32", "ids.i64", "order_*.i32")
ASKED = [
    {"text": "red 4"}, {"row_id": "1", "top_n": 6}, {"item_id": "item3"}, {"row_id": "2", "text": "blue"},
    {"text": "green", "per": "row", "top_n": 24}, {"text": "green", "where": {"price": {"max": 90}}, "leave_out": []},
    {"row_id": "5", "diversify": {"category": 1}}, {"row_id": "5", "offset": 3, "top_n": 3},
]  # fmt: skip


@pytest.fixture
def run(tmp_path, tiny_models, monkeypatch):
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "cache"))

    def make(manifest, format, ranking=None, columns=None, output="", models=None):
        data = {
            "manifest": {"path": str(manifest), "format": format, "columns": columns}, "output": output,
            "models": {"recall": tiny_models["recall"]}, "engine": {"shard_rows": 8},
        }  # fmt: skip
        return parse_config(data, "test")

    store = make_run(tmp_path / "data", tiny_models, make)
    give_vectors(store, 1)  # the tiny model gives all pictures nearly the same
    return store


@contextmanager
def on_ray(run, lines, *settings):
    """The job, listening; yields its process and its address. What it prints goes to `lines`."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    temp = Path(f"/tmp/ray-serve-{os.getpid()}")  # Unix sockets lie here: a short path
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(temp), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    argv = ["-m", "jobs.serve", "--run", run, "--on-cluster", "--shards", str(SHARDS), "--port", str(port)]
    for one in ("serve.shard_cpus=0.1", *settings):
        argv += ["--set", one]
    temp.mkdir()
    job = subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=env
    )
    reader = threading.Thread(target=lambda: lines.extend(job.stdout), daemon=True)
    reader.start()
    started = []
    try:
        wait(lambda: any("search page:" in line for line in lines) or job.poll() is not None, 200)
        assert job.poll() is None, "".join(lines)
        started = psutil.Process(job.pid).children(recursive=True)
        yield job, f"http://127.0.0.1:{port}"
    finally:
        with_children = [*started, *(psutil.Process(job.pid).children(recursive=True) if job.poll() is None else [])]
        for process in [job, *with_children]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        job.wait(30)
        reader.join(10)
        shutil.rmtree(temp, ignore_errors=True)


def wait(condition, limit_s):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s} s"
        time.sleep(0.1)


def ask(base, question):
    """Status, and what the answer says, but for the time it took."""
    answer = httpx.post(f"{base}/v1/search", json=question, timeout=30)
    found = answer.json() if answer.status_code == 200 else {}
    return answer.status_code, {k: v for k, v in found.items() if k != "ms"}


def single(run):
    """Answers of the single process."""
    with listening(app_of([run])) as base:
        return [ask(base, question) for question in ASKED]


def of_the_search_job(store):
    table = Path(store.root).parent / "q.jsonl"
    queries = [{"query_id": "t", "text": "red 4"}, {"query_id": "r", "row_id": "1"}]
    table.write_text("\n".join(json.dumps(query) for query in queries))
    run_search(plan_search(store.root, "s", ["search.top_n=6"], queries=str(table)))
    stored = store.read_table("searches/s/results.parquet").to_pylist()
    return {q: [tuple(r[c] for c in RESULT) for r in stored if r["query_id"] == q] for q in "tr"}


def replica(job, number):
    named = f"ray::ServeReplica:aistudio:shard_{number}"
    found = [p for p in psutil.Process(job.pid).children(recursive=True) if " ".join(p.cmdline()).startswith(named)]
    return found[0] if found else None


def check_each_holds_its_part(job, cache):
    """Each shard's process has the copy of its own part open and no other; that is a third of the whole index."""
    whole = index_bytes(next(p.parent for p in cache.rglob("rows.f32") if "shard-" not in str(p)))
    for number in range(SHARDS):
        mapped = {Path(m.path).parent for m in replica(job, number).memory_maps() if m.path.endswith("rows.f32")}
        assert len(mapped) == 1 and f"shard-{number + 1}-of-{SHARDS}" in str(*mapped)
        assert 0 < index_bytes(*mapped) <= whole * (1 / SHARDS + 0.15)


def index_bytes(folder):
    return sum(path.stat().st_size for name in INDEX_FILES for path in folder.glob(name))


def check_a_killed_shard_leaves_no_partial_answer(job, base, wanted):
    killed = replica(job, 1)
    killed.kill()
    killed.wait(10)
    statuses = []

    def whole_again():
        status, found = ask(base, ASKED[4])
        statuses.append(status)
        assert status == 503 or (status, found) == wanted[4]
        return status == 200

    wait(whole_again, 90)
    assert statuses[0] == 503
    assert [ask(base, question) for question in ASKED] == wanted
    assert replica(job, 1).pid != killed.pid


def give_vectors(store, seed):
    """Put other vectors into the score files, as a run that is made anew does: drawn ones, of length 1."""
    rng = np.random.default_rng(seed)
    store.write_json("run.json", store.read_json("run.json") | {"state": "running"})
    for entry in store.list("scores/"):
        table = pq.read_table(store.path(entry.key))
        at, field = table.column_names.index("embedding"), table.schema.field("embedding")
        drawn = rng.normal(size=(table.num_rows, 16)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        there = table["embedding"].is_valid().to_pylist()
        values = pa.array([list(v) if here else None for v, here in zip(drawn, there, strict=True)], field.type)
        path = Path(store.path(entry.key))
        pq.write_table(table.set_column(at, field, values), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    store.write_json("run.json", store.read_json("run.json") | {"state": "complete"})


def check_a_replaced_run_is_served_without_a_pause(base, store, old):
    answers, over = [], threading.Event()

    def visitor():
        while not over.is_set():
            answers.append(ask(base, ASKED[4]))

    thread = threading.Thread(target=visitor, daemon=True)
    thread.start()
    try:
        give_vectors(store, 2)
        new = single(store.root)
        wait(lambda: answers[-1:] == [new[4]], 60)
    finally:
        over.set()
        thread.join(40)
    assert new[4] != old[4] and all(answer in (old[4], new[4]) for answer in answers)
    assert [ask(base, question) for question in ASKED] == new


@pytest.mark.campaign
@pytest.mark.cluster
@pytest.mark.timeout(500)
def test_three_shards_answer_as_one_process_survive_a_kill_and_follow_the_run(run, tmp_path):
    lines = []
    wanted, by_job = single(run.root), of_the_search_job(run)
    assert all(status == 200 and found["results"] for status, found in wanted)
    with on_ray(run.root, lines, "serve.answer_timeout_s=2", "serve.reload_s=1") as (job, base):
        assert [ask(base, question) for question in ASKED] == wanted
        for name, question in (("t", {"text": "red 4", "top_n": 6}), ("r", {"row_id": "1", "top_n": 6})):
            assert [tuple(r[c] for c in RESULT) for r in ask(base, question)[1]["results"]] == by_job[name] != []
        assert httpx.get(f"{base}/", params={"text": "red"}, timeout=30).status_code == 200
        assert httpx.post(f"{base}/v1/photos", content=b"no picture", timeout=30).status_code == 422
        check_each_holds_its_part(job, tmp_path / "cache")
        check_a_killed_shard_leaves_no_partial_answer(job, base, wanted)
        check_a_replaced_run_is_served_without_a_pause(base, run, wanted)
        children = psutil.Process(job.pid).children(recursive=True)
        job.send_signal(signal.SIGINT)
        assert job.wait(60) == 0, "".join(lines)
        wait(lambda: not [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], 20)
    assert lines[-1].strip() == "stopped" and "Traceback" not in "".join(lines)
