"""What docs/scaling.md stands on: processor time of each stage per image, the engine's per row on one and two nodes.

    python benchmarks/scaling.py stages [--num-images 400]
    python benchmarks/scaling.py nodes  [--rows 10000 60000]

`stages` measures in this process, in processor time, so that a busy machine disturbs little: 400 x 711 px JPEG files
from a server in another process. `nodes` runs the whole pipeline with stub images and a stub model on Ray nodes of one
CPU each on this machine; the difference of two sizes takes the start-up out.
"""

import argparse
import http.server
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from _gpu_decode import photos
from _watch import Watch
from engine import ROOT, run_job, write_job

from aistudio.config import DownloadSettings, ImageSpec, ImagesSettings, StoreSettings
from aistudio.images.decode import decode
from aistudio.images.download import Downloader
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models.align import AlignModel
from aistudio.schema import CANDIDATE_FIELDS, OUTCOME_FIELDS, score_schema, vector_array
from aistudio.store import open_store

SIZE = (400, 711)
SHARD_ROWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stages", "nodes"])
    parser.add_argument("--num-images", type=int, default=400)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 60_000])
    parser.add_argument("--child", type=int, metavar="NODES", help=argparse.SUPPRESS)
    parser.add_argument("--conf", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        on_nodes(args.child, args.conf)
    elif args.what == "stages":
        stages(args.num_images)
    else:
        nodes(*args.rows)


# ---------------------------------------------------------------- stages


def stages(num_images: int) -> None:
    torch.set_num_threads(1)
    bodies = photos(32, SIZE)
    print(f"JPEG files of {sum(map(len, bodies)) / len(bodies) / 1e3:.0f} kB, {SIZE[0]} x {SIZE[1]} px\n")
    print("| stage | processor ms per image |\n|---|--:|")
    with serving(bodies) as address:
        show("download", num_images, lambda: download(address, num_images))
    spec = ImageSpec()
    for name, settings in (
        ("decode, resize, thumbnail", ImagesSettings()),
        ("the same without thumbnail", ImagesSettings(thumbnail_px=0)),
        ("the same, decode: fast", ImagesSettings(thumbnail_px=0, decode="fast")),
    ):
        show(name, num_images, lambda s=settings: [decode(bodies[i % 32], [spec], s) for i in range(num_images)])  # type: ignore[misc]
    show_model(max(8, num_images // 10))
    show_store(num_images)


def show(name: str, n: int, call: Callable[[], object]) -> None:
    call()
    start = time.process_time()
    call()
    print(f"| {name} | {1e3 * (time.process_time() - start) / n:.2f} |", flush=True)


@contextmanager
def serving(bodies: list[bytes]) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(bodies, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(60), "the server did not start"
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join(10)


def serve(bodies: list[bytes], pipe: "multiprocessing.connection.Connection") -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = bodies[int(self.path.strip("/")) % len(bodies)]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


def download(address: str, num_images: int) -> None:
    settings = DownloadSettings(allow_private_addresses=True, trust_env_proxy=False, concurrency=16)
    downloader = Downloader(settings, StoreSettings())
    for _, fetched in downloader.stream([(f"{address}/{i}", None) for i in range(num_images)]):
        assert fetched.body, fetched.error
    downloader.close()


def show_model(num_images: int) -> None:
    model = AlignModel()
    tower = torch.nn.Sequential(model.image_model, model.image_hidden_layer)
    encoder = ImageRunner(tower, ImageSpec(), 512, LoadOptions())
    rng = np.random.default_rng(0)
    draw = lambda: encoder(rng.integers(0, 256, (num_images, 224, 224, 3), np.uint8))  # noqa: E731 - new ones: no cache
    show("EfficientNet-B3 on a CPU core, float32", num_images, draw)


def show_store(num_images: int) -> None:
    """A score file of 512 numbers and a 4 kB thumbnail a row."""
    schema = score_schema([], {"embedding": 512})
    table = filled(schema, SHARD_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        times = max(1, num_images // 100)
        show(
            "one row into Parquet",
            SHARD_ROWS * times,
            lambda: [store.write_table("x.parquet", table) for _ in range(times)],
        )
        size = (Path(folder) / "x.parquet").stat().st_size
    print(f"\none stored row: {size / SHARD_ROWS:,.0f} bytes, {4000} of them the thumbnail")


def filled(schema: pa.Schema, n: int) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {}
    for field in schema:
        if field.name == "embedding":
            columns[field.name] = vector_array(rng.normal(size=(n, 512)).astype(np.float32))
        elif field.name == "thumbnail":
            columns[field.name] = pa.array([rng.bytes(4000) for _ in range(n)])
        elif pa.types.is_string(field.type):
            columns[field.name] = pa.array([f"https://images.example.com/{field.name}/{i:032x}.jpg" for i in range(n)])
        else:
            columns[field.name] = pa.array(rng.integers(1, 1000, n)).cast(field.type)
    assert set(columns) >= {f.name for f in (*CANDIDATE_FIELDS, *OUTCOME_FIELDS)}
    return pa.table([columns[f.name] for f in schema], schema=schema)


# ---------------------------------------------------------------- nodes


def nodes(few: int, many: int) -> None:
    print("| nodes of 1 CPU | plan | CPU ms per row | rows/s (wall) |\n|--:|---|--:|--:|")
    for num_nodes in (1, 2):
        (cpu_few, wall_few), (cpu_many, wall_many) = (run_on(num_nodes, rows) for rows in (few, many))
        cpu_ms = 1e3 * (cpu_many - cpu_few) / (many - few)
        print(f"| {num_nodes} | fused | {cpu_ms:.3f} | {(many - few) / (wall_many - wall_few):,.0f} |", flush=True)


def run_on(num_nodes: int, rows: int) -> tuple[float, float]:
    """Processor seconds and wall seconds of a run."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="scal") as folder:
        conf = write_job(Path(folder), "fused", rows, True)
        command = [sys.executable, __file__, "nodes", "--child", str(num_nodes), "--conf", str(conf)]
        here = str(Path(__file__).parent)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        env = kept | {"PYTHONPATH": f"{here}:{ROOT}", "RAY_TMPDIR": f"{folder}/ray", "OMP_NUM_THREADS": "1"}
        start = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as job:
            with Watch(job.pid) as watch:
                _, errors = job.communicate(timeout=600)
            if job.returncode:
                raise SystemExit(f"the run failed:\n{errors.decode()[-2000:]}")
        return watch.cpu_s, time.monotonic() - start


def on_nodes(num_nodes: int, conf: str) -> None:
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 120 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(num_nodes - 1):
        cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    run_job(conf, [])
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
