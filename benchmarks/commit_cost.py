"""What the promise "nothing lost, nothing doubled" costs an undisturbed run: a shard with and without it, in pairs.

    python benchmarks/commit_cost.py --pairs 40
    python benchmarks/commit_cost.py --pairs 40 --buckets     # s3 by boto3, s3 by obstore, gs and az by obstore

With --buckets: requests and seconds of the same steps where the run lies in a bucket, in turns, against the tests'
servers on this machine; what differs between rows is the client and the protocol, not a network.

With: look whether the shard is stored, check the fence twice, ask the coordinator nothing (that call is 1 ms and
counted as such), write texts and scores with checksums beside, sync, link, sync the folder. Without: write the same
two files once, under their names, no checksums, no sync. The share is of a shard's time at a given speed if nothing
else ran meanwhile; a worker has engine.shards_in_flight shards in work, so most of it (waiting for the disk) is hidden.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from aistudio._object_backend import ObjectBackend
from aistudio.config import StoreSettings
from aistudio.runs.attempts import claim_attempt, refuse_if_fenced
from aistudio.runs.resume import store_shard
from aistudio.schema import vector_array
from aistudio.store import Store, open_store
from tests.object_servers import AZ_KEY, AzServer, GsServer
from tests.s3_server import S3Server

ROWS, DIM, THUMBNAIL_BYTES = 500, 512, 4000
COORDINATOR_S = 0.002  # two calls to an actor on the same machine
RATES = (50, 1000, 8000)  # images/s: a CPU core, a GPU with one tower, a GPU at its best


def shard_tables(seed: int) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(seed)
    vectors = vector_array(rng.normal(size=(ROWS, DIM)).astype(np.float32))
    texts = vector_array(rng.normal(size=(50, DIM)).astype(np.float32))
    ids = [str(i) for i in range(ROWS)]
    scores = pa.table(
        {
            "row_id": ids,
            "status": ["ok"] * ROWS,
            "embedding": vectors,
            "thumbnail": [rng.bytes(THUMBNAIL_BYTES) for _ in ids],
        }
    )
    return scores, pa.table({"text": [f"text {i}" for i in range(50)], "embedding": texts})


def with_promise(store: Store, attempt: int, name: str, scores: pa.Table, texts: pa.Table) -> None:
    store.exists(f"scores/{name}.parquet")
    refuse_if_fenced(store, attempt)
    refuse_if_fenced(store, attempt)
    store_shard(store, name, scores, texts, {"aistudio.shard": name})


def without(folder: Path, name: str, scores: pa.Table, texts: pa.Table) -> None:
    for kind, table in (("texts", texts), ("scores", scores)):
        compression = {f.name: "zstd" for f in table.schema if pa.types.is_string(f.type)}
        plain = {"embedding.list.element": "none", "thumbnail": "none"}
        known = {k: v for k, v in plain.items() if k.split(".")[0] in table.column_names}
        pq.write_table(table, folder / f"{kind}-{name}.parquet", compression=compression | known, use_dictionary=False)


class S3ByObstore(ObjectBackend):
    """What the S3 backend would be by obstore, for comparison alone (aistudio/objects.py says why it is not)."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        from obstore.store import S3Store

        super().__init__(root.replace("s3://", "gs://"), settings)
        self.client = S3Store(self.bucket, endpoint=settings.endpoint_url, region="us-east-1",
                              virtual_hosted_style_request=False, client_options={"allow_http": True})  # fmt: skip


def bucket_stores(servers: contextlib.ExitStack) -> dict[str, tuple[S3Server, Store]]:
    """Name -> (its server, an empty store there)."""
    found = {}
    for name, kind in (("s3 by boto3", S3Server), ("s3 by obstore", S3Server), ("gs", GsServer), ("az", AzServer)):
        server = servers.enter_context(kind())
        settings = StoreSettings(endpoint_url=server.url) if kind is S3Server else server.settings()
        store = open_store(f"{getattr(server, 'scheme', 's3')}://bucket/{name.split()[-1]}", settings)
        if name == "s3 by obstore":
            store._backend = S3ByObstore(store.root, settings)
        found[name] = (server, store)
    return found


def buckets(pairs: int) -> None:
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", GOOGLE_BEARER_TOKEN="test")
    os.environ["AZURE_STORAGE_ACCOUNT_KEY"] = AZ_KEY
    with contextlib.ExitStack() as servers:
        stores = bucket_stores(servers)
        attempts = {name: claim_attempt(store) for name, (_, store) in stores.items()}
        seconds: dict[str, list[float]] = {name: [] for name in stores}
        for server, _ in stores.values():
            server.hits.clear()
        for i in range(pairs):
            scores, texts = shard_tables(i)
            for name in (*stores,) if i % 2 else (*reversed(stores),):
                started = time.perf_counter()
                with_promise(stores[name][1], attempts[name], f"{i:06d}", scores, texts)
                seconds[name].append(time.perf_counter() - started)
        print(f"{ROWS} rows a shard, {pairs} shards each")
        print("| bucket | requests a shard | ms a shard, median (quartiles) |\n|---|---|---|")
        for name, (server, _) in stores.items():
            hits = ", ".join(f"{n / pairs:.1f} {method}" for method, n in sorted(server.hits.items()))
            low, middle, high = np.percentile(seconds[name], (25, 50, 75)) * 1e3
            print(f"| {name} | {hits} | {middle:.1f} ({low:.1f} to {high:.1f}) |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--folder", help="on the disk to be measured; default: the temporary folder's")
    parser.add_argument("--buckets", action="store_true", help="requests and seconds of each kind of bucket instead")
    args = parser.parse_args()
    if args.buckets:
        buckets(args.pairs)
        return 0
    times: dict[str, list[float]] = {"with": [], "without": []}
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        store = open_store(str(Path(place) / "run"))
        attempt = claim_attempt(store)
        for i in range(args.pairs):
            scores, texts = shard_tables(i)
            ways = {
                "with": lambda s, t, n: with_promise(store, attempt, n, s, t),
                "without": lambda s, t, n: without(Path(place), n, s, t),
            }
            for way in ("with", "without") if i % 2 else ("without", "with"):
                started = time.perf_counter()
                ways[way](scores, texts, f"{i:06d}")
                times[way].append(time.perf_counter() - started)
    extra = [a - b + COORDINATOR_S for a, b in zip(times["with"], times["without"], strict=True)]
    low, middle, high = np.percentile(extra, (25, 50, 75))
    print(f"{ROWS} rows a shard, {args.pairs} pairs; ms a shard, median: with "
          f"{1e3 * statistics.median(times['with']):.1f}, without {1e3 * statistics.median(times['without']):.1f}, "
          f"difference {1e3 * middle:.1f} (quartiles {1e3 * low:.1f} to {1e3 * high:.1f})")  # fmt: skip
    print("| images/s of one worker | s a shard | slower by at most |\n|---|---|---|")
    for rate in RATES:
        print(f"| {rate:,} | {ROWS / rate:.2f} | {middle / (ROWS / rate):.2%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
