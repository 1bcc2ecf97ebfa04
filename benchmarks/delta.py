"""Delta runs: equal to a full run bit for bit, and what they cost beside it; the join of two catalogues alone.

    python benchmarks/delta.py night --model demo --rows 5000
    python benchmarks/delta.py night --model stub --px 64 --rows 100000 --rate 640    # which the first one found
    python benchmarks/delta.py join --rows 1000000
    python benchmarks/delta.py duplicates --model demo --pictures 2000 --offers 5
    python benchmarks/delta.py order --rows 1000000 --offers 5

`night` scores a catalogue, then the next day's: 1 % of the pictures have other bytes under the same address, 0.5 % of
the rows are new, 0.5 % gone, 0.2 % have another text. The second day is scored in full and with the first day as base,
once for each trust. Printed are the numbers of requests, answers 304 and model passes beside what they must be, the
rows that differ from the full run in any bit, and the steady time (first worker's first shard to the last one's end,
and the join) as a part of the full run's. Under `url` the 1 % keep the first day's results: that is what it means.

`join` joins two catalogues that are alike but for 1 %, without pictures, in a process whose memory is watched.

`duplicates` scores a catalogue in which each picture stands on several offers, shuffled, with `engine.deduplicate:
run`, and the distinct pictures alone, in turns; once with `shard`, whose rows must be the same in every bit. Printed:
requests, encoded pictures and texts, wall time (the whole process, Ray's start too), steady time, and both as a part of
the distinct ones' (medians). Offers of a picture have the same text; with `--own-texts` each has its own, so that the
text tower has as many times more to do, which no sharing of pictures saves.

`order` puts the rows of one address together, as a snapshot does, without pictures: `--offers` of each, shuffled, and
one address on a tenth of all rows; the process's memory is watched.
"""

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _delta_workers import CHANGED, CHANGED_EVERY, CountingFused, StubModelFused
from _watch import run_watched

ROOT = Path(__file__).resolve().parents[1]
TRUSTS = ("url", "validators", "content")
SHARD_ROWS = 500
Row = tuple[str, str, str]  # item, address, text


class Night(NamedTuple):
    """One run, as it was counted."""

    hits: int
    unchanged: int
    passes: Counter[str]
    work_s: float
    join_s: float
    wall_s: float
    record: dict[str, Any]  # run.json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["night", "join", "duplicates", "order"])
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--pictures", type=int, default=2_000, help="duplicates")
    parser.add_argument("--offers", type=int, default=5, help="duplicates, order: of each picture")
    parser.add_argument("--own-texts", action="store_true", help="duplicates: each offer has a text of its own")
    parser.add_argument("--repeats", type=int, default=3, help="duplicates")
    parser.add_argument("--model", choices=["stub", "demo"], default="demo")
    parser.add_argument("--px", type=int, default=640, help="width of the pictures; 64 leaves nothing but requests")
    parser.add_argument(
        "--rate", type=float, help="rows/s of the full run to compare with, instead of the one made here"
    )
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--timeout-s", type=float, default=3_600, help="of one run")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        child(args.what, args.model, *args.child)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        {"night": night, "join": join, "duplicates": duplicates, "order": order}[args.what](Path(folder), args)


# ---------------------------------------------------------------- nights


