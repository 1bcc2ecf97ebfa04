"""Peers that need packages of their own (the extra `bench`): Daft, and img2dataset followed by a DataLoader loop."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _ways import Job, loader_scores, mark, store


def daft(job: Job, own_decode: bool = False) -> None:
    """Daft: url.download -> decode -> a class UDF in one process per core -> write_parquet."""
    import daft as d
    from daft import functions

    own = d.DataType.struct({"score": d.DataType.float32(), "embedding": d.DataType.list(d.DataType.float32())})

    @d.cls(max_concurrency=job["cores"], use_process=True)
    class Model:
        def __init__(self) -> None:
            sys.path.insert(0, str(Path(__file__).resolve().parent))
            import torch
            from _models import model_for

            torch.set_num_threads(1)
            self.model = model_for(job["model"], job["conf"])
            mark(job, "ready")

        @d.method.batch(return_dtype=own, batch_size=32)
        def score(self, pictures: Any, texts: Any) -> list[dict[str, Any]]:
            from _models import scores

            make = self.model.resized if own_decode else self.model.pixels
            vectors = self.model.images(np.stack([make(p) for p in pictures.to_pylist()]))
            found = scores(self.model, vectors, texts.to_pylist())
            return [{"score": float(s), "embedding": v} for s, v in zip(found, vectors, strict=True)]

    rows = {k: [r[k] for r in job["rows"]] for k in ("row_id", "url", "text")}
    frame = d.from_pydict(rows).into_batches(100)
    frame = frame.with_column("picture", functions.download(d.col("url")))
    if own_decode:
        frame = frame.with_column("picture", functions.decode_image(d.col("picture"), mode="RGB"))
    frame = frame.with_column("found", Model().score(d.col("picture"), d.col("text")))
    frame = frame.select(
        d.col("row_id"), d.col("found").get("score").alias("score"), d.col("found").get("embedding").alias("embedding")
    )
    frame.write_parquet(str(Path(job["out"]) / "parts"))
    parts = pa.concat_tables(
        pq.read_table(p, columns=["row_id", "score"]) for p in (Path(job["out"]) / "parts").glob("*.parquet")
    )
    store(job, parts["row_id"].to_pylist(), parts["score"].to_numpy())


def daft_decode(job: Job) -> None:
    """The same with Daft's own image decoder, whose pixels are not Pillow's."""
    daft(job, own_decode=True)


def img2dataset(job: Job) -> None:
    """img2dataset to files as they come (no resizing, no re-encoding), then a DataLoader loop over the files."""
    from _models import model_for

    out = Path(job["out"])
    model = model_for(job["model"], job["conf"])
    mark(job, "ready")
    table = pa.table({"url": [r["url"] for r in job["rows"]], "row_id": [r["row_id"] for r in job["rows"]]})
    pq.write_table(table, out / "urls.parquet")
    command = [sys.executable, "-c", _IMG2DATASET]
    settings = {
        "url_list": str(out / "urls.parquet"), "input_format": "parquet", "url_col": "url",
        "output_folder": str(out / "images"), "output_format": "files", "processes_count": job["cores"],
        "thread_count": 32, "resize_mode": "no", "disable_all_reencoding": True, "save_additional_columns": ["row_id"],
        "number_sample_per_shard": 500, "enable_wandb": False, "retries": 0,
    }  # fmt: skip
    quiet = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    subprocess.run([*command, json.dumps(settings)], check=True, stdout=subprocess.DEVNULL, env=quiet)
    files = {}
    for path in (out / "images").rglob("*.json"):
        if not path.name.endswith("_stats.json"):
            files[json.loads(path.read_text())["row_id"]] = str(path.with_suffix(".jpg"))
    sources = [files[r["row_id"]] for r in job["rows"]]
    store(job, [r["row_id"] for r in job["rows"]], loader_scores(job, model, sources))


_IMG2DATASET = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    download(**json.loads(sys.argv[1]))
"""

WAYS: dict[str, Callable[[Job], None]] = {"daft": daft, "daft_decode": daft_decode, "img2dataset": img2dataset}
