"""Items ask for items: time of the search beside the bare matrix product, and peak memory.

    python benchmarks/recommend.py --rows 1000000 --queries 50000 --dim 128

A run of random unit vectors (three images an item) is written to a temporary folder first, which is not timed.
"""

import argparse
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa

from aistudio.runs import layout
from aistudio.runs.mapper import InProcess
from aistudio.schema import score_schema, vector_array
from aistudio.search.listing import Rules, best_lists
from aistudio.search.query_table import Query
from aistudio.search.resolving import Asked, Source, make_asking, resolve_stored
from aistudio.search.searched import Searched
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store, open_store

SHARD, IMAGES, TILE = 50_000, 3, 4_096


def write_run(folder: str, rows: int, dim: int) -> Store:
    """Write score files with vectors alone."""
    store, rng = open_store(folder), np.random.default_rng(0)
    schema = score_schema([], {"embedding": dim})
    for start in range(0, rows, SHARD):
        num = min(SHARD, rows - start)
        vectors = rng.normal(size=(num, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = [str(i) for i in range(start, start + num)]
        known = {
            "row_id": pa.array(names), "item_id": pa.array([str(i // IMAGES) for i in range(start, start + num)]),
            "image_url": pa.array(names), "text": pa.array([""] * num), "status": pa.array(["ok"] * num),
            "content_hash": pa.array(names), "embedding": vector_array(vectors),
        }  # fmt: skip
        columns = [known[f.name] if f.name in known else pa.nulls(num, f.type) for f in schema]
        store.write_table(layout.scores_key(f"{start:09d}"), pa.Table.from_arrays(columns, schema=schema))
    return store


def bare_product(rows: int, queries: int, dim: int) -> float:
    """Seconds of the product alone, in tiles that stay in cache."""
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(n, dim)).astype(np.float32) for n in (min(rows, 65_536), min(queries, TILE)))
    started = time.perf_counter()
    for start in range(0, len(a), TILE):
        a[start : start + TILE] @ b.T
    return (time.perf_counter() - started) * rows / len(a) * queries / len(b)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 20_000), ("queries", 1_000), ("dim", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = write_run(folder, args.rows, args.dim)
        files, mapper = list(enumerate(layout.score_keys(store))), InProcess()
        bare = bare_product(args.rows, args.queries, args.dim)
        started = time.perf_counter()
        asked = [Asked(Query(str(i), item_id=str(i)), "item") for i in range(-(-args.queries // IMAGES))]
        source = Source(store, files, VectorColumn())
        resolve_stored(asked, source, [], mapper)
        asking = make_asking([a for a in asked if a.ok], source, ["item", "copies"], (), None, False, mapper)
        lists = list(best_lists(Searched(store, files, VectorColumn()), asking, Rules(10, "item_id"), mapper))
        spent = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = sum(len(part.id_R) for part in lists)
    print(
        f"{found:,} results; search {spent:.1f} s, bare product {bare:.1f} s, ratio {spent / bare:.2f}; {peak:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
