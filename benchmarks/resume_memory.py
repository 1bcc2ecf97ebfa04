"""What resuming costs the driver: memory and time for the index, the listing and the work list of a large run.

    python benchmarks/resume_memory.py --shards 2000,20000 --rows 500

Every second shard is done (an empty file stands for its scores: a resume lists, it does not open). One process per
size; the peak is that of the whole process, less what it held after its imports. `engine` adds handing the work list
to Ray Data, as score.py does. The ledger at the end reads shard by shard and is not part of this.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def make_run(folder: Path, shards: int, rows: int) -> None:
    names = [f"{i // 1000:05d}-{i % 1000:06d}" for i in range(shards)]
    (folder / "manifest").mkdir(parents=True)
    (folder / "scores").mkdir()
    index = {
        "shards": [[n, rows] for n in names],
        "passthrough": [],
        "num_rejected": 0,
        "rejected_reasons": {},
        "identity": {},
    }
    (folder / "manifest" / "_index.json").write_text(json.dumps(index, indent=2))
    for name in names[::2]:
        (folder / "scores" / f"{name}.parquet").touch()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: str, engine: bool) -> None:
    import pyarrow as pa
    import ray.data

    from aistudio.pipeline.dataset import work_blocks
    from aistudio.runs.resume import work_list
    from aistudio.runs.snapshot import load_snapshot
    from aistudio.store import open_store

    if engine:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    before, started = peak_mb(), time.perf_counter()
    store = open_store(folder)
    snapshot = load_snapshot(store)
    assert snapshot is not None
    work = work_list(store, snapshot, None)
    if engine:
        blocks = work_blocks(work)
        dataset = ray.data.from_arrow([pa.table({"shard": block}) for block in blocks])
        assert dataset.num_blocks() == len(blocks)
    seconds, peak = time.perf_counter() - started, peak_mb()
    what = "index, listing, work list" + (", engine" if engine else "")
    size = f"{len(snapshot.shards):,} | {snapshot.num_rows:,}"
    print(f"| {size} | {what} | {before:.0f} | {peak - before:.1f} | {seconds:.1f} |", flush=True)
    if engine:
        ray.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="2000,20000,200000")
    parser.add_argument("--engine-shards", default="2000", help="sizes that are also handed to Ray Data")
    parser.add_argument("--rows", type=int, default=500, help="rows per shard")
    args = parser.parse_args()
    print("| shards | rows | what | MB before | MB more at the peak | s |\n|---|---|---|---|---|---|", flush=True)
    context = multiprocessing.get_context("spawn")
    engine_sizes = {int(n) for n in args.engine_shards.split(",") if n}
    for shards in (int(n) for n in args.shards.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            make_run(Path(folder) / "run", shards, args.rows)
            for engine in (False, True) if shards in engine_sizes else (False,):
                process = context.Process(target=measure, args=(str(Path(folder) / "run"), engine))
                process.start()
                process.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
