"""One query against N vectors in memory: ours beside FAISS and hnswlib, in one run; and the server under 16 clients.

    python benchmarks/search_latency.py                                  # 1,000,000 x 512; longest: hnswlib's graph
    python benchmarks/search_latency.py --indexes ours flat-2 sq8-2      # without it: some minutes on 2 quiet cores
    python benchmarks/search_latency.py --rows 50000 --requests 2000     # a try
    python benchmarks/search_latency.py --kinds random --skip-server

Data: random unit vectors, and a clustered set (500 rows around each centre, as pictures of one product lie). Queries
are rows with noise. Each index runs in a process of its own: time of a query (p50, p99) and its processor time, recall
against the exact answer (flat FAISS, float32, so ties and last bits may differ), and anonymous memory over what the
process had before. The server is asked by `--clients` at once, `--requests` times: requests per second, p99, errors,
and its memory at a tenth, at the middle and at the end. Needs the extras `bench` (faiss-cpu, hnswlib) and `serve`; an
index whose package is missing is left out and said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
K, NUM_QUERIES = 10, 200
INDEXES = ("ours", "flat-1", "flat-2", "sq8-1", "sq8-2", "hnsw")


def make_data(folder: Path, kind: str, num: int, dim: int) -> None:
    """rows.npy (N, D) and queries.npy, unit rows."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float32, (num, dim))
    centres = rng.standard_normal((max(1, num // 500), dim), dtype=np.float32)
    for start in range(0, num, 20_000):
        part = rng.standard_normal((min(20_000, num - start), dim), dtype=np.float32)
        if kind == "clustered":
            part = 0.35 * part + centres[(start + np.arange(len(part))) // 500 % len(centres)]
        rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    chosen = rows[np.sort(rng.choice(num, NUM_QUERIES, replace=num < NUM_QUERIES))]
    queries = chosen + 0.02 * rng.standard_normal(chosen.shape, dtype=np.float32)
    np.save(folder / "queries.npy", queries / np.linalg.norm(queries, axis=1, keepdims=True))
    rows.flush()


def anonymous_mib(pid: int | str = "self") -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def one_index(folder: Path, name: str) -> dict:
    """Build one index in this process, ask it, and return what was measured."""
    queries = np.load(folder / "queries.npy")
    kind, _, threads = name.partition("-")
    builders = {"ours": _ours, "flat": _faiss, "sq8": _faiss, "hnsw": _hnsw}
    began = time.perf_counter()
    before, ask = builders[kind](folder, kind, int(threads or 2))
    built = time.perf_counter() - began
    found = [ask(q) for q in queries[:20]]  # also warms caches
    times, cpu = [], time.process_time()
    for q in queries:
        started = time.perf_counter()
        ask(q)
        times.append(1000 * (time.perf_counter() - started))
    cpu_ms = 1000 * (time.process_time() - cpu) / len(queries)
    found += [ask(q) for q in queries[20:]]
    p50, p99 = np.percentile(times, [50, 99])
    memory = anonymous_mib() - before
    return {"index": name, "build_s": built, "p50_ms": p50, "p99_ms": p99, "cpu_ms": cpu_ms, "memory_mib": memory,
            "ids": [np.asarray(f).tolist() for f in found]}  # fmt: skip


def _ours(folder, kind, threads):
    import torch

    from aistudio.index.int8 import Int8Sieve, Wanted

    torch.set_num_threads(threads)
    from aistudio.index import int8

    rows = np.load(folder / "rows.npy", mmap_mode="r")
    before = anonymous_mib()
    shape = (len(rows), int8.padded(rows.shape[1]))
    codes = np.memmap(folder / "codes.i8", np.int8, "w+", shape=shape)  # as the local copy of a run has them
    step, error = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for i in range(0, len(rows), 32_768):
        part = int8.quantised(rows[i : i + 32_768])
        place = slice(i, i + 32_768)
        codes[place], step[place], error[place] = part.codes_NP, part.step_N, part.error_N
    sieve = Int8Sieve(int8.Int8Rows(codes, step, error), rows)
    return before, lambda q: sieve.top([Wanted(q, K)])[0][1]


def _faiss(folder, kind, threads):
    import faiss

    faiss.omp_set_num_threads(threads)
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    before = anonymous_mib()
    dim = rows.shape[1]
    index = faiss.IndexFlatIP(dim)
    if kind == "sq8":
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(rows[:: max(1, len(rows) // 50_000)]))
    for i in range(0, len(rows), 32_768):
        index.add(np.ascontiguousarray(rows[i : i + 32_768]))
    return before, lambda q: index.search(q[None], K)[1][0]


def _hnsw(folder, kind, threads):
    import hnswlib

    rows = np.load(folder / "rows.npy", mmap_mode="r")
    before = anonymous_mib()
    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), ef_construction=100, M=16, random_seed=1)
    index.set_num_threads(threads)
    for i in range(0, len(rows), 32_768):
        index.add_items(np.asarray(rows[i : i + 32_768]))
    index.set_ef(100)
    return before, lambda q: index.knn_query(q[None], K)[0][0].astype(np.int64)


def measured(folder: Path, name: str, timeout_s: float) -> dict | None:
    """One index in a process of its own; None where its package is missing."""
    argv = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=env)
    if done.returncode:
        print(f"{name:<8} left out: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    return json.loads(done.stdout)


def table(folder: Path, kind: str, args: argparse.Namespace) -> None:
    print(f"\n{kind}: {args.rows:,} x {args.dim}, {NUM_QUERIES} queries, the {K} best; float32 matrix "
          f"{4 * args.rows * args.dim / 2**20:,.0f} MiB", flush=True)  # fmt: skip
    print(
        f"{'index':<8}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'x flat-1':>10}{'recall':>9}{'memory MiB':>12}"
        f"{'build s':>9}",
        flush=True,
    )
    exact, flat = None, None
    for name in ("flat-1", *(n for n in args.indexes if n != "flat-1")):
        one = measured(folder, name, args.timeout_s)
        if one is None:
            continue
        exact, flat = (one["ids"], one["p50_ms"]) if exact is None else (exact, flat)
        same = np.mean([len(set(a) & set(b)) / K for a, b in zip(one["ids"], exact, strict=True)])
        print(f"{name:<8}{one['p50_ms']:>9.1f}{one['p99_ms']:>9.1f}{one['cpu_ms']:>9.1f}"
              f"{one['p50_ms'] / flat:>10.2f}{same:>9.4f}"
              f"{one['memory_mib']:>12,.0f}{one['build_s']:>9.0f}", flush=True)  # fmt: skip


def write_run(folder: Path, rows_path: Path) -> str:
    """A stored run of these vectors, as scoring would have left it."""
    import pyarrow as pa

    from aistudio.schema import score_schema, vector_array
    from aistudio.store import open_store

    rows = np.load(rows_path, mmap_mode="r")
    store = open_store(str(folder))
    schema = score_schema([pa.field("category", pa.string())], {"embedding": rows.shape[1]})
    for start in range(0, len(rows), 20_000):
        part = np.asarray(rows[start : start + 20_000])
        names = [str(i) for i in range(start, start + len(part))]
        values = {"row_id": names, "item_id": names, "image_url": [f"https://x.example/{n}.jpg" for n in names],
                  "text": [""] * len(part), "status": ["ok"] * len(part),
                  "category": [f"c{i % 20}" for i in range(len(part))], "embedding": vector_array(part)}  # fmt: skip
        arrays = [pa.array(values[f.name], f.type) if f.name in values and f.name != "embedding" else
                  values.get(f.name, pa.nulls(len(part), f.type)) for f in schema]  # fmt: skip
        store.write_table(f"scores/{start // 20_000:05d}.parquet", pa.Table.from_arrays(arrays, schema=schema))
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "output": str(folder), "models": {"recall": "r.yaml"}}
    store.write_json("run.json", {"config": config})
    return str(folder)


def server(folder: Path, args: argparse.Namespace) -> None:
    """Start the server twice (without and with its local copy), then ask it by many clients."""
    run = write_run(folder / "run", folder / "rows.npy")
    env = os.environ | {"PYTHONPATH": str(ROOT), "AISTUDIO_CACHE": str(folder / "cache")}
    for what in ("first start, with making the local copy", "second start"):
        process, base, seconds = _started(run, env, args.timeout_s)
        print(f"\nserver: {what}: {seconds:.1f} s until it listens", flush=True)
        if what.startswith("second"):
            _load(process, base, args)
        process.terminate()
        process.wait(30)


def _started(run: str, env: dict, timeout_s: float) -> tuple[subprocess.Popen, str, float]:
    began = time.perf_counter()
    argv = [sys.executable, "-m", "jobs.serve", "--run", run, "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    killer = threading.Timer(timeout_s, process.kill)
    killer.start()
    for line in process.stdout:
        if "search page:" in line:
            base = line.split()[2].rstrip("/")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            killer.cancel()
            return process, base, time.perf_counter() - began
    raise SystemExit("the server does not start")


def _load(process: subprocess.Popen, base: str, args: argparse.Namespace) -> None:
    import httpx

    rng, errors, times, memory = np.random.default_rng(1), [], [], []
    names = [str(i) for i in rng.integers(0, args.rows, args.requests)]
    lock = threading.Lock()

    def ask(part: list[str]) -> None:
        with httpx.Client(base_url=base, timeout=120) as client:
            for name in part:
                began = time.perf_counter()
                answer = client.post("/v1/search", json={"row_id": name, "top_n": K, "columns": ["category"]})
                with lock:
                    times.append(1000 * (time.perf_counter() - began))
                    errors.extend([answer.status_code] if answer.status_code != 200 else [])
                    if len(times) in (args.requests // 10, args.requests // 2, args.requests):
                        memory.append(anonymous_mib(process.pid))

    began = time.perf_counter()
    with ThreadPoolExecutor(args.clients) as pool:
        list(pool.map(ask, [names[i :: args.clients] for i in range(args.clients)]))
    seconds = time.perf_counter() - began
    p50, p99 = np.percentile(times, [50, 99])
    print(f"{args.clients} clients, {len(times):,} requests: {len(times) / seconds:.1f} a second, p50 {p50:.0f} ms, "
          f"p99 {p99:.0f} ms, {len(errors)} errors; anonymous memory at 10 %, 50 % and the end: "
          f"{', '.join(f'{m:,.0f}' for m in memory)} MiB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", default=["random", "clustered"], choices=["random", "clustered"])
    parser.add_argument("--indexes", nargs="+", default=list(INDEXES), choices=INDEXES)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--skip-server", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the data lie meanwhile (5 times the float32 matrix)")
    parser.add_argument("--timeout-s", type=float, default=3_600)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_index(args.folder, args.one)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for kind in args.kinds:
            folder = Path(name, kind)
            folder.mkdir()
            make_data(folder, kind, args.rows, args.dim)
            table(folder, kind, args)
        if not args.skip_server:
            server(folder, args)


if __name__ == "__main__":
    main()
