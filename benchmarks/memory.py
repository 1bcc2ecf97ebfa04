"""Peak memory of the driver, and of all processes, against the number of manifest rows.

    python benchmarks/memory.py [--rows 20000 200000]

Each size is one `jobs.score` process on the demo recall model over local files: every shard's rows share one image, so
that the engine is what is measured. Prints one table.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--timeout-s", type=float, default=900)
    args = parser.parse_args()
    print("|    rows | wall s | rows/s | driver peak MB | all processes peak MB |")
    print("|--------:|-------:|-------:|---------------:|----------------------:|")
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            wall_s, driver, everything = measure(Path(folder), rows, args.timeout_s)
        print(
            f"| {rows:>7,} | {wall_s:6.1f} | {rows / wall_s:6.0f} | {driver / 1e6:14.0f} | {everything / 1e6:21.0f} |"
        )


def measure(folder: Path, rows: int, timeout_s: float) -> tuple[float, int, int]:
    """Run the job; (wall seconds, driver's peak bytes, peak bytes over all its processes)."""
    Image.new("RGB", (64, 48), (200, 30, 30)).save(folder / "red.png")
    with (folder / "manifest.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text"])
        writer.writerows((f"item{i // 10}", str(folder / "red.png"), f"text {i // 1000}") for i in range(rows))
    conf = folder / "conf.yaml"
    conf.write_text(
        f"manifest: {{path: {folder}/manifest.csv, format: csv}}\noutput: {folder}/run\n"
        "models: {recall: conf/models/demo_recall.yaml}\n"
    )
    started = time.monotonic()
    job = subprocess.Popen([sys.executable, "-m", "jobs.score", "--conf", str(conf)], cwd=ROOT, stdout=subprocess.PIPE)
    driver = everything = 0
    while job.poll() is None and time.monotonic() - started < timeout_s:
        driver = max(driver, _own_bytes(job.pid))
        everything = max(everything, sum(_own_bytes(p.pid) for p in _family(job.pid)))
        time.sleep(0.25)
    if job.poll() is None:
        job.kill()
    if job.wait() != 0:
        raise SystemExit(f"the job ended with {job.returncode}")
    return time.monotonic() - started, driver, everything


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _own_bytes(pid: int) -> int:
    """Unique set size: memory that the process alone holds."""
    try:
        return psutil.Process(pid).memory_full_info().uss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


if __name__ == "__main__":
    main()
