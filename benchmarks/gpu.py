"""One GPU: images/s of the bare model by precision, batch and compile, of decoding, and of the whole job; utilisation.

    python benchmarks/gpu.py                        # all of it, on the published sizes with random numbers
    python benchmarks/gpu.py --parts bare,decode    # what runs without Ray
    python benchmarks/gpu.py --device cpu --tiny    # does the program work? (numbers mean nothing)

Writes reports/bench/gpu_<date>.md. `tower` is the network alone on pixels that are on the device already; `encoder` is
what the job calls: uint8 pixels in host memory -> unit vectors in host memory. Best of some passes after a warm-up.
"""

import argparse
import datetime
import io
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images.decode import decode
from aistudio.models._checkpoint import save_weights
from aistudio.models._encode import PRECISIONS, ImageEncoder, LoadOptions, exact_float32
from aistudio.models.align import AlignArch, AlignModel, state_dict_published

ROOT = Path(__file__).resolve().parents[1]
TINY_ARCH = {
    "image": {"width_mult": 0.25, "depth_mult": 0.2, "dim": 24, "static_size": 32},
    "text": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24, "vocab_size": 41, "max_tokens": 12,
             "max_positions": 16},
    "dim": 16,
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]


class Utilisation:
    """`with Utilisation() as gpu: ...`; then `gpu.text()`: what nvidia-smi saw meanwhile, or that there is none."""

    def __init__(self) -> None:
        self.percent: list[float] = []
        self.watts: list[float] = []
        self.memory_mb = 0.0

    def __enter__(self) -> "Utilisation":
        self._process: subprocess.Popen[str] | None = None
        if shutil.which("nvidia-smi"):
            query = ["--query-gpu=utilization.gpu,power.draw,memory.used", "--format=csv,noheader,nounits"]
            self._process = subprocess.Popen(
                ["nvidia-smi", "-i", "0", *query, "-lms", "200"], stdout=subprocess.PIPE, text=True
            )
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            try:
                percent, watts, memory = (float(x) for x in line.split(","))
            except ValueError:
                continue  # [N/A] in a virtual machine
            self.percent.append(percent)
            self.watts.append(watts)
            self.memory_mb = max(self.memory_mb, memory)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._thread.join(5)

    def text(self) -> str:
        if not self.percent:
            return "not measured"
        return f"{mean(self.percent):.0f} % (busiest {max(self.percent):.0f} %), {mean(self.watts):.0f} W"


def main(argv: list[str] | None = None) -> Path:
    args = parse(argv)
    torch.manual_seed(0)
    lines = [f"# One {device_name(args.device)}", "", *setting(args), ""]
    if "bare" in args.parts:
        lines += ["## The model alone, images/s", "", *bare(args), ""]
    if "decode" in args.parts:
        lines += ["## Decoding, images/s", "", *decoding(args), ""]
    if "job" in args.parts:
        lines += ["## The whole job", "", *whole_jobs(args), ""]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines), encoding="utf-8")
    print(f"\nwritten: {args.out}")
    return args.out


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default="bare,decode,job")
    parser.add_argument("--precisions", default="float32,bfloat16,float16")
    parser.add_argument("--batches", default="32,128,256,512")
    parser.add_argument("--compile", default="no,yes", help="no, yes or both")
    parser.add_argument("--num-images", type=int, default=4096, help="per measurement of the model and of decoding")
    parser.add_argument("--job-images", type=int, default=20_000)
    parser.add_argument("--actors-per-gpu", default="1,2", help="of the whole job; each gets its share of the GPU")
    parser.add_argument("--job-batches", default="256")
    parser.add_argument("--job-precisions", default="float32,bfloat16")
    parser.add_argument("--tiny", action="store_true", help="a network of some thousand weights on 32 px images")
    today = datetime.date.today().isoformat()
    parser.add_argument("--out", type=Path, default=ROOT / f"reports/bench/gpu_{today}.md")
    args = parser.parse_args(argv)
    for name in ("parts", "precisions", "compile", "job_precisions"):
        setattr(args, name, getattr(args, name).split(","))
    for name in ("batches", "job_batches", "actors_per_gpu"):
        setattr(args, name, [int(x) for x in getattr(args, name).split(",")])
    args.arch = AlignArch(**TINY_ARCH) if args.tiny else AlignArch()  # type: ignore[arg-type]
    args.size = 32 if args.tiny else 224
    return args


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(0) if device.startswith("cuda") else platform.processor() or "processor"


