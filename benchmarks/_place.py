"""What benchmarks/environments.py runs `score` in: a folder with 20 pictures, private namespaces, control groups."""

import contextlib
import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NUM_ROWS = 20
LIMIT_S = 400.0  # of one run; an idle machine takes 15 s
_NOBODY = 65534
_OWN_RAY = "mkdir -p /tmp/ray && mount -t tmpfs -o mode=1777 none /tmp/ray"  # nobody else's folder is touched


class Skipped(Exception):
    """The environment cannot be made here; the text says why."""


class Outcome(NamedTuple):
    """How a run ended."""

    code: int | None  # None: it had to be killed
    seconds: float
    out: str
    err: str
    ok_rows: int  # stored with status ok
    left_over: int  # processes of the run that were alive after it

    @property
    def text(self) -> str:
        return f"{self.out}\n{self.err}"

    @property
    def message(self) -> str:
        """The last line that says something."""
        lines = [line for line in self.text.splitlines() if re.match(r"(error|warning|Stopped|rows in)", line)]
        return (lines or self.text.strip().splitlines() or [""])[-1]


def write_base(folder: Path, num_rows: int = NUM_ROWS) -> Path:
    """BASE.yaml of the cases: a CSV of local JPEGs, the demo's recall model. Readable for every user."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    random = np.random.default_rng(12)
    with (folder / "m.csv").open("w", newline="") as f:
        table = csv.writer(f)
        table.writerow(["item_id", "image_url", "text"])
        for i in range(num_rows):
            Image.fromarray(random.integers(0, 255, (120, 160, 3), np.uint8)).save(folder / f"{i}.jpg")
            table.writerow([f"item {i}", folder / f"{i}.jpg", f"picture {i}"])
    conf = {
        "manifest": {"path": str(folder / "m.csv"), "format": "csv"},
        "output": str(folder / "out"),
        "models": {"recall": "conf/models/demo_recall.yaml", "ranking": None},
        "engine": {"start_timeout_s": 240},  # a machine that runs several at once may take long to start Ray
    }
    (folder / "BASE.yaml").write_text(yaml.safe_dump(conf))
    return folder / "BASE.yaml"


def score(
    conf: Path,
    *arguments: str,
    prefix: Sequence[str] = (),
    program: Sequence[str] = (sys.executable, "-m", "jobs.score"),
    environment: Mapping[str, str | None] | None = None,
    limit_s: float = LIMIT_S,
    meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Outcome:
    """Run `score` on a new output folder; kill what is left of it after `limit_s`.

    Args:
        prefix: command line that the run's is appended to.
        environment: variables to set, or to unset (None).
        meanwhile: called with the process when it has started.
    """
    name = uuid.uuid4().hex[:8]
    output = conf.parent / f"out_{name}"
    command = [*prefix, *program, "--conf", str(conf), "--set", f"output={output}", *arguments]
    variables = {k: v for k, v in (os.environ | dict(environment or {})).items() if v is not None}
    started = time.monotonic()
    with (conf.parent / f"{name}.out").open("w+b") as out, (conf.parent / f"{name}.err").open("w+b") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT, env=variables, start_new_session=True
        )
        code: int | None = None
        try:
            if meanwhile is not None:
                meanwhile(process)
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            seconds = time.monotonic() - started
            left = _end_session(process)
        texts = [Path(f.name).read_text(errors="replace") for f in (out, err)]
    return Outcome(code, seconds, *texts, _ok_rows(output), 0 if code is None else left)


def _end_session(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the process's session; returns how many there were besides Ray's agents, which end late."""
    patience = time.monotonic() + 10.0
    while (left := _session(process.pid)) and time.monotonic() < patience:
        time.sleep(0.2)
    for pid in _session(process.pid):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.wait(30)
    return sum(1 for name in left.values() if "Agent" not in name)


def _session(leader: int) -> dict[int, str]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text(errors="replace")
    return found


def _ok_rows(output: Path) -> int:
    files = (output / "scores").glob("*.parquet")
    return sum(pq.read_table(f, columns=["status"])["status"].to_pylist().count("ok") for f in files)


def private(script: str, *options: str) -> list[str]:
    """Prefix: a mount namespace of its own with an empty /tmp/ray, where `script` is run first. Raises Skipped."""
    unshare = ["unshare", "-m", *options]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=30).returncode:
        raise Skipped(f"{shlex.join(unshare)} is not allowed here")
    return [*unshare, "bash", "-c", f'{_OWN_RAY}; {script}; exec "$@"', "bash"]


def as_nobody(script: str = ":") -> list[str]:
    """Prefix: an ordinary user without a home, after `script` was run as root. Raises Skipped."""
    python = Path(sys.base_prefix)
    closed = next((p for p in reversed(python.parents) if not p.stat().st_mode & 0o001), None)
    opening = ""
    if closed is not None:  # a Python below /root: let others see it, and nothing else in there
        python_path, holder = shlex.quote(str(python)), "/mnt/python"
        opening = (
            f"; mount -t tmpfs none /mnt; mkdir {holder}; mount --bind {python_path} {holder}; mount -t tmpfs -o "
            f"mode=755 none {shlex.quote(str(closed))}; mkdir -p {python_path}; mount --bind {holder} {python_path}"
        )
    user = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    return [*private(script + opening), *user, "env", "-i", f"PATH={os.environ['PATH']}", "HOME=/nonexistent"]


@contextmanager
def control_group(controller: str, **values: int) -> Iterator[list[str]]:
    """Prefix: within a control group (version 1) of its own, seen as a container sees its own. Raises Skipped."""
    group = Path("/sys/fs/cgroup", controller, f"aistudio_{uuid.uuid4().hex[:8]}")
    try:
        group.mkdir()
        for name, value in values.items():
            (group / f"{controller}.{name}").write_text(str(value))
    except OSError as e:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise Skipped(f"no {controller} control group (version 1) can be made here: {e.strerror}") from None
    try:
        enter = f"echo $$ > {group}/cgroup.procs; mount --bind {group} /sys/fs/cgroup/{controller}"
        yield private(enter)
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.2)
