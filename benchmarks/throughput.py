"""Images per second, HTTP to Parquet: the job, the machine's limit, the reference way, and what else one would use.

    python benchmarks/throughput.py [--images FOLDER] [--num 2000] [--weights b3 demo] [--latency-ms 0 20]

Serves real JPEGs on loopback and lets every way score them with the same weights, in turn, round after round:

    ours          python -m jobs.score with its defaults (and --set)
    limit         our decode and our model in a bare loop, all cores busy, images in memory, nothing else
    limit_ray     the same beside an idle Ray: what Ray takes for itself
    reference     one process, one image after the other, batch 16, eager float32 model
    dataloader    PyTorch DataLoader with workers, model in the main process
    ray_data      Ray Data as its batch-inference guide does it
    daft          Daft: url.download, decode, class UDF     (daft_decode: with its own decoder, other pixels)
    img2dataset   img2dataset to disk, then a DataLoader loop

Peers run the eager model that one would have without this project; with --peer-model ours they get our optimised one.
The clock of a way starts when it has asked for an image and has its first model loaded, and stops when its results are
stored: start-up is not counted, for nobody. Peers whose package --peer-python lacks are skipped. Prints one table per
weights and latency: ratios are medians over the rounds of pairs that stood side by side.
"""

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from _gpu_decode import photos
from _serve import Photographs
from _watch import run_watched
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WAYS = ["ours", "limit", "limit_ray", "reference", "dataloader", "ray_data", "daft", "daft_decode", "img2dataset"]
IMAGES_PER_ITEM = 10


class Measured(NamedTuple):
    """One run of one way."""

    images_per_s: float
    cpu_s_per_1000: float
    peak_mb: float
    start_s: float  # command to the start of the clock
    scores: dict[str, float]


def main() -> None:
    args = parse()
    for weights in args.weights:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            rows, files = prepare(folder, args)
            conf = model_conf(folder, weights, files)
            for latency_ms in args.latency_ms:
                with Photographs(folder / "images", latency_ms / 1e3) as server:
                    for row in rows:
                        row["url"] = server.base + Path(row["file"]).name
                    compare(folder, server, rows, conf, args, f"{weights}, {latency_ms:g} ms latency")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEGs, more of them by encoding again; else drawn ones")
    parser.add_argument("--num", type=int, default=2000, help="images scored by each run")
    parser.add_argument("--sizes", nargs="*", default=[], metavar="WxH", help="re-encode to these sizes, in turn")
    parser.add_argument("--weights", nargs="+", default=["b3"], help="b3, demo, or conf/models/*.yaml")
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0, 20])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-model", choices=["plain", "ours"], default="plain")
    parser.add_argument("--peer-python", action="append", default=[], metavar="WAY=PYTHON")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--timeout-s", type=float, default=600, help="of one run")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    return parser.parse_args()


