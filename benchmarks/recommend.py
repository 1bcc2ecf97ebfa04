"""Items ask for items: time of the search beside the bare matrix product, and peak memory.

    python benchmarks/recommend.py --rows 1000000 --queries 50000 --dim 128  # on a quiet machine
    python benchmarks/recommend.py --threads 1 --rows 100000 --queries 5000 --repeats 3

A run of random unit vectors (three images an item) is written to a temporary folder first, which is not timed. The bare
product has the search's own arrangement: a thread a core, each with a BLAS of one thread, in tiles that stay in cache,
written into the same memory again and again. It is measured on a part of the work (--bare-share) before and after each
search and scaled; the ratio is to the mean of both. CPU seconds say what a busy machine hides.
"""

import argparse
import resource
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_info, threadpool_limits

from aistudio.index import product
from aistudio.runs import layout
from aistudio.runs.mapper import InProcess
from aistudio.schema import score_schema, vector_array
from aistudio.search.listing import Rules, best_lists
from aistudio.search.query_table import Query
from aistudio.search.resolving import Asked, Source, make_asking, resolve_stored
from aistudio.search.searched import Searched
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store, open_store

SHARD, IMAGES, TOP_N = 50_000, 3, 10


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


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> np.ndarray:
        return np.array([time.perf_counter() - self._wall, time.process_time() - self._cpu])


def bare_product(rows: int, queries: int, dim: int, share: float, threads: int) -> np.ndarray:
    """Wall and CPU seconds of the product alone: `share` of the gallery is multiplied, the rest is scaled."""
    rng = np.random.default_rng(1)
    tile = product.TILE_ROWS
    part = min(rows, max(tile, int(rows * share)))
    gallery, asked = (rng.normal(size=(n, dim)).astype(np.float32) for n in (part, queries))
    cuts = [slice(i, min(i + product.TILE_QUERIES, queries)) for i in range(0, queries, product.TILE_QUERIES)]

    def take(cut: slice) -> None:
        own = asked[cut].T
        out = np.empty((tile, own.shape[1]), np.float32)
        for start in range(0, part, tile):
            block = gallery[start : start + tile]
            np.matmul(block, own, out=out[: len(block)])

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        clock = Clock()
        list(pool.map(take, cuts))
        return clock.read() * rows / part


def search(store: Store, queries: int) -> tuple[np.ndarray, int]:
    """Wall and CPU seconds, and the number of results."""
    files, mapper = list(enumerate(layout.score_keys(store))), InProcess()
    clock = Clock()
    asked = [Asked(Query(str(i), item_id=str(i)), "item") for i in range(-(-queries // IMAGES))]
    source = Source(store, files, VectorColumn())
    resolve_stored(asked, source, [], mapper)
    asking = make_asking([a for a in asked if a.ok], source, ["item", "copies"], (), None, False, mapper)
    lists = best_lists(Searched(store, files, VectorColumn()), asking, Rules(TOP_N, "item_id"), mapper)
    found = sum(len(part.id_R) for part in lists)
    return clock.read(), found


def anonymous_mib() -> float:
    """Anonymous memory of this process now, in MiB; 0 where /proc does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 20_000), ("queries", 1_000), ("dim", 128), ("repeats", 1), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--bare-share", type=float, default=0.25, help="part of the gallery that the product takes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(args.threads or None, user_api="blas"):
        store = write_run(folder, args.rows, args.dim)
        blas = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
        work = (args.rows, args.queries, args.dim, args.bare_share, max(blas, default=1))
        bare_product(*work[:3], min(0.02, args.bare_share), work[4])  # caches and clocks warm
        before, ratios = anonymous_mib(), []
        for _ in range(args.repeats):
            first = bare_product(*work)
            spent, found = search(store, args.queries)
            bare = (first + bare_product(*work)) / 2
            ratios.append(spent / bare)
            print(
                f"{found:,} results, {work[4]} threads; search {spent[0]:.1f} s ({spent[1]:.1f} s of CPU), "
                f"bare product {bare[0]:.1f} s ({bare[1]:.1f}), ratio {ratios[-1][0]:.2f} (CPU {ratios[-1][1]:.2f})",
                flush=True,
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    matrix = 4 * args.rows * args.dim / 2**20
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"median ratio {wall:.2f} (CPU {cpu:.2f}); peak {peak:,.0f} MiB with the product's own arrays, "
        f"{before:,.0f} MiB of it before the first search; the gallery's float32 matrix alone is {matrix:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
