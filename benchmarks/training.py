"""Training beside bare PyTorch loops: a ranking head on stored vectors, a dual encoder on cached pixels.

    python benchmarks/training.py [--parts ranking,recall] [--pairs 1000000] [--dim 512] [--rounds 7] [--out FILE]
    python benchmarks/training.py --pairs 5000 --dim 64 --images 4 --steps 5 --rounds 3   # does it work?

Ours and the others make the same number of updates in turns; a ratio is the median over the rounds, with the smallest
and the largest. The epoch over all pairs runs in a process of its own, whose anonymous memory is watched.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _training_bench as bench

from aistudio.config import parse_train_config
from aistudio.training import programs
from aistudio.training.drawn import drawn_catalogue
from aistudio.training.setup import Setup
from aistudio.training.team import Team

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="ranking,recall")
    for name, value, text in (
        ("pairs", 1_000_000, "of the ranking part"), ("dim", 512, "of its vectors"), ("batch", 256, "pairs an update"),
        ("images", 30, "per sight, of the recall part"), ("steps", 500, "updates a round of the ranking part; a tenth "
         "of the recall part"), ("rounds", 7, ""), ("workers", 2, "of the DataLoader that decodes"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value, help=text)
    parser.add_argument("--out", type=Path, help="write the tables there, too")
    args = parser.parse_args()
    made = {"ranking": ranking, "recall": recall}
    lines = [f"{os.cpu_count()} CPUs, {torch.get_num_threads()} threads, torch {torch.__version__}"]
    with tempfile.TemporaryDirectory(prefix="aistudio-training-bench-") as tmp:
        for part in args.parts.split(","):
            (Path(tmp) / part).mkdir()
            lines += ["", *made[part](args, Path(tmp) / part)]
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- ranking ----------------------------------------------------------------------------------------------------------


def ranking(args: argparse.Namespace, tmp: Path) -> Iterator[str]:
    """Yield the ranking part's lines."""
    model = bench.write_model(tmp, args.dim)
    yield f"Ranking head on {args.pairs:,} pairs of {args.dim}-d vectors, {args.batch} pairs an update"
    yield ""
    yield "| pairs | prepare s | s an epoch | pairs/s | anonymous memory, MB: at most | before the first update |"
    yield "|---|---|---|---|---|---|"
    for num in (args.pairs // 10, args.pairs):
        run = str(tmp / f"run-{num}")
        bench.write_pairs_run(run, num, args.dim)
        conf = _ranking_conf(args, tmp, model, run) | {"epochs": 1}
        prepared, took, before, peak = in_own_process(_epoch, conf)
        yield f"| {num:,} | {prepared:.0f} | {took:.1f} | {num * 0.99 / took:,.0f} | {peak:,.0f} | {before:,.0f} |"
    conf = _ranking_conf(args, tmp, model, str(tmp / f"run-{args.pairs}")) | {"steps": args.steps}
    settings, setup = _set_up(conf)
    ways = {
        "ours": bench.our_loop(setup.task, settings, "pairwise_accuracy"),
        "bare loop, arrays in memory": bench.bare_ranking(setup.task, settings),
    }
    yield from compared(ways, args.rounds, args.steps * args.batch, "pairs")
    setup.cache.close()


def _ranking_conf(args: argparse.Namespace, tmp: Path, model: str, run: str) -> dict[str, Any]:
    return _base(tmp, model, args.batch) | {
        "task": "ranking",
        "data": {"run": run, "vectors": "embedding", "validation": {"share": 0.01}, "cache": str(tmp / "cache")},
    }


def _base(tmp: Path, model: str, batch: int) -> dict[str, Any]:
    never = {"every_epochs": None, "every_steps": 10**9}
    return {"model": model, "init": "random", "device": "cpu", "batch_size": batch, "output": str(tmp / "out"),
            "validation": never}  # fmt: skip


def _set_up(conf: dict[str, Any]) -> tuple[Any, Setup]:
    settings = parse_train_config(conf, "benchmark")
    return settings, programs.set_up(settings, Team(), CPU, _nothing)


def _nothing(text: str) -> None:
    """Say nothing."""


def in_own_process(work: Callable[..., None], *arguments: Any) -> Any:
    """Run work(queue, *arguments) in a fresh process; returns what it put into the queue."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue, *arguments))
    process.start()
    found = queue.get(timeout=7_200)
    process.join(60)
    return found


def _epoch(queue: Any, conf: dict[str, Any]) -> None:
    """Prepare the data, train one epoch: seconds of both, anonymous memory before it and at most, MB."""
    started = time.perf_counter()
    settings, setup = _set_up(conf)
    prepared = time.perf_counter() - started
    before = peak = _anonymous_mb()
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.05):
            peak = max(peak, _anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = bench.seconds(bench.our_loop(setup.task, settings, "pairwise_accuracy"))
    over.set()
    watcher.join()
    queue.put((prepared, took, before, peak))


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


# --- recall -----------------------------------------------------------------------------------------------------------


def recall(args: argparse.Namespace, tmp: Path) -> Iterator[str]:
    """Yield the recall part's lines."""
    steps = max(2, args.steps // 10)
    drawn = {"drawn": {"seed": 7, "images_per_sight": args.images}}
    conf = _base(tmp, "conf/models/demo_recall.yaml", 64) | {
        "task": "recall", "steps": steps, "data": drawn | {"validation": {"share": 0.05}, "cache": str(tmp / "cache")},
    }  # fmt: skip
    started = time.perf_counter()
    settings, setup = _set_up(conf)
    yield f"Recall on {len(setup.task.data.rows.row):,} rows of drawn pictures, 64 an update"
    yield f"(the cache was drawn, decoded and written in {time.perf_counter() - started:.0f} s, once)"
    paths = bench.write_jpegs(
        setup.task.data.train, drawn_catalogue(settings.data.drawn, False, setup.cache.root)[1], tmp / "jpegs"
    )
    task = setup.task
    decoded = bench.decoded_batches(task, settings, paths, args.workers)
    ways = {
        "ours": bench.our_loop(task, settings, "mrr"),
        "bare loop, same cached pixels": bench.bare_recall(task, settings, bench.cached_batches(task, settings)),
        f"DataLoader with {args.workers} workers that decode JPEGs": bench.bare_recall(task, settings, decoded),
    }
    yield from compared(ways, args.rounds, steps * 64, "images")
    setup.cache.close()


def compared(ways: dict[str, Callable[[], None]], rounds: int, rows: int, unit: str) -> Iterator[str]:
    """Run all ways in turns, the first of them once unmeasured, and yield the table."""
    for work in ways.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            found[name].append(rows / bench.seconds(ways[name]))
    ours = found["ours"]
    yield ""
    yield f"| {rounds} rounds in turns | {unit}/s, median | ours / this: median (smallest to largest) |"
    yield "|---|---|---|"
    for name, rates in found.items():
        ratios = sorted(a / b for a, b in zip(ours, rates, strict=True))
        shown = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})" if name != "ours" else ""
        yield f"| {name} | {statistics.median(rates):,.0f} | {shown} |"


if __name__ == "__main__":
    main()
