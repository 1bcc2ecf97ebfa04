"""The ways of scoring that throughput.py compares, but for the job itself: each one is a process of its own.

    python benchmarks/_ways.py WAY JOB.json

A way fetches (or, for `limit`, reads) the job's images, encodes images and texts, and stores row_id and score in
`<out>/scores.parquet`. It says by `mark` when a model is ready, so that nobody's start-up is counted as speed.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Job = dict[str, Any]  # rows: [{row_id, url, text, file}], conf, model (plain or ours), out, cores


def mark(job: Job, event: str) -> None:
    """Write down that `event` happened now, in this process."""
    (Path(job["out"]) / f"{event}-{os.getpid()}").write_text(repr(time.time()))


def store(job: Job, row_ids: list[str], scores: np.ndarray) -> None:
    """The result of the ways that hold it in one place."""
    table = pa.table({"row_id": row_ids, "score": np.asarray(scores, np.float32)})
    pq.write_table(table, Path(job["out"]) / "scores.parquet")


def limit(job: Job) -> None:
    """Nothing but our decode and our model, images in memory, one process per core, items split evenly."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(job["cores"])
    with context.Pool(job["cores"], _limit_ready, (job, start)) as pool:
        parts = pool.map(_limit_part, _item_parts(job), chunksize=1)
    store(job, [i for ids, _ in parts for i in ids], np.concatenate([s for _, s in parts]))


def limit_ray(job: Job) -> None:
    """The same while a Ray stands by that does nothing: what it takes for itself before a job asks anything of it.

    It has as many idle actors as a job: Ray Data's three, our coordinator, and one for each model actor.
    """
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=job["cores"])
    idle = [ray.remote(num_cpus=0)(_Idle).remote() for _ in range(4 + job["cores"])]
    ray.get([actor.ready.remote() for actor in idle], timeout=120)
    time.sleep(10)  # it starts processes beforehand for tasks to come
    limit(job)
    ray.shutdown()


class _Idle:
    def ready(self) -> None:
        return None


