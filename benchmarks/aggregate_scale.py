"""Time and peak memory of `aggregate` on a synthetic run folder.

    python benchmarks/aggregate_scale.py --rows 100000

Writes score files of items with five images each (vectors near their item's text, some failed rows, no pictures),
once, into --data; then aggregates in this process and prints wall time, CPU time and the peak of the resident set.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.evaluation.aggregate import aggregate
from aistudio.schema import score_schema, text_schema, vector_array
from aistudio.store import Store, open_store

PER_ITEM = 5
SHARD_ROWS = 50_000
NOISE = 1.0  # length of what is added to the item's unit vector


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_run(store: Store, rows: int, dim: int) -> None:
    rng, schema = np.random.default_rng(0), score_schema([], {"embedding": dim})
    for n, start in enumerate(range(0, rows, SHARD_ROWS)):
        place = np.arange(start, min(start + SHARD_ROWS, rows))
        item = place // PER_ITEM
        texts = unit(rng.standard_normal((item[-1] - item[0] + 1, dim)))
        near = unit(texts[item - item[0]] + NOISE * rng.standard_normal((len(place), dim)) / np.sqrt(dim))
        ok = place % 50 != 7
        columns = {
            "row_id": place.astype(str).tolist(), "item_id": [f"item{i}" for i in item],
            "image_url": [f"https://images.example/catalogue/{i}/{p}.jpg" for i, p in zip(item, place, strict=True)],
            "text": [f"text of item {i}" for i in item], "status": np.where(ok, "ok", "timeout").tolist(),
            "content_hash": [f"{p:064x}" for p in place],
            "embedding": vector_array(near, ok),
        }  # fmt: skip
        nothing = {f.name: pa.nulls(len(place), f.type) for f in schema if f.name not in columns}
        store.write_table(f"scores/{n:05d}.parquet", pa.table({**columns, **nothing}).select(schema.names).cast(schema))
        text = [f"text of item {i}" for i in range(item[0], item[-1] + 1)]
        vectors = vector_array(texts)
        store.write_table(f"texts/{n:05d}.parquet", pa.table([text, vectors], schema=text_schema(dim)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 100_000), ("dim", 64), ("max_queries", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--query", choices=("text", "image"), default="text")
    parser.add_argument("--data", type=Path, default=Path("/tmp/aistudio_aggregate"))
    args = parser.parse_args()
    store = open_store(str(args.data / f"{args.rows}x{args.dim}"))
    if not store.list("scores/"):
        write_run(store, args.rows, args.dim)
        print("written; run again to measure: writing would count as peak memory")
        return 0
    settings = MetricsSettings(query=args.query, max_queries=args.max_queries or None)
    before, wall, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    result = aggregate(store, settings)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    about, m = result["about"], result["metrics"]
    print(
        f"{about['rows']:,} rows, {about['queries']:,} queries ({args.query}), dim {args.dim}: {wall:.0f} s wall, "
        f"{cpu:.0f} s CPU, peak {peak / 2**20:.2f} GiB ({before / 2**20:.2f} at start); map {m['map']['value']:.4f}, "
        f"median rank {m['median_rank']['value']:.0f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