def prepare(folder: Path, args: argparse.Namespace) -> tuple[list[dict[str, str]], list[Path]]:
    """Distinct images in one folder, and the rows: ten images an item, one text an item."""
    bodies = pictures(args.images, args.num)
    (folder / "images").mkdir()
    letters = np.random.default_rng(0).integers(0x4E00, 0x9000, (args.num, 30))
    rows = []
    for i, body in enumerate(bodies):
        if args.sizes:
            body = reencode(body, args.sizes[i % len(args.sizes)])
        file = folder / "images" / f"{i:06d}.jpg"
        file.write_bytes(body)
        text = "".join(map(chr, letters[i // IMAGES_PER_ITEM]))
        rows.append({"row_id": str(i + 2), "item_id": f"item{i // IMAGES_PER_ITEM}", "text": text, "file": str(file)})
    return rows, [Path(r["file"]) for r in rows]


def pictures(source: Path | None, num: int) -> Iterator[bytes]:
    """`num` JPEG files, no two alike: those of a folder, more of them at other qualities, or drawn ones."""
    if source is None:
        yield from photos(num, (400, 533))
        return
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise SystemExit(f"{source} has no JPEGs")
    for i in range(num):
        body = found[i % len(found)].read_bytes()
        yield body if i < len(found) else encoded(open_rgb(body), 92 - i // len(found))


def reencode(body: bytes, size: str) -> bytes:
    """The picture at another size, JPEG quality 90."""
    width, height = map(int, size.split("x"))
    return encoded(open_rgb(body).resize((width, height), Image.Resampling.BICUBIC), 90)


def open_rgb(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body)).convert("RGB")


def encoded(picture: Image.Image, quality: int) -> bytes:
    """As JPEG."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def model_conf(folder: Path, weights: str, files: list[Path]) -> str:
    """Conf file of the recall model."""
    if weights == "b3":
        from _models import write_b3

        return write_b3(folder, files[:: max(1, len(files) // 32)][:32])
    return str(ROOT / "conf/models/demo_recall.yaml") if weights == "demo" else weights


def compare(
    folder: Path, server: Photographs, rows: list[dict[str, str]], conf: str, args: argparse.Namespace, title: str
) -> None:
    """Run every way in every round; print the table."""
    found: dict[str, list[Measured]] = {}
    skipped = {}
    for round_number in range(args.rounds):
        for way in args.ways if round_number % 2 == 0 else reversed(args.ways):
            if way in skipped:
                continue
            with tempfile.TemporaryDirectory(dir=folder) as out:
                try:
                    one = measure(Path(out), way, server, rows, conf, args)
                except WayFailed as e:
                    skipped[way] = str(e)
                    print(f"{way}: {e}", file=sys.stderr, flush=True)
                    continue
            found.setdefault(way, []).append(one)
            shown = f"{one.images_per_s:.1f} images/s, {one.cpu_s_per_1000:.1f} CPU s per 1,000, {one.peak_mb:.0f} MB"
            print(f"{title}: {way}: {shown}, start-up {one.start_s:.1f} s", file=sys.stderr, flush=True)
    print_table(title, len(rows), found, skipped)


def print_table(title: str, num: int, found: dict[str, list[Measured]], skipped: dict[str, str]) -> None:
    print(f"\n{title}, {num:,} images\n")
    print("| way | images/s | ours / it | CPU s per 1,000 | peak MB | start-up s | max score difference |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    ours = found.get("ours", [])
    for way, runs in found.items():
        rate, cpu, peak, start = (statistics.median(r[i] for r in runs) for i in range(4))
        ratios = [a.images_per_s / b.images_per_s for a, b in zip(ours, runs, strict=False)]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        off = difference(ours[0].scores, runs[0].scores) if ours else float("nan")
        print(f"| {way} | {rate:.1f} | {ratio} | {cpu:.1f} | {peak:.0f} | {start:.1f} | {off:.1e} |")
    for way, reason in skipped.items():
        print(f"| {way} | skipped: {reason} | | | | | |")


def difference(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest absolute difference over the rows of both; infinite when they have not the same rows."""
    return max((abs(a[i] - b[i]) for i in a), default=float("nan")) if a.keys() == b.keys() else float("inf")


class WayFailed(Exception):
    """A way is not installed, or ended badly."""


def measure(
    out: Path, way: str, server: Photographs, rows: list[dict[str, str]], conf: str, args: argparse.Namespace
) -> Measured:
    """One run of one way, watched."""
    python = dict(x.split("=", 1) for x in args.peer_python).get(way, sys.executable)
    command = ours_command(out, rows, conf, args) if way == "ours" else way_command(out, python, way, rows, conf, args)
    server.reset()
    started = time.time()
    with (out / "log.txt").open("wb") as log:
        quiet: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        code, watch = run_watched(command, args.timeout_s, cwd=ROOT, env=environment(), **quiet)
    if code != 0:
        raise WayFailed(f"ended with {code}: {(out / 'log.txt').read_text(errors='replace')[-600:]!r}")
    start, end, scores = (ours_result if way == "ours" else way_result)(out)
    first = server.first_request_s()
    start = max(start, first or 0.0)
    cpu = watch.cpu_between(start, end)
    return Measured(
        len(rows) / (end - start), 1e6 * cpu / 1e3 / len(rows), watch.peak_all_bytes / 1e6, start - started, scores
    )


def environment() -> dict[str, str]:
    """For every way alike."""
    paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    return os.environ | {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", "DAFT_ANALYTICS_ENABLED": "0"}


def ours_command(out: Path, rows: list[dict[str, str]], conf: str, args: argparse.Namespace) -> list[str]:
    """The job as a user types it."""
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["row_id", "item_id", "image_url", "text"])
        writer.writerows((r["row_id"], r["item_id"], r["url"], r["text"]) for r in rows)
    (out / "conf.yaml").write_text(
        f"manifest: {{path: {out}/manifest.csv, format: csv, columns: {{row_id: row_id}}}}\n"
        f"output: {out}/run\nmodels: {{recall: {conf}}}\n"
        "download: {allow_private_addresses: true}\n"
    )
    settings = [x for s in args.settings for x in ("--set", s)]
    return [sys.executable, "-m", "jobs.score", "--conf", str(out / "conf.yaml"), *settings]


def ours_result(out: Path) -> tuple[float, float, dict[str, float]]:
    """(0: its models are loaded before it asks for anything, time of the last commit, scores)."""
    files = list((out / "run" / "scores").glob("*.parquet"))
    tables = [pq.read_table(p, columns=["row_id", "recall_score"]) for p in files]
    scores = {i: s for t in tables for i, s in zip(*(c.to_pylist() for c in t.columns), strict=True)}
    if None in scores.values():
        raise WayFailed("not every row was scored")
    return 0.0, max(p.stat().st_mtime for p in files), scores


def way_command(
    out: Path, python: str, way: str, rows: list[dict[str, str]], conf: str, args: argparse.Namespace
) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    job = {
        "rows": rows, "conf": conf, "model": args.peer_model, "out": str(out), "cores": cores, "images": {},
        "ray_download": cores > 3,  # Ray's own download stage keeps a CPU for its planner: on two nothing else starts
    }  # fmt: skip
    (out / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return [python, str(ROOT / "benchmarks/_ways.py"), way, str(out / "job.json")]


def way_result(out: Path) -> tuple[float, float, dict[str, float]]:
    """(a model was ready, everything was stored, scores)."""
    ready = [float(p.read_text()) for p in out.glob("ready-*")]
    end = [float(p.read_text()) for p in out.glob("end-*")]
    table = pq.read_table(out / "scores.parquet")
    return min(ready), max(end), dict(zip(table["row_id"].to_pylist(), table["score"].to_pylist(), strict=True))


if __name__ == "__main__":
    main()
