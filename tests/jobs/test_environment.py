"""`score` as a process in environments that users have: one message in time, or a whole run. See also
benchmarks/environments.py, which makes all of them.
"""

import csv
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from aistudio.runs.ledger import check_run
from aistudio.store import open_store

ROOT = Path(__file__).resolve().parents[2]
SCORE = [sys.executable, "-m", "jobs.score"]
_OF_TESTS = ("RAY_ADDRESS", "RAY_TMPDIR", "AISTUDIO_CACHE")  # a user has none of these
LIMIT_S = 250.0  # of a loaded machine; the suite's own limit is 300 s


@pytest.fixture
def conf(tmp_path, make_config) -> Path:
    """20 local pictures, a tiny model."""
    with (tmp_path / "m.csv").open("w", newline="") as f:
        table = csv.writer(f)
        table.writerow(["item_id", "image_url", "text"])
        for i in range(20):
            Image.new("RGB", (40, 30), (9 * i, 99, 200)).save(tmp_path / f"{i}.jpg")
            table.writerow([f"a{i}", tmp_path / f"{i}.jpg", "text"])
    config = make_config(tmp_path / "m.csv", ranking=None, engine={"num_actors": "auto"})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return tmp_path / "job.yaml"


def run(conf: Path, *arguments: str, prefix: tuple[str, ...] = (), program=SCORE, **variables: str):
    environment = {k: v for k, v in os.environ.items() if k not in _OF_TESTS} | variables
    command = [*prefix, *program, "--conf", str(conf), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, start_new_session=True
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def whole(conf: Path) -> bool:
    ledger = check_run(open_store(str(conf.parent / "run")), deep=True)
    return ledger.complete and ledger.counts == {"ok": 20}


def in_namespace(*options: str, script: str = ":") -> tuple[str, ...]:
    unshare = ("unshare", "-m", *options)
    try:
        allowed = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if allowed.returncode:
        pytest.skip(f"{shlex.join(unshare)} is not allowed here")
    setup = f"mkdir -p /tmp/ray && mount -t tmpfs -o mode=1777 none /tmp/ray && {script}"
    return (*unshare, "bash", "-c", f'{setup}; exec "$@"', "bash")


@pytest.mark.parametrize("arguments", [("--dry-run",), ()])
def test_a_folder_for_ray_that_cannot_be_made_is_found_by_dry_run_and_run(conf, arguments):
    done = run(conf, *arguments, RAY_TMPDIR="/proc/nonexist")
    assert done.returncode == 2 and done.stderr.count("error:") == 1
    assert "/proc/nonexist/ray (from RAY_TMPDIR)" in done.stderr


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("mount -o remount,ro /tmp/ray", 2, ("/tmp/ray", "Read-only", "RAY_TMPDIR")),
        ("mount -t tmpfs -o size=64k none /tmp/ray", 1, ("/tmp/ray", "MB free, 20 MB are needed")),
    ],
)
def test_rays_folder_that_cannot_be_used(conf, script, code, words):
    done = run(conf, "--dry-run", prefix=in_namespace(script=script))
    assert done.returncode == code and all(word in done.stderr for word in words), done.stderr


def test_no_interface_is_one_message(conf):
    done = run(conf, "--dry-run", prefix=in_namespace("-n"))
    assert done.returncode == 1 and "Ray needs a network interface, `lo` at least" in done.stderr


@pytest.mark.parametrize(("address", "code"), [("10.0.0.5 6379", 2), ("127.0.0.1:9", 1)])
def test_a_cluster_that_is_none_is_named(conf, address, code):
    done = run(conf, "--dry-run", RAY_ADDRESS=address)
    assert done.returncode == code and address in done.stderr and done.stderr.count("error:") == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_stale_address_is_passed_over_and_the_plan_of_the_dry_run_is_the_runs(conf):
    one = ("taskset", "-c", str(min(os.sched_getaffinity(0))))
    dry = run(conf, "--dry-run", prefix=one)
    assert "in one pool: 1 model actor(s)" in dry.stdout
    stale = in_namespace(script="echo 127.0.0.1:6391 > /tmp/ray/ray_current_cluster")
    done = run(conf, prefix=(*stale, *one))
    assert done.returncode == 0 and whole(conf), done.stderr
    assert json.loads((conf.parent / "run" / "run.json").read_text())["plan"]["num_actors"] == 1


@pytest.mark.campaign
def test_the_file_and_closed_streams_and_no_home_and_warnings_as_errors(conf):
    """Four environments in one run, since starting Ray costs more than the rest; each alone is in environments.py."""
    program = [sys.executable, str(ROOT / "jobs" / "score.py")]
    closed = ("bash", "-c", 'exec "$@" <&- 2>&- >/dev/full', "bash")
    done = run(conf, prefix=closed, program=program, HOME="/proc/none", PYTHONWARNINGS="error", RAY_AUTH_MODE="")
    assert done.returncode == 1  # standard output was full: what it printed is lost, what it stored is not
    assert whole(conf)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_that_hangs_and_nothing_stays(conf, number):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT_S)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*SCORE, "--conf", str(conf), "--set", "engine.start_timeout_s=280"],
            cwd=ROOT, env=os.environ | {"RAY_ADDRESS": address}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            silent.accept()
            time.sleep(3)  # into Ray
            assert process.poll() is None
            process.send_signal(number)
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 1 and "Traceback" not in out and "resume: python -m aistudio score" in out
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
