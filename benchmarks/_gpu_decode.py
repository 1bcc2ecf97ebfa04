"""gpu.py's part `decode`: JPEG files to pixels on CPU cores and on the GPU's own decoder, and the cores a GPU needs."""

import argparse
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from _gpu_measure import on_gpu, rate, row, table, why
from PIL import Image

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images.decode import decode

SIZES = [(400, 711), (1000, 1000)]  # pixels; a catalogue's photographs, and large ones
TINY_SIZES = [(40, 71), (100, 100)]
BATCH = 64  # files that nvJPEG is given at once


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


def decoding(args: argparse.Namespace) -> tuple[list[str], float]:
    """The section's lines, and images/s of the job's decoding on one core (the smaller photographs)."""
    sizes = TINY_SIZES if args.tiny else SIZES
    lines = table("what", *(f"{w} x {h} px" for w, h in sizes))
    files = [photos(min(BATCH, args.num_images), size) for size in sizes]
    spec, cores = ImageSpec(size=args.size), len(os.sched_getaffinity(0))
    per_core = 0.0
    ways: list[tuple[str, Callable[[bytes], Any]]] = [
        ("as the job does it: pixels for the model, thumbnail", lambda b: decode(b, [spec], ImagesSettings())),
        ("the same without thumbnail", lambda b: decode(b, [spec], ImagesSettings(thumbnail_px=0))),
        ("Pillow, full size", lambda b: np.asarray(Image.open(io.BytesIO(b)).convert("RGB"))),
        ("torchvision on the CPU, full size", torchvision_decode),
    ]
    for name, call in ways:
        for threads in dict.fromkeys((1, cores)):
            rates = [cpu_rate(call, bodies, threads, args) for bodies in files]
            per_core = per_core or (rates[0] if isinstance(rates[0], float) else 0.0)
            lines.append(
                row(f"{name}, {threads} thread(s)", *(r if isinstance(r, str) else f"{r:,.0f}" for r in rates))
            )
    for name, resize in (
        (f"nvJPEG through torchvision, full size, {BATCH} at once", False),
        ("the same, then 224 px", True),
    ):
        lines.append(row(name, *(nvjpeg_rate(bodies, resize, args) for bodies in files)))
    return [
        *lines, "",
        "nvJPEG starts from files in host memory and leaves pixels on the GPU. Its pixels and its resizing are not the "
        "reference's; the job does not use it.",
    ], per_core  # fmt: skip


def torchvision_decode(body: bytes) -> Any:
    from torchvision.io import ImageReadMode, decode_jpeg

    return decode_jpeg(torch.frombuffer(bytearray(body), dtype=torch.uint8), mode=ImageReadMode.RGB)


def cpu_rate(call: Callable[[bytes], Any], bodies: list[bytes], threads: int, args: argparse.Namespace) -> float | str:
    """Images/s of `threads` threads, or why there is none."""
    torch.set_num_threads(1)
    work = [bodies[i % len(bodies)] for i in range(min(args.num_images, 256 * threads))]
    try:
        with ThreadPoolExecutor(threads) as pool:
            return rate(lambda: list(pool.map(call, work)), len(work), args)
    except (ImportError, RuntimeError, OSError) as e:
        return why(e)


def nvjpeg_rate(bodies: list[bytes], resize: bool, args: argparse.Namespace) -> str:
    """Images/s of batches on the GPU, or why there is none."""
    if not on_gpu(args):
        return "no GPU"
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        files = [torch.frombuffer(bytearray(b), dtype=torch.uint8) for b in bodies]

        def run() -> Any:
            images = decode_jpeg(files, mode=ImageReadMode.RGB, device=args.device)
            return [small(image, args.size) for image in images] if resize else images

        return f"{rate(run, len(files), args):,.0f}"
    except (ImportError, RuntimeError) as e:
        return why(e)


def small(image: torch.Tensor, size: int) -> torch.Tensor:
    """(3,H,W) uint8 -> (1,3,size,size) float, plain bilinear."""
    return torch.nn.functional.interpolate(image[None].float(), (size, size), mode="bilinear", align_corners=False)


def balance(model: float, per_core: float) -> list[str]:
    """How many cores decode as fast as the model works."""
    if not (model and per_core):
        return ["Not told: it needs the parts `bare` and `decode`."]
    return [
        f"The fastest encoder above takes {model:,.0f} images/s, one core decodes {per_core:,.0f} of the smaller "
        f"photographs with thumbnail: **{model / per_core:.1f} cores** keep such a GPU busy, downloads not counted."
    ]
