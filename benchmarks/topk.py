"""Exact top-K at catalogue size beside the bare matrix product and beside FAISS.

    python benchmarks/topk.py --rows 1000000 --queries 1000 --dim 512 --k 100

Writes random unit vectors as score files (once, into --data) and searches them as `aggregate` does: read in blocks by a
thread, searched block by block. Prints one table: wall and CPU time of the search with reading, of the search
from memory, of the bare NumPy product of the same size (in blocks: the whole result would take 4 GB), and of FAISS
IndexFlatIP where faiss-cpu is installed. Peak memory is that of the search with reading, before anything is loaded
whole. Every repeat takes all of them in turn, so that a busy machine hits them alike; ratios are medians over repeats.
Ends with 1 when an aim is missed or the answers differ from FAISS.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.index import TopK
from aistudio.schema import Status, vector_array
from aistudio.search.gallery import File, vector_blocks
from aistudio.store import Store, open_store

FILE_ROWS = 65_536
PRODUCT_ROWS = 65_536  # of the bare product: the quickest for it
BLOCK_ROWS = MetricsSettings().block_rows
Blocks = Iterable[tuple[np.ndarray, np.ndarray]]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def score_files(store: Store, rows: int, dim: int) -> list[File]:
    """Files of vectors and statuses, written the way `score` writes them."""
    num, rng = -(-rows // FILE_ROWS), np.random.default_rng(0)
    for i in range(num if len(store.list("scores/")) < num else 0):
        part = unit(rng.standard_normal((min(FILE_ROWS, rows - i * FILE_ROWS), dim), dtype=np.float32))
        column = vector_array(part)
        table = pa.table({"status": [Status.OK.value] * len(part), "embedding": column})
        store.write_table(f"scores/{i:05d}.parquet", table)
    return list(enumerate(entry.key for entry in store.list("scores/")))


def search(blocks: Blocks, queries: np.ndarray, k: int) -> np.ndarray:
    index = TopK(k, queries)
    for rows, ids in blocks:
        index.update(rows, ids)
    return index.result()[1]


def stored(store: Store, files: list[File]) -> Blocks:
    return ((b.rows_ND, b.ids_N) for b in vector_blocks(store, files, BLOCK_ROWS))


def in_memory(store: Store, files: list[File], rows: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    vectors, ids, start = np.empty((rows, dim), dtype=np.float32), np.empty(rows, dtype=np.int64), 0
    for part, part_ids in stored(store, files):
        vectors[start : start + len(part)], ids[start : start + len(part)] = part, part_ids
        start += len(part)
    return vectors, ids


def bare_product(vectors: np.ndarray, queries: np.ndarray, out: np.ndarray) -> None:
    for start in range(0, len(vectors), PRODUCT_ROWS):
        part = vectors[start : start + PRODUCT_ROWS]
        np.matmul(queries, part.T, out=out[:, : len(part)])


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 1_000_000), ("queries", 1000), ("dim", 512), ("k", 100), ("repeat", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--data", type=Path, default=Path("/tmp/aistudio_topk"))
    args = parser.parse_args()
    store = open_store(str(args.data / f"run_{args.rows}x{args.dim}"))
    files = score_files(store, args.rows, args.dim)
    queries = unit(np.random.default_rng(1).standard_normal((args.queries, args.dim), dtype=np.float32))

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = search(stored(store, files), queries, args.k)
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    vectors, ids = in_memory(store, files, args.rows, args.dim)
    blocks = [(vectors[i : i + BLOCK_ROWS], ids[i : i + BLOCK_ROWS]) for i in range(0, len(ids), BLOCK_ROWS)]
    out = np.zeros((args.queries, PRODUCT_ROWS), dtype=np.float32)
    work: dict[str, Callable[[], object]] = {
        "bare NumPy product": lambda: bare_product(vectors, queries, out),
        "TopK, reading Parquet": lambda: search(stored(store, files), queries, args.k),
        "TopK, from memory": lambda: search(blocks, queries, args.k),
    }
    rival = faiss_index(vectors)
    if rival is not None:
        work["FAISS IndexFlatIP, from memory"] = lambda: rival.search(queries, args.k)
    times = {name: np.array([]).reshape(0, 2) for name in work}
    for _ in range(args.repeat):
        for name, do in work.items():
            times[name] = np.vstack([times[name], timed(do)])
    ratio = report(times, args)
    print(f"\npeak memory {peak_gib:.2f} GiB, of which {resident / 2**20:.2f} GiB before the search")
    good = ratio["TopK, reading Parquet"] <= 1.5 and peak_gib < 3
    if rival is None:
        print("faiss-cpu is not installed: not compared")
        return 0 if good else 1
    theirs = ids[rival.search(queries, args.k)[1]]
    same = np.mean([len(np.intersect1d(a, b)) / args.k for a, b in zip(ours, theirs, strict=True)])
    print(f"same ids as FAISS: {same:.4%} (FAISS orders by float32 score: near ties at place K may differ)")
    quicker = np.median(times["TopK, from memory"][:, 0] / times["FAISS IndexFlatIP, from memory"][:, 0])
    print(f"TopK from memory takes {quicker:.2f} of FAISS's time (median over repeats)")
    return 0 if good and same > 0.999 and quicker <= 1 else 1


def faiss_index(vectors: np.ndarray):  # type: ignore[no-untyped-def]
    try:
        import faiss
    except ImportError:
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def report(times: dict[str, np.ndarray], args: argparse.Namespace) -> dict[str, float]:
    """Prints the table; median ratio to the bare product of the same repeat, by name."""
    bare = times["bare NumPy product"]
    print(
        f"{args.rows:,} x {args.dim} float32, {args.queries:,} queries, K = {args.k}; {args.repeat} repeats; ", end=""
    )
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    print("| what | wall s, best | wall s, median | CPU s, best | times the bare product: wall, median | CPU, best |")
    print("|---|---|---|---|---|---|")
    ratio = {}
    for name, t in times.items():
        ratio[name] = float(np.median(t[:, 0] / bare[:, 0]))
        print(
            f"| {name} | {t[:, 0].min():.2f} | {np.median(t[:, 0]):.2f} | {t[:, 1].min():.2f} | {ratio[name]:.2f} "
            f"| {t[:, 1].min() / bare[:, 1].min():.2f} |"
        )
    return ratio


if __name__ == "__main__":
    sys.exit(main())