@contextmanager
def shop(px: int) -> Iterator[str]:
    """The server's address."""
    command = [sys.executable, str(ROOT / "benchmarks/_delta_workers.py"), str(px)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.stdin.close()
        server.wait(10)


def night(folder: Path, args: argparse.Namespace) -> None:
    with shop(args.px) as address:
        first, second = days(address, args.rows)
        base = scored(folder, "base", first, address, args)
        ask(address, "_day2")
        full = scored(folder, "full", second, address, args)
        print(
            f"\n{args.rows:,} rows, {args.model} model; first day {base.work_s:.1f} s, "
            f"second in full {full.work_s:.1f} s = {len(second) / full.work_s:.0f} rows/s\n"
        )
        print(
            "| trust | requests (must be) | 304 (must be) | encoded (must be) | texts | differing rows | part of full |"
        )
        print("|---|--:|--:|--:|--:|--:|--:|")
        for trust in TRUSTS:
            run = scored(folder, trust, second, address, args, f"base={folder}/base", f"trust={trust}")
            requests, unchanged, images = must_be(first, second, trust)
            told = differing(folder / trust, folder / "full")
            part = (run.work_s + run.join_s) / (len(second) / args.rate if args.rate else full.work_s)
            print(
                f"| {trust} | {run.hits:,} ({requests:,}) | {run.unchanged:,} ({unchanged:,}) "
                f"| {run.passes['encode']:,} ({images:,}) | {run.passes['texts']:,} | {told:,} "
                f"| {part:.2%} ({run.work_s:.2f} s and {run.join_s:.2f} s of join) |",
                flush=True,
            )


def days(address: str, num: int) -> tuple[list[Row], list[Row]]:
    """The catalogue on two days."""
    first = [(f"item{n // 10}", f"{address}/{n}.jpg", f"a text of item {n // 10}") for n in range(num)]
    gone, text = {n for n in range(num) if n % 200 == 11}, {n for n in range(num) if n % 500 == 13}
    second = [(i, a, f"{t}, changed" if n in text else t) for n, (i, a, t) in enumerate(first) if n not in gone]
    new = [(f"item{n // 10}", f"{address}/{n}.jpg", f"a text of item {n // 10}") for n in range(num, num + num // 200)]
    return first, second + new


def must_be(first: list[Row], second: list[Row], trust: str) -> tuple[int, int, int]:
    """Requests, answers 304 and encoded images of the second day."""
    known = {row[1] for row in first}
    numbers = [int(row[1].rpartition("/")[2].split(".")[0]) for row in second]
    new = sum(row[1] not in known for row in second)
    changed = sum(row[1] in known and n % CHANGED_EVERY == CHANGED for row, n in zip(second, numbers, strict=True))
    if trust == "url":
        return new, 0, new
    return len(second), len(second) - new - changed if trust == "validators" else 0, new + changed


def scored(folder: Path, name: str, rows: list[Row], address: str, args: argparse.Namespace, *sets: str) -> Night:
    """Score rows into <folder>/<name> in a process of its own."""
    manifest, conf = folder / f"{len(rows)}-{hash(tuple(rows))}.csv", folder / f"{name}.yaml"
    with manifest.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([("item_id", "image_url", "text"), *rows])
    settings = {
        "manifest": {"path": str(manifest), "format": "csv"}, "output": str(folder / name),
        "models": {"recall": str(ROOT / "conf/models/demo_recall.yaml")},
        "download": {"allow_private_addresses": True, "trust_env_proxy": False},
        "engine": {"plan": "fused", "device": "cpu", "shard_rows": SHARD_ROWS, "canaries": False},
    }  # fmt: skip
    conf.write_text(json.dumps(settings))  # which is YAML, too
    ask(address, "_reset")
    command = [sys.executable, __file__, "night", "--model", args.model, "--child", str(conf), *sets]
    began = time.monotonic()
    code, _ = run_watched(command, args.timeout_s, cwd=ROOT, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - began
    if code != 0:
        raise SystemExit(f"{name}: the run ended with {code}")
    counts = ask(address, "_counts")
    passes, times = Counter[str](), []
    for line in Path(f"{folder / name}.passes").read_text().splitlines():
        kind, *numbers = line.split()
        if kind == "shard":
            times.append([float(n) for n in numbers])
        else:
            passes[kind] += int(numbers[0])
    record = json.loads((folder / name / "run.json").read_text())
    join_s = record.get("delta", {}).get("join_s") or 0.0
    work_s = max(end for _, end in times) - min(begun for begun, _ in times)
    return Night(counts["hits"], counts["unchanged"], passes, work_s, join_s, wall_s, record)


def ask(address: str, path: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{address}/{path}", timeout=30) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def differing(run: Path, full: Path) -> int:
    """Rows that differ in any bit, of any column but `reused`, from the full run's; a file at a time."""
    names = sorted(p.name for p in (full / "scores").glob("*.parquet"))
    assert names == sorted(p.name for p in (run / "scores").glob("*.parquet"))
    found = 0
    for name in names:
        a, b = (pq.read_table(p / "scores" / name).drop_columns(["reused"]) for p in (run, full))
        if not a.equals(b):
            found += sum(not a.slice(i, 1).equals(b.slice(i, 1)) for i in range(a.num_rows))
    return found


# ---------------------------------------------------------------- duplicates


def duplicates(folder: Path, args: argparse.Namespace) -> None:
    with shop(args.px) as address:
        distinct, offers = offers_of(address, args)
        auto, run = "engine.shard_rows=auto", "engine.deduplicate=run"
        runs: dict[str, list[Night]] = {"distinct pictures alone": [], "deduplicate: run": [], "deduplicate: shard": []}
        alone, whole, by_shard = runs.values()
        for i in range(args.repeats):
            alone.append(scored(folder, f"alone{i}", distinct, address, args, auto))
            whole.append(scored(folder, f"run{i}", offers, address, args, auto, run))
        by_shard.append(scored(folder, "shard", offers, address, args, auto))
    print(f"\n{len(offers):,} offers, shuffled, of {len(distinct):,} pictures, {args.model} model\n")
    print("| | rows | requests | encoded | texts | wall s | of distinct | steady s | of distinct |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    wall, steady = (statistics.median(taken(alone, name)) for name in ("wall_s", "work_s"))
    for name, nights in runs.items():
        ours = [statistics.median(taken(nights, which)) for which in ("wall_s", "work_s")]
        last = nights[-1]
        print(
            f"| {name} | {last.record['rows']['stored']:,} | {last.hits:,} | {last.passes['encode']:,} | "
            f"{last.passes['texts']:,} | {ours[0]:.1f} | {ours[0] / wall:.2f} | "
            f"{ours[1]:.1f} | {ours[1] / steady:.2f} |"
        )
    print(f"\nrequests of the run: {whole[-1].hits:,}, distinct pictures: {len(distinct):,}")
    print(f"seconds of putting rows in order: {whole[-1].record['duplicates']['order_s']}")
    print(
        f"rows that differ from deduplicate: shard in any bit: {differing_by_row(folder / 'run0', folder / 'shard'):,}"
    )
    for name in ("wall_s", "work_s"):
        print(f"{name} of each repeat: distinct {taken(alone, name)}, run {taken(whole, name)}")


def offers_of(address: str, args: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """The distinct pictures' rows, and those of all offers, shuffled."""
    distinct = [(f"item{n}", f"{address}/{n}.jpg", f"a text of item {n}") for n in range(args.pictures)]
    own = (lambda k: f", offer {k}") if args.own_texts else (lambda k: "")
    offers = [(f"{item}-{k}", url, f"{text}{own(k)}") for item, url, text in distinct for k in range(args.offers)]
    random.Random(5).shuffle(offers)
    return distinct, offers


def taken(nights: list[Night], name: str) -> list[float]:
    return [round(float(getattr(night, name)), 2) for night in nights]


def differing_by_row(run: Path, other: Path) -> int:
    """Rows that differ in any bit, wherever they stand."""
    a, b = (pq.read_table(p / "scores").sort_by("row_id") for p in (run, other))
    return sum(not a.slice(i, 1).equals(b.slice(i, 1)) for i in range(max(a.num_rows, b.num_rows)))


# ---------------------------------------------------------------- the join


def join(folder: Path, args: argparse.Namespace) -> None:
    from aistudio.runs import layout
    from aistudio.runs.shard_writer import Shard
    from aistudio.runs.snapshot import Snapshot
    from aistudio.store import open_store

    base, run = open_store(str(folder / "base")), open_store(str(folder / "run"))
    order = np.random.default_rng(0).permutation(args.rows)
    for store, key, numbers in (
        (base, layout.scores_key, np.arange(args.rows)),
        (run, layout.manifest_key, order + args.rows // 100),  # 1 % new, 1 % gone, in another order
    ):
        shards = []
        for i, part in enumerate(np.split(numbers, range(SHARD_ROWS, len(numbers), SHARD_ROWS))):
            name = f"00000-{i:06d}"
            store.write_table(key(name), table_of(part), {"aistudio.fingerprint": "bench"})
            shards.append(Shard(name, len(part)))
        snapshot = Snapshot(shards=shards, passthrough=[], num_rejected=0, rejected_reasons={}, identity={})
        store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    base.write_json(layout.RUN, {"fingerprint": "bench", "state": "complete"})
    command = [sys.executable, __file__, "join", "--child", str(folder)]
    code, watch = run_watched(command, args.timeout_s, cwd=ROOT)
    if code != 0:
        raise SystemExit(f"the join ended with {code}")
    print(f"driver at most {watch.peak_root_bytes / 1e6:.0f} MB, all processes {watch.peak_all_bytes / 1e6:.0f} MB")


def table_of(numbers: np.ndarray) -> pa.Table:
    texts = {
        "row_id": [str(n) for n in numbers], "item_id": [f"item{n // 10}" for n in numbers],
        "image_url": [f"https://images.shop.example/catalogue/2026/{n:012d}/front.jpg" for n in numbers],
        "text": [f"a text of item {n // 10}" for n in numbers], "status": ["ok"] * len(numbers),
        "content_hash": [f"{n:064x}" for n in numbers],
    }  # fmt: skip
    nothing = pa.nulls(len(numbers), pa.string())
    return pa.table({**texts, "fallback_url": nothing, "poi_names": nothing})


# ---------------------------------------------------------------- the order by address


def order(folder: Path, args: argparse.Namespace) -> None:
    from aistudio.runs import layout
    from aistudio.runs.address_order import DRAFT_ROWS
    from aistudio.store import open_store

    store, rng = open_store(str(folder)), np.random.default_rng(0)
    numbers = rng.permutation(args.rows) // args.offers
    numbers[rng.random(args.rows) < 0.1] = 0
    for i, part in enumerate(np.split(numbers, range(DRAFT_ROWS, args.rows, DRAFT_ROWS))):
        table = table_of(part).drop_columns(["status", "content_hash"])
        store.write_table(layout.draft_key(f"00000-{i:06d}"), table)
    code, watch = run_watched([sys.executable, __file__, "order", "--child", str(folder)], args.timeout_s, cwd=ROOT)
    if code != 0:
        raise SystemExit(f"putting in order ended with {code}")
    print(
        f"{len(np.unique(numbers)):,} addresses there were; driver at most {watch.peak_root_bytes / 1e6:.0f} MB, ",
        end="",
    )
    print(f"all processes {watch.peak_all_bytes / 1e6:.0f} MB")


# ---------------------------------------------------------------- children


def child(what: str, model: str, place: str, *sets: str) -> None:
    if what == "join":
        join_here(Path(place))
        return
    if what == "order":
        order_here(Path(place))
        return
    from aistudio.config import load_config
    from aistudio.pipeline import dataset
    from aistudio.pipeline.score import prepare, score

    with patch.object(dataset, "FusedWorker", StubModelFused if model == "stub" else CountingFused):
        score(prepare(load_config(place, sets)))


def join_here(folder: Path) -> None:
    from aistudio.config import EngineSettings
    from aistudio.pipeline import delta
    from aistudio.pipeline.cluster import connect
    from aistudio.pipeline.tasks import RayTasks
    from aistudio.runs.record import recorded
    from aistudio.runs.reuse import Reuse
    from aistudio.runs.snapshot import load_snapshot
    from aistudio.store import open_store

    base, run = open_store(str(folder / "base")), open_store(str(folder / "run"))
    snapshot = load_snapshot(run)
    assert snapshot is not None
    with connect(EngineSettings()) as resources:
        tasks, began = RayTasks(max(1, int(resources.cpus)), gpu=False), time.monotonic()
        found: Any = delta._join(
            delta.Base(base, recorded(base), Reuse()), delta._scored(base), run, snapshot, tasks, "bench"
        )
        took = time.monotonic() - began
    print(
        f"{snapshot.num_rows:,} rows joined in {took:.1f} s: {found.matched:,} matched, {found.gone:,} gone", flush=True
    )


def order_here(folder: Path) -> None:
    from aistudio.config import EngineSettings
    from aistudio.pipeline.cluster import connect
    from aistudio.pipeline.tasks import RayTasks
    from aistudio.runs import layout
    from aistudio.runs.address_order import order_rows
    from aistudio.runs.shard_writer import Shard
    from aistudio.store import open_store

    store = open_store(str(folder))
    keys = [entry.key for entry in store.list(layout.ADDRESSES)]
    drafts = [Shard(Path(key).stem, store.read_metadata(key)[1]) for key in keys]
    num_bytes = len(drafts) * store.read_table(keys[0]).nbytes
    with connect(EngineSettings()) as resources:
        tasks, began = RayTasks(max(1, int(resources.cpus)), gpu=False), time.monotonic()
        found = order_rows(store, drafts, num_bytes, tasks, "auto", 2)
        took = time.monotonic() - began
    sizes = [s.rows for s in found.shards]
    print(
        f"{sum(sizes):,} rows in {len(sizes):,} shards of at most {max(sizes)} rows in {took:.1f} s: "
        f"{found.addresses:,} addresses, {found.frequent:,} frequent",
        flush=True,
    )


if __name__ == "__main__":
    main()
