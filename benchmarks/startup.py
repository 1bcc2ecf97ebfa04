"""From the command to the first scored batch, by stage, in this checkout and an older one; and how fast help comes.

    git worktree add ../old 6919ce1
    python benchmarks/startup.py --old ../old --rounds 3

Scores --num drawn pictures from local files with the demo's recall model, in a new process each time, old and new in
turn. A stage is over when its file appears in the run folder, which both versions write: `attempts/` once Ray is there,
`manifest/_index.json` once the manifest is read, the first file of `scores/` with the first scored batch (shards are
small here: 16 rows). "says something" is the first byte on standard error or output. Seconds since the command began,
median over the rounds; CPU seconds are those of the driver and of all that it started, until the first batch. Run it
while nothing else runs.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "Ray is there": "attempts/*.json",
    "manifest is read": "manifest/_index.json",
    "first batch": "scores/*.parquet",
}
LIGHT = ("report", "weights", "submit", "score")  # whose --help is timed
LIMIT_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT", help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num", type=int, default=64, help="pictures")
    args = parser.parse_args()
    checkouts = {"new": ROOT} | ({"old": args.old.resolve()} if args.old else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory(prefix="aistudio-startup-") as folder:
        place = Path(folder)
        _write_job(place, args.num)
        for number in range(args.rounds):
            for name in list(checkouts) if number % 2 else list(reversed(checkouts)):
                run = _run(checkouts[name], place, place / f"{name}-{number}") | _help(checkouts[name])
                found[name].append(run)
                print(json.dumps({"checkout": name, "round": number} | run), flush=True)
    print(f"\n{'stage':<22}" + "".join(f"{name:>10}" for name in checkouts))
    for stage in found["new"][0]:
        print(
            f"{stage:<22}" + "".join(f"{statistics.median(r[stage] for r in found[name]):>10.2f}" for name in checkouts)
        )


def _write_job(place: Path, num: int) -> None:
    rng = np.random.default_rng(1)
    lines = ["id,url,title"]
    for i in range(num):
        path = place / f"{i}.jpg"
        Image.fromarray(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(path)
        lines.append(f"{i},{path},海边的日落 {i}")
    (place / "m.csv").write_text("\n".join(lines), encoding="utf-8")


def _run(checkout: Path, place: Path, output: Path) -> dict[str, float]:
    """One whole command; raises where it fails."""
    conf = place / f"{output.name}.yaml"
    model = checkout / "conf/models/demo_recall.yaml"
    conf.write_text(
        f"manifest: {{path: {place}/m.csv, format: csv, columns: {{item_id: id, image_url: url, text: title}}}}\n"
        f"output: {output}\nmodels: {{recall: {model}}}\nengine: {{shard_rows: 16}}\n",
        encoding="utf-8",
    )
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "aistudio", "score", "--conf", conf],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said, heard = [], []

    def listen() -> None:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 1 << 16):
            said.append(time.monotonic() - began)
            heard.append(chunk)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    seen: dict[str, float] = {}
    spent: dict[int, float] = {}  # CPU seconds by process id
    while process.poll() is None and time.monotonic() - began < LIMIT_S:
        for stage, pattern in STAGES.items():
            if stage not in seen and next(output.glob(pattern), None):
                seen[stage] = time.monotonic() - began
        if len(seen) < len(STAGES):
            spent |= _cpu_seconds(process.pid)
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()
    code = process.wait()
    ended = time.monotonic() - began
    listener.join(10)
    if code or len(seen) < len(STAGES):
        raise SystemExit(f"{checkout}: exit code {code}\n{b''.join(heard).decode(errors='replace')[-3000:]}")
    cpu = {"CPU of the driver": spent.get(process.pid, 0.0), "CPU of all": sum(spent.values())}
    return {"says something": said[0]} | {s: seen[s] for s in STAGES} | {"command ends": ended} | cpu


def _cpu_seconds(pid: int) -> dict[int, float]:
    """CPU seconds so far of a process and of all that it started, by process id."""
    found = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[process.pid] = times.user + times.system
    return found


def _help(checkout: Path) -> dict[str, float]:
    found = {}
    for verb in LIGHT:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "aistudio", verb, "--help"], cwd=checkout, check=True, capture_output=True,
            env=os.environ | {"PYTHONPATH": str(checkout)}, timeout=60,
        )  # fmt: skip
        found[f"{verb} --help"] = time.monotonic() - began
    return found


if __name__ == "__main__":
    main()
