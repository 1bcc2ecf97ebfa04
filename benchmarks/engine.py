"""The engine's own share: rows per second of the whole pipeline with stub images and a stub model.

    python benchmarks/engine.py [--rows 20000 200000] [--plans fused staged] [--rounds 3]

Each line is one scoring run in a process of its own: manifest, snapshot, Ray Data, batches of 224 x 224 pixels,
512 numbers per image, Parquet, commits, ledger. Nothing is fetched, decoded or computed. Rows per second count from the
time when the pipeline is full to the time when it drains (commit times of the score files); start-up is told apart.
Runs are interleaved so that a busy machine disturbs all sizes alike. Prints one table.
"""

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from _stub_workers import StubEncode, StubFetch, StubFused
from _watch import run_watched

ROOT = Path(__file__).resolve().parents[1]
IMAGES_PER_ITEM = 10


class Measured(NamedTuple):
    """One run."""

    rows_per_s: float
    cpu_ms_per_row: float
    wall_s: float
    driver_mb: float
    all_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--plans", nargs="+", choices=["fused", "staged"], default=["fused", "staged"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--thumbnails", action="store_true", help="store 2 kB with every row")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--timeout-s", type=float, default=900)
    parser.add_argument("--folder", type=Path, help="keep the files here")
    parser.add_argument("--child", metavar="CONF", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_job(args.child, args.settings)
        return
    cases = [(plan, rows) for plan in args.plans for rows in args.rows]
    found: dict[tuple[str, int], list[Measured]] = {case: [] for case in cases}
    for _ in range(args.rounds):
        for plan, rows in cases:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                found[plan, rows].append(measure(Path(folder), plan, rows, args))
            print(f"{plan} {rows}: {found[plan, rows][-1]}", file=sys.stderr, flush=True)
    print_table(found)


def print_table(found: dict[tuple[str, int], list[Measured]]) -> None:
    """Medians, and the range of the rates."""
    print("| plan | rows | rows/s (range) | CPU ms/row | us/row (wall) | run s | driver MB | all MB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for (plan, rows), runs in found.items():
        middle = Measured(*(statistics.median(values) for values in zip(*runs, strict=True)))
        low, high = min(r.rows_per_s for r in runs), max(r.rows_per_s for r in runs)
        print(
            f"| {plan} | {rows:,} | {middle.rows_per_s:,.0f} ({low:,.0f}-{high:,.0f}) | {middle.cpu_ms_per_row:.3f} "
            f"| {1e6 / middle.rows_per_s:.0f} | {middle.wall_s:.1f} | {middle.driver_mb:.0f} | {middle.all_mb:.0f} |"
        )


def measure(folder: Path, plan: str, rows: int, args: argparse.Namespace) -> Measured:
    """One run in a child process."""
    conf = write_job(folder, plan, rows, args.thumbnails)
    command = [sys.executable, __file__, "--child", str(conf), *(x for s in args.settings for x in ("--set", s))]
    started = time.monotonic()
    code, watch = run_watched(command, args.timeout_s, cwd=ROOT, stdout=subprocess.DEVNULL)
    if code != 0:
        raise SystemExit(f"the run ended with {code}")
    wall_s = time.monotonic() - started
    start_s, end_s, counted = full_window(folder / "run")
    return Measured(
        counted / (end_s - start_s),
        1e3 * watch.cpu_between(start_s, end_s) / counted,
        wall_s,
        watch.peak_root_bytes / 1e6,
        watch.peak_all_bytes / 1e6,
    )


def full_window(run: Path) -> tuple[float, float, int]:
    """When every actor had work: (start, end, rows committed in between)."""
    plan = json.loads((run / "run.json").read_text(encoding="utf-8"))["plan"]
    edge = plan["num_actors"] * plan["shards_in_flight"]  # shards begun together end together
    commits = sorted(p.stat().st_mtime for p in (run / "scores").glob("*.parquet"))
    rows = json.loads((run / "run.json").read_text(encoding="utf-8"))["rows"]["stored"]
    if len(commits) < 3 * edge:
        raise SystemExit(f"{len(commits)} shards are too few to measure {edge} at a time")
    first, last = edge, len(commits) - 1 - edge // 2
    return commits[first], commits[last], math.floor((last - first) * rows / len(commits))


def write_job(folder: Path, plan: str, rows: int, thumbnails: bool) -> Path:
    """Manifest and conf of a run; the model named in it is only checked."""
    with (folder / "manifest.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text"])
        writer.writerows(
            (f"item{i // IMAGES_PER_ITEM}", f"http://127.0.0.1/picture/{i}.jpg", f"a text {i // IMAGES_PER_ITEM}")
            for i in range(rows)
        )
    conf = folder / "conf.yaml"
    conf.write_text(
        f"manifest: {{path: {folder}/manifest.csv, format: csv}}\noutput: {folder}/run\n"
        f"models: {{recall: conf/models/demo_recall.yaml}}\nengine: {{plan: {plan}, canaries: false}}\n"
        f"images: {{thumbnail_px: {160 if thumbnails else 0}}}\n"
    )
    return conf


def run_job(conf: str, settings: list[str]) -> None:
    """The child: an ordinary scoring run with other workers."""
    from aistudio.config import load_config
    from aistudio.pipeline import dataset, score

    stubs: Any = {"FusedWorker": StubFused, "FetchWorker": StubFetch, "EncodeWorker": StubEncode}
    with patch.multiple(dataset, **stubs):
        result = score.score(score.prepare(load_config(conf, settings)))
    if not result.ledger.complete:
        raise SystemExit("the ledger does not add up")


if __name__ == "__main__":
    main()
