"""gpu.py's part `job`: the whole scoring job on local files, images/s and GPU utilisation; needs Ray."""

import argparse
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from _gpu_decode import photos
from _gpu_measure import Utilisation, on_gpu, row, table
from _gpu_model import alone_rate

from aistudio.models._checkpoint import save_weights
from aistudio.models.align import AlignModel, state_dict_published

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]


def whole_jobs(args: argparse.Namespace) -> list[str]:
    if importlib.util.find_spec("ray") is None:
        return ["Ray is not installed here: not measured."]
    lines = table("precision", "batch", "actors per GPU", "images/s", "model alone", "share", "GPU")
    with tempfile.TemporaryDirectory(prefix="gpu-bench-") as name:
        folder = Path(name)
        model = write_model(folder, args)
        write_images(folder / "images", args)
        for precision, batch in itertools.product(args.job_precisions, args.job_batches):
            alone = alone_rate(precision, batch or 256, args)
            if on_gpu(args):
                torch.cuda.empty_cache()  # the job is to find the memory free
            for actors in args.actors_per_gpu:
                done, gpu, told = run_job(folder, model, precision, batch, actors, args)
                lines.append(
                    row(precision, batch or told, actors, f"{done:,.0f}", f"{alone:,.0f}", f"{done / alone:.0%}", gpu)
                )
    return [
        *lines,
        "",
        f"{args.job_images:,} local JPEG files, thumbnails on; the rate counts from the first row to the last. "
        "`share`: the job's rate against the model's own with one caller (256 images for `auto`).",
    ]


def write_model(folder: Path, args: argparse.Namespace) -> Path:
    words = WORDS + [f"[unused{i}]" for i in range(args.arch.text.vocab_size - len(WORDS))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    save_weights(state_dict_published(AlignModel(args.arch)), folder / "m.safetensors")
    conf = {
        "family": "align", "name": "bench", "weights": {"path": str(folder / "m.safetensors")},
        "tokenizer": str(folder), "image": {"size": args.size}, "arch": args.arch.model_dump(mode="json"),
    }  # fmt: skip
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def write_images(folder: Path, args: argparse.Namespace) -> None:
    """Files with few distinct contents but a trailing number each, so that no two are the same bytes."""
    folder.mkdir()
    bodies = photos(min(64, args.job_images), (40, 71) if args.tiny else (400, 711))
    for i in range(args.job_images):
        (folder / f"{i:07d}.jpg").write_bytes(bodies[i % len(bodies)] + str(i).encode())


def run_job(
    folder: Path, model: Path, precision: str, batch: int, actors: int, args: argparse.Namespace
) -> tuple[float, str, str]:
    """images/s from the first row on, the GPU's utilisation, and the batch size that `auto` (0) came to."""
    output = folder / f"run-{precision}-{batch}-{actors}"
    conf = {
        "manifest": {"path": str(folder / "images"), "format": "folder"},
        "output": str(output),
        "models": {"recall": str(model)},
        "engine": {"precision": precision, "batch_size": batch or "auto"}
        | ({"num_gpus_per_actor": 1 / actors} if on_gpu(args) else {"num_actors": 1}),
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(conf))
    with Utilisation() as gpu:
        done = subprocess.run([sys.executable, "-m", "jobs.score", "--conf", str(path)], cwd=ROOT, text=True,
                              capture_output=True, timeout=1800)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the job failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    record = json.loads((output / "run.json").read_text())
    shutil.rmtree(output)
    found = [text.split()[0] for fact, text in record["facts"].items() if fact.startswith("batch_size")]
    told = f"auto: {', '.join(found) or record['plan']['batch_size']}"
    return steady_rate(record["timeline"], record["timings"]), gpu.text(), told


def steady_rate(timeline: list[list[float]], timings: dict[str, Any]) -> float:
    """Rows per second between the first and the last row; the whole run's where it was over too soon to tell."""
    points = list(_moving(timeline))
    if len(points) < 2 or points[-1][0] - points[0][0] < 1:
        return float(timings["images_per_s"] or timings["num_rows"] / timings["wall_s"])
    (t0, n0), (t1, n1) = points[0], points[-1]
    return (n1 - n0) / (t1 - t0)


def _moving(timeline: list[list[float]]) -> Iterator[tuple[float, float]]:
    last = 0.0
    for seconds, done, *_ in timeline:
        if done > last:
            last = done
            yield seconds, done