def setting(args: argparse.Namespace) -> list[str]:
    cores = len(os.sched_getaffinity(0))
    network = "a tiny network (numbers mean nothing)" if args.tiny else "EfficientNet-B3 towers of the published sizes"
    return [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, torch {torch.__version__}, {cores} CPU cores, "
        f"{network} with random numbers, {args.size} px. Made by `benchmarks/gpu.py {' '.join(sys.argv[1:])}`."
    ]


def table(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def row(*values: Any) -> str:
    line = f"| {' | '.join(str(v) for v in values)} |"
    print(line, flush=True)
    return line


# ---------------------------------------------------------------- the model alone


def bare(args: argparse.Namespace) -> list[str]:
    lines = table("precision", "compile", "batch", "tower", "encoder", "peak memory MB", "GPU during encoder")
    pixels = np.random.default_rng(0).integers(0, 256, (args.num_images, args.size, args.size, 3), np.uint8)
    for precision in args.precisions:
        for compiled in args.compile:
            encoder = make_encoder(args, precision, compiled == "yes")
            for batch in args.batches:
                lines.append(row(precision, compiled, batch, *measure(encoder, pixels, batch, args)))
            del encoder
    return lines


def make_encoder(args: argparse.Namespace, precision: str, compiled: bool) -> ImageEncoder:
    model = AlignModel(args.arch)
    tower = torch.nn.Sequential(model.image_model, model.image_hidden_layer)
    spec = ImageSpec(size=args.size)
    return ImageEncoder(tower, spec, args.arch.dim, LoadOptions(args.device, precision, True, compiled))


def measure(encoder: ImageEncoder, pixels: np.ndarray, batch: int, args: argparse.Namespace) -> list[str]:
    """tower images/s, encoder images/s, peak memory, utilisation; the reason where it fails."""
    cuda = args.device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    device, dtype = torch.device(args.device), PRECISIONS[encoder_precision(encoder)]
    try:
        with torch.inference_mode(), exact_float32(device):
            x = encoder.normalise(pixels[:batch]).to(dtype)
            tower = rate(lambda: encoder._tower(x), batch, args)
        with Utilisation() as gpu:
            whole = rate(
                lambda: [encoder(pixels[i : i + batch]) for i in range(0, len(pixels), batch)], len(pixels), args
            )
    except (torch.OutOfMemoryError, RuntimeError) as e:
        return [f"{type(e).__name__}: {str(e).splitlines()[0][:60]}", "", "", ""]
    memory = f"{torch.cuda.max_memory_allocated() / 1e6:,.0f}" if cuda else "-"
    return [f"{tower:,.0f}", f"{whole:,.0f}", memory, gpu.text()]


def encoder_precision(encoder: ImageEncoder) -> str:
    return next(name for name, dtype in PRECISIONS.items() if dtype == encoder._dtype)


def rate(call: Callable[[], Any], num_images: int, args: argparse.Namespace, least_s: float = 1.0) -> float:
    """Images per second: two calls to warm up, then at least three and `least_s`; the fastest counts."""
    wait = torch.cuda.synchronize if args.device.startswith("cuda") else (lambda: None)
    for _ in range(2):
        call()
    wait()
    best, passes, began = float("inf"), 0, time.perf_counter()
    while passes < 3 or (time.perf_counter() - began < least_s and not args.tiny):
        start = time.perf_counter()
        call()
        wait()
        best, passes = min(best, time.perf_counter() - start), passes + 1
    return num_images / best


# ---------------------------------------------------------------- decoding


def photos(n: int, size: tuple[int, int]) -> list[bytes]:
    """JPEG files with the detail of a photo: smooth shapes plus grain."""
    rng, bodies = np.random.default_rng(1), []
    for _ in range(n):
        small = Image.fromarray(rng.integers(0, 256, (12, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (size[1], size[0], 1))
        out = io.BytesIO()
        Image.fromarray(np.clip(np.asarray(small) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
        bodies.append(out.getvalue())
    return bodies


def decoding(args: argparse.Namespace) -> list[str]:
    """On processor cores as the job does it (decode, resize, thumbnail), and on the GPU's own decoder."""
    lines = table("what", "400 x 711 px", "1000 x 1000 px")
    sizes = [(40, 71), (100, 100)] if args.tiny else [(400, 711), (1000, 1000)]
    files = [photos(min(64, args.num_images), size) for size in sizes]
    spec, settings = ImageSpec(size=args.size), ImagesSettings()
    cores = len(os.sched_getaffinity(0))
    for threads in dict.fromkeys((1, cores)):
        rates = [cpu_decode_rate(bodies, spec, settings, threads, args.num_images) for bodies in files]
        lines.append(row(f"CPU, {threads} thread(s), with thumbnail", *(f"{r:,.0f}" for r in rates)))
    lines.append(row("nvJPEG through torchvision, full size, batches of 64", *(nvjpeg_rate(b, args) for b in files)))
    return lines


def cpu_decode_rate(
    bodies: list[bytes], spec: ImageSpec, settings: ImagesSettings, threads: int, num_images: int
) -> float:
    work = [bodies[i % len(bodies)] for i in range(num_images)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda b: decode(b, [spec], settings), work[: 4 * threads]))
        start = time.perf_counter()
        for _ in pool.map(lambda b: decode(b, [spec], settings), work):
            pass
        return num_images / (time.perf_counter() - start)


def nvjpeg_rate(bodies: list[bytes], args: argparse.Namespace) -> str:
    if not args.device.startswith("cuda"):
        return "no GPU"
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        files = [torch.frombuffer(bytearray(b), dtype=torch.uint8) for b in bodies]
        run = lambda: decode_jpeg(files, mode=ImageReadMode.RGB, device=args.device)  # noqa: E731
        return f"{rate(run, len(files), args):,.0f}"
    except (ImportError, RuntimeError) as e:
        return f"not possible: {str(e).splitlines()[0][:60]}"


# ---------------------------------------------------------------- the whole job


def whole_jobs(args: argparse.Namespace) -> list[str]:
    lines = table("precision", "batch", "actors per GPU", "images/s", "model alone", "share", "GPU")
    with tempfile.TemporaryDirectory(prefix="gpu-bench-") as name:
        folder = Path(name)
        model = write_model(folder, args)
        write_images(folder / "images", args)
        for precision, batch in itertools.product(args.job_precisions, args.job_batches):
            alone = alone_rate(precision, batch, args)
            for actors in args.actors_per_gpu:
                done, gpu = run_job(folder, model, precision, batch, actors, args)
                lines.append(row(precision, batch, actors, f"{done:,.0f}", f"{alone:,.0f}", f"{done / alone:.0%}", gpu))
    return [
        *lines,
        "",
        f"{args.job_images:,} local JPEG files, thumbnails on; the rate counts from the first row to the last. "
        "`share`: the job's rate against the model's own.",
    ]


def alone_rate(precision: str, batch: int, args: argparse.Namespace) -> float:
    encoder = make_encoder(args, precision, False)
    pixels = np.zeros((4 * batch, args.size, args.size, 3), np.uint8)
    parts = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    return rate(lambda: [encoder(part) for part in parts], len(pixels), args)


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
) -> tuple[float, str]:
    """images/s from the first row on, and the GPU's utilisation."""
    output = folder / f"run-{precision}-{batch}-{actors}"
    cuda = args.device.startswith("cuda")
    conf = {
        "manifest": {"path": str(folder / "images"), "format": "folder"},
        "output": str(output),
        "models": {"recall": str(model)},
        "engine": {"precision": precision, "batch_size": batch}
        | ({"num_gpus_per_actor": 1 / actors} if cuda else {"num_actors": 1}),
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
    return steady_rate(record["timeline"], record["timings"]), gpu.text()


def steady_rate(timeline: list[list[float]], timings: dict[str, Any]) -> float:
    """Rows per second between the first and the last row; the whole run's where it was over too soon to tell."""
    points = list(_moving(timeline))
    if len(points) < 2 or points[-1][0] - points[0][0] < 1:
        return float(timings["images_per_s"])
    (t0, n0), (t1, n1) = points[0], points[-1]
    return (n1 - n0) / (t1 - t0)


def _moving(timeline: list[list[float]]) -> Iterator[tuple[float, float]]:
    last = 0.0
    for seconds, done, *_ in timeline:
        if done > last:
            last = done
            yield seconds, done


if __name__ == "__main__":
    main()
