"""Ctrl-C, SIGTERM, SIGKILL and overlapping drivers, on real processes: `python -m aistudio score`."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from aistudio.runs.ledger import check_run
from aistudio.store import open_store

ROOT = Path(__file__).parents[2]
LIMIT_S = 150.0  # for anything that a loaded machine may take long for


class Job:
    """One driver in a session of its own, with what it prints."""

    def __init__(self, conf: Path) -> None:
        self.log = conf.with_suffix(f".{time.monotonic_ns()}.log")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs.score", "--conf", str(conf)],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def family(self) -> list[int]:
        """Processes of the session that are alive; Ray's stay in their driver's."""
        found = []
        for pid in psutil.pids():
            try:
                if os.getsid(pid) == self.process.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    found.append(pid)
            except (OSError, psutil.Error):
                continue
        return found

    def workers(self) -> list[int]:
        """As `family`, without Ray's two agents, which look after their raylet only about twice a minute."""
        agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        found = []
        for pid in self.family():
            try:
                if not " ".join(psutil.Process(pid).cmdline()).startswith(agents):
                    found.append(pid)
            except psutil.Error:
                continue
        return found

    def until(self, true: Callable[[], object], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not true():
            assert time.monotonic() < end, f"never: {what}\n{self.output()}"
            time.sleep(0.1)

    def end(self) -> None:
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture
def start() -> Iterator[Callable[[Path], Job]]:
    jobs: list[Job] = []

    def begin(conf: Path) -> Job:
        jobs.append(Job(conf))
        return jobs[-1]

    yield begin
    for job in jobs:
        job.end()


@pytest.fixture
def conf(image_server, tmp_path, make_config) -> Path:
    """A run of 12 shards whose images take a while, so that it can be met at work."""
    image_server.latency_s = 0.4
    manifest = tmp_path / "m.csv"
    with manifest.open("w", newline="") as f:
        rows = (("a", image_server.url(f"ok/{i}.jpg"), "text") for i in range(48))
        csv.writer(f).writerows([["item_id", "image_url", "text"], *rows])
    engine = {"shards_in_flight": 1, "shard_rows": 4}
    config = make_config(manifest, ranking=None, engine=engine, download={"per_host_concurrency": 1})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def scores(conf: Path) -> list[Path]:
    return sorted((conf.parent / "run" / "scores").glob("*.parquet"))


def assert_resumes_whole(conf: Path, start: Callable[[Path], Job], image_server) -> None:
    image_server.latency_s = 0.0
    kept = {p: p.read_bytes() for p in scores(conf)}
    job = start(conf)
    assert job.process.wait(LIMIT_S) == 0, job.output()
    assert "rows in = rows out: 48 = 48" in job.output()
    assert all(p.read_bytes() == data for p, data in kept.items())  # what was stored is not touched again
    ledger = check_run(open_store(str(conf.parent / "run")), deep=True)
    assert ledger.complete and ledger.counts == {"ok": 48}


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.campaign), signal.SIGTERM])
def test_a_stop_signal_ends_the_run_in_order_and_it_resumes(conf, start, image_server, number):
    job = start(conf)
    job.until(lambda: scores(conf), "a stored shard")
    if number == signal.SIGINT:
        os.killpg(job.process.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        job.process.send_signal(number)
    sent = time.monotonic()
    assert job.process.wait(60) == 1, job.output()
    took = time.monotonic() - sent
    text = job.output()
    assert "Stopped. What is stored is whole." in text and "of 48 rows are stored" in text
    assert f"resume: python -m aistudio score --conf {conf}" in text and "Traceback" not in text
    assert took < 20 + 20, f"{took:.0f} s"  # promised are 20 s; a loaded test machine gets as much again
    job.until(lambda: not job.workers(), "the end of the run's processes")
    if number == signal.SIGINT:  # once is enough: what is stored does not depend on the signal
        assert_resumes_whole(conf, start, image_server)


@pytest.mark.campaign
def test_a_second_ctrl_c_leaves_at_once(conf, start, image_server):
    job = start(conf)
    job.until(lambda: scores(conf), "a stored shard")
    job.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    job.process.send_signal(signal.SIGINT)
    assert job.process.wait(30) in (130, 1), job.output()
    job.until(lambda: not job.workers(), "the end of the run's processes")


@pytest.mark.campaign
def test_a_killed_driver_and_one_that_overlaps_it(conf, start, image_server):
    first = start(conf)
    first.until(lambda: scores(conf), "a stored shard")
    second = start(conf)  # while the first is alive: it must stop, not write on
    assert first.process.wait(LIMIT_S) in (0, 1), first.output()
    if first.process.returncode == 1:
        assert "has taken over" in first.output() and "Traceback" not in first.output()
    second.until(lambda: "attempt" in (conf.parent / "run" / "run.json").read_text(), "run.json")
    if second.process.poll() is None:
        second.process.kill()
    second.process.wait(10)
    second.until(lambda: not second.workers(), "the end of the killed driver's processes")
    assert_resumes_whole(conf, start, image_server)