def _item_parts(job: Job) -> list[list[dict[str, str]]]:
    """The rows in one part per core, cut between items as the job's shards are (texts are encoded once per part)."""
    rows, cores = job["rows"], job["cores"]
    return [rows[i * len(rows) // cores : (i + 1) * len(rows) // cores] for i in range(cores)]


_limit: dict[str, Any] = {}  # what one process of the limit holds


def _limit_ready(job: Job, start: Any) -> None:
    import torch

    from aistudio.config import load_model_config
    from aistudio.models import load_model

    torch.set_num_threads(1)
    model = load_model(load_model_config(job["conf"]))
    size = model.image_spec.size
    model.encode_images(np.zeros((4, size, size, 3), np.uint8))
    _limit.update(job=job, model=model, start=start)


def _limit_part(rows: list[dict[str, str]]) -> tuple[list[str], np.ndarray]:
    from aistudio.config import ImagesSettings
    from aistudio.images.decode import decode

    job, model, settings = _limit["job"], _limit["model"], ImagesSettings(**_limit["job"]["images"])
    bodies = [Path(r["file"]).read_bytes() for r in rows]
    _limit["start"].wait(300)
    mark(job, "ready")
    found = []
    for first in range(0, len(rows), 16):
        decoded = [decode(body, [model.image_spec], settings) for body in bodies[first : first + 16]]
        found.append(model.encode_images(np.stack([d.pixels[0] for d in decoded])))
    texts = list(dict.fromkeys(r["text"] for r in rows))
    vectors = dict(zip(texts, model.encode_texts(texts), strict=True))
    scores = np.einsum("nd,nd->n", np.concatenate(found), np.stack([vectors[r["text"]] for r in rows]))
    mark(job, "end")
    return [r["row_id"] for r in rows], scores


def reference(job: Job) -> None:
    """The kind of loop the paper's script has: one process, one image after the other, batches of 16, eager model."""
    import requests
    from _models import PlainModel, scores

    model, session = PlainModel(job["conf"]), requests.Session()
    mark(job, "ready")
    found = []
    for first in range(0, len(job["rows"]), 16):
        rows = job["rows"][first : first + 16]
        pixels = [model.pixels(session.get(r["url"], timeout=20).content) for r in rows]
        found.append(scores(model, model.images(np.stack(pixels)), [r["text"] for r in rows]))
    store(job, [r["row_id"] for r in job["rows"]], np.concatenate(found))


class UrlData:
    """A map-style data set of URLs (or files): __getitem__ fetches and decodes."""

    def __init__(self, sources: list[str], pixels: Callable[[bytes], np.ndarray]) -> None:
        self.sources, self.pixels, self.session = sources, pixels, None

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        source = self.sources[index]
        if not source.startswith("http"):
            return self.pixels(Path(source).read_bytes())
        if self.session is None:  # one per worker process
            import requests

            self.session = requests.Session()
        return self.pixels(self.session.get(source, timeout=20).content)


def loader_scores(job: Job, model: Any, sources: list[str]) -> np.ndarray:
    """Scores by a DataLoader over `sources`, in order; one worker per core, the model in this process."""
    from _models import scores
    from torch.utils.data import DataLoader

    data: Any = UrlData(sources, model.pixels)
    loader = DataLoader(data, batch_size=32, num_workers=job["cores"], prefetch_factor=4)
    vectors = np.concatenate([model.images(batch) for batch in loader])
    return scores(model, vectors, [r["text"] for r in job["rows"]])


def dataloader(job: Job) -> None:
    """PyTorch's DataLoader with one worker per core over a data set of URLs; the model runs in the main process."""
    from _models import model_for

    model = model_for(job["model"], job["conf"])
    mark(job, "ready")
    found = loader_scores(job, model, [r["url"] for r in job["rows"]])
    store(job, [r["row_id"] for r in job["rows"]], found)


class _RayFetch:
    """Fetches with threads, as Ray's guides do where its own download expression does not reach."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import requests

        with ThreadPoolExecutor(16) as pool, requests.Session() as session:
            batch["bytes"] = np.array([a.content for a in pool.map(session.get, batch["url"])], dtype=object)
        return batch


class _RayModel:
    def __init__(self, job: Job) -> None:
        from _models import model_for

        self.model = model_for(job["model"], job["conf"])
        mark(job, "ready")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from _models import scores

        vectors = self.model.images(batch["pixels"])
        return {
            "row_id": batch["row_id"],
            "score": scores(self.model, vectors, list(batch["text"])),
            "embedding": vectors,
        }


def ray_data(job: Job) -> None:
    """Ray Data as its batch-inference guide has it: download expression, map_batches, an actor pool, write_parquet."""
    import ray
    import ray.data
    from _models import model_for
    from ray.data.expressions import download

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": _paths()}})
    ray.data.DataContext.get_current().enable_progress_bars = False
    plain = model_for(job["model"], job["conf"])
    table = pa.Table.from_pylist([{k: r[k] for k in ("row_id", "url", "text")} for r in job["rows"]])
    urls = ray.data.from_arrow(table).repartition(max(4, len(job["rows"]) // 100))

    def decode(batch: dict[str, Any]) -> dict[str, Any]:
        return {
            "row_id": batch["row_id"],
            "text": batch["text"],
            "pixels": np.stack([pixels(b) for b in batch["bytes"]]),
        }

    pixels = _pixels_without_weights(plain)
    fetched = urls.with_column("bytes", download("url")) if job["ray_download"] else urls.map_batches(_RayFetch())
    # Half a CPU each leaves one for what comes before: a pool that holds all CPUs starves its own input.
    pool = ray.data.ActorPoolStrategy(size=job["cores"])
    encoded = fetched.map_batches(decode, batch_size=32).map_batches(
        _RayModel, fn_constructor_args=(job,), batch_size=32, compute=pool, num_cpus=0.5
    )
    encoded.write_parquet(str(Path(job["out"]) / "parts"))
    parts = pq.read_table(Path(job["out"]) / "parts", columns=["row_id", "score"])
    store(job, parts["row_id"].to_pylist(), parts["score"].to_numpy())
    ray.shutdown()


def _paths() -> str:
    here = Path(__file__).resolve().parent
    return os.pathsep.join([str(here), str(here.parent)])


def _pixels_without_weights(model: Any) -> Callable[[bytes], np.ndarray]:
    """The model's way from a file to its input, to be sent to other processes without the model."""
    bare = object.__new__(type(model))
    bare.__dict__.update({k: v for k, v in model.__dict__.items() if k in ("_spec", "_size")})
    return bare.pixels


WAYS: dict[str, Callable[[Job], None]] = {
    "limit": limit,
    "limit_ray": limit_ray,
    "reference": reference,
    "dataloader": dataloader,
    "ray_data": ray_data,
}


def main() -> None:
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    way = sys.argv[1]
    if way in WAYS:
        WAYS[way](job)
    else:
        import _peers

        _peers.WAYS[way](job)
    mark(job, "end")


if __name__ == "__main__":
    main()
