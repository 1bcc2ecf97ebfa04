"""The same photographs in every form that a manifest may have: equal content hashes and vectors, broken rows counted.

    python benchmarks/same_photographs.py --photos ../shared/data/clothing [--num 300] [--model demo_recall]

Takes NUM photographs of a folder and ten broken ones (cut short, a web page, noise, empty, too large, too wide, SVG),
writes them as folder, CSV and tar over HTTP, objects and a tar of an S3 server (moto), objects of stand-ins of Google's
and Azure's (tests/object_servers.py), Parquet and Lance with bytes, WebDataset tar, zip, addresses and bytes in a
PostgreSQL database and a data set of a hub (both on this machine), runs `aistudio score` on each, and compares every
row with those of the folder. Exit code 1 where anything differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from aistudio.runs import layout  # noqa: E402
from aistudio.schema import vector_matrix  # noqa: E402
from aistudio.store import open_store  # noqa: E402
from tests import photo_sources as sources  # noqa: E402
from tests.dataset_hub import DatasetHub  # noqa: E402
from tests.object_servers import AZ_KEY, AzServer, GsServer  # noqa: E402
from tests.postgres import Postgres, programs  # noqa: E402
from tests.s3_server import S3Server  # noqa: E402

LIMIT_S = 900
MAX_BYTES = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEG files, at any depth")
    parser.add_argument("--num", type=int, default=300)
    parser.add_argument("--model", default="demo_recall")
    args = parser.parse_args()
    files = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[: args.num]
    if len(files) < args.num:
        raise SystemExit(f"{args.photos}: only {len(files)} JPEG files")
    photos = {f"photo{i:05d}": path.read_bytes() for i, path in enumerate(files)}
    photos |= broken(photos["photo00000"])
    print("| form | seconds | ok | failed | rejected | hashes | vectors |\n|---|--:|--:|---|--:|---|---|")
    with tempfile.TemporaryDirectory(prefix="aistudio-forms-") as folder, ExitStack() as stack:
        expected: dict[str, bytes] = {}
        wrong = 0
        for name, source, settings, environment in forms(Path(folder), photos, stack):
            started = time.monotonic()
            found, failed, rejected = score(Path(folder) / f"run-{name}", source, settings, environment, args.model)
            expected = expected or found
            hashes, vectors = found.keys() == expected.keys(), found == expected
            known = Counter(failed) == Counter([*STATUSES.values(), *["empty"] * source.more_failed])
            wrong += not (hashes and vectors and known and rejected == source.rejected)
            counts = ", ".join(f"{n} {status}" for status, n in sorted(Counter(failed).items()))
            print(
                f"| {name} | {time.monotonic() - started:.1f} | {len(found)} | {counts} | {rejected} | "
                f"{'equal' if hashes else 'DIFFER'} | {'equal' if vectors else 'DIFFER'} |",
                flush=True,
            )
    sys.exit(1 if wrong else 0)


STATUSES = sources.BROKEN | {"cut2": "truncated_image", "page2": "not_an_image", "none2": "empty"}


def broken(photo: bytes) -> dict[str, bytes]:
    """Ten of them."""
    found = sources.broken(photo) | {"large": photo + b"\0" * MAX_BYTES}
    return found | {"cut2": photo[: len(photo) // 3], "page2": b"<html>busy</html>", "none2": b""}


def forms(folder: Path, photos: dict[str, bytes], stack: ExitStack) -> Iterator[tuple]:
    """Name, source, settings of the job and environment of each form."""
    yield "folder", sources.folder(folder / "photos", photos), {}, {}
    yield "parquet", sources.hub_parquet(folder / "photos.parquet", photos), {}, {}
    yield "webdataset", sources.webdataset_tar(folder / "00000.tar", photos), {}, {}
    yield "zip", sources.zip_file(folder / "photos.zip", photos), {}, {}
    yield "lance", sources.lance_set(folder / "photos.lance", photos), {}, {}
    root = stack.enter_context(web(folder / "photos"))
    yield "http", sources.csv_file(folder / "http.csv", {n: f"{root}/{n}.jpg" for n in photos}), {}, {}
    shards = stack.enter_context(web(folder))
    yield "http-tar", sources.Source({"path": f"{shards}/00000.tar", "format": "webdataset"}, 10), {}, {}
    s3 = stack.enter_context(S3Server())
    for name, body in photos.items():
        s3.client.put_object(Bucket="bucket", Key=f"{name}.jpg", Body=body)
    s3.client.put_object(Bucket="bucket", Key="00000.tar", Body=(folder / "00000.tar").read_bytes())
    store = {"store": {"endpoint_url": s3.url}}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    yield "s3", sources.csv_file(folder / "s3.csv", {n: f"s3://bucket/{n}.jpg" for n in photos}), store, keys
    yield "s3-tar", sources.Source({"path": "s3://bucket/00000.tar", "format": "webdataset"}, 10), store, keys
    for kind, server_class, secret in (
        ("gs", GsServer, {"GOOGLE_BEARER_TOKEN": "test"}), ("az", AzServer, {"AZURE_STORAGE_ACCOUNT_KEY": AZ_KEY}),
    ):  # fmt: skip
        place = stack.enter_context(server_class())
        os.environ.update(secret)
        objects = open_store(f"{kind}://bucket", place.settings())
        for name, body in photos.items():
            objects.write_bytes(f"{name}.jpg", body)
        found = sources.csv_file(folder / f"{kind}.csv", {n: f"{kind}://bucket/{n}.jpg" for n in photos})
        yield kind, found, {"store": place.settings().model_dump(exclude_defaults=True)}, secret
    hub = stack.enter_context(DatasetHub())
    hub.commit("shop/photos", {"data/0.parquet": (folder / "photos.parquet").read_bytes()})
    manifest = {"path": "hf://datasets/shop/photos", "format": "parquet"}
    yield "hub", sources.Source(manifest, 0, 10), {}, {"HF_ENDPOINT": hub.url}
    if programs() is None:
        print("PostgreSQL's programs are not on this machine: that form is left out", file=sys.stderr)
        return
    server = stack.enter_context(Postgres())
    server.fill("photographs", sources.table_of({n: str(folder / "photos" / f"{n}.jpg") for n in photos}))
    query = "SELECT * FROM photographs ORDER BY item_id"
    yield "postgresql", sources.Source({"path": server.uri, "format": "sql", "query": query}, 10), {}, {}
    server.fill("pictures", sources.bytes_table(photos))
    query = "SELECT item_id, image_url, text FROM pictures ORDER BY item_id"
    yield "postgresql-bytes", sources.Source({"path": server.uri, "format": "sql", "query": query}, 0, 10), {}, {}


def score(run: Path, source: sources.Source, settings: dict, environment: dict, model: str) -> tuple:
    """Vectors by content hash, statuses of failed rows, number of rejected lines."""
    conf = {
        "manifest": source.manifest, "output": str(run), "models": {"recall": model},
        "download": {"allow_private_addresses": True, "max_bytes": MAX_BYTES, "retries": 1},
        "images": {"max_pixels": 10_000_000}, "engine": {"max_failed_share": None}, **settings,
    }  # fmt: skip
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(conf))
    command = [sys.executable, "-m", "aistudio", "score", "--conf", str(path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode:
        raise SystemExit(f"{run.name}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    store = open_store(str(run))
    found: dict[str, bytes] = {}
    failed: list[str] = []
    for key in layout.score_keys(store):
        table = store.read_table(key, ["status", "content_hash", "embedding"])
        failed += [s for s in table["status"].to_pylist() if s != "ok"]
        hashes = [
            h for h, s in zip(table["content_hash"].to_pylist(), table["status"].to_pylist(), strict=True) if s == "ok"
        ]
        good = table.filter([s == "ok" for s in table["status"].to_pylist()])
        found |= {h: v.tobytes() for h, v in zip(hashes, vector_matrix(good["embedding"]), strict=True)}
    rejected = sum(store.read_table(e.key).num_rows for e in store.list(layout.REJECTED))
    record = json.loads((run / "run.json").read_text())
    if record["state"] != "complete":
        raise SystemExit(f"{run.name}: {record['state']}")
    return found, failed, rejected


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """The folder over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.handle_error = lambda *_: None  # who looks at an archive's head alone hangs up
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
