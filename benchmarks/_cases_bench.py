"""What benchmarks/cases.py runs jobs with: a folder of its own, the cases' odd server, looks at what is stored."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT.parent / "shared" / "cases" / "2026-11"
LIMIT_S = 400.0  # of one job; an idle machine takes 15 s
TOLERANCE = 1e-4  # "same embedding" of the README


class Done(NamedTuple):
    """How a job ended, and the run folder that it was about."""

    code: int
    text: str
    run: Path

    def rows(self) -> list[dict[str, Any]]:
        """Stored rows in the order of their ids' numbers; points in time, which Python may not hold, are left out."""
        files = sorted((self.run / "scores").glob("*.parquet"))
        tables = [pq.ParquetFile(file).read() for file in files]
        names = [[f.name for f in t.schema if not pa.types.is_temporal(f.type)] for t in tables]
        return [row for t, kept in zip(tables, names, strict=True) for row in t.select(kept).to_pylist()]

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Rows by the part of image_url that names the case: a file's name, or the manner of the server's answer."""
        names = {}
        for row in self.rows():
            parts = row["image_url"].split("/")
            names[parts[-1] if parts[-2] == "file" else parts[-2]] = row
        return names


class Bench(NamedTuple):
    """Where the cases are run: a folder of our own and the odd server's address."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def job(self, verb: str, *arguments: str, run: Path | None = None) -> Done:
        command = [sys.executable, "-m", f"jobs.{verb}", *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                timeout=LIMIT_S,
                stdin=subprocess.DEVNULL,
                env=self._environment(),
            )
        except subprocess.TimeoutExpired:
            return Done(-9, f"no end within {LIMIT_S:.0f} s", run or self.folder)
        return Done(done.returncode, (done.stdout + done.stderr).decode(errors="replace"), run or self.folder)

    def _environment(self) -> dict[str, str]:
        names = ("http_proxy", "https_proxy", "all_proxy")
        return {k: v for k, v in os.environ.items() if k.lower() not in names} | {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"
        }  # fmt: skip

    def score(
        self, name: str, manifest: str | Path, *settings: str, format: str = "csv", more: tuple[str, ...] = ()
    ) -> Done:
        """Score a manifest into a folder `name` of ours; the server of the manifests is this bench's."""
        run = self.folder / name
        given = [f"manifest.path={manifest}", f"manifest.format={format}", f"output={run}",
                 "engine.start_timeout_s=240",  # several at once may take long to start Ray
                 f'download.url_map={{"http://127.0.0.1:8123/": "{self.url}/"}}', *settings]  # fmt: skip
        sets = [word for setting in given for word in ("--set", setting)]
        return self.job("score", "--conf", str(CASES / "conf.yaml"), *sets, *more, run=run)

    def shared(self, name: str) -> Path:
        return CASES / "manifests" / name


Verdict = tuple[bool, str]


def whole(done: Done, num_rows: int) -> bool:
    return done.code == 0 and len(done.rows()) == num_rows


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if a["status"] != "ok" or b["status"] != "ok":
        return False
    return float(np.abs(np.subtract(a["embedding"], b["embedding"])).max()) <= TOLERANCE


def seen(done: Done) -> str:
    lines = [line for line in done.text.splitlines() if line.startswith("error")] or done.text.splitlines()[-1:]
    return f"exit {done.code}, {len(done.rows())} rows: {lines[0] if lines else ''}"


@contextmanager
def odd_server(manifest: Path) -> Iterator[int]:
    """The cases' own server on a free port of 127.0.0.1."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    pictures_folder = CASES / "pictures"
    command = [sys.executable, CASES / "odd_server.py", "--port", str(port), "--picture", pictures_folder / "plain.jpg",
               "--folder", pictures_folder, "--manifest", manifest, "--seconds", "7200"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait(10)
