"""gpu.py's part `bare`: the image tower by precision, batch and compile, and what its copies cost."""

import argparse
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from _gpu_measure import Utilisation, on_gpu, rate, row, table, why

from aistudio.config import ImageSpec
from aistudio.models._device import PRECISIONS, exact_float32
from aistudio.models._encode import BoundedCache, ImageRunner, LoadOptions
from aistudio.models._upload import PinnedFeed
from aistudio.models.align import AlignModel
from aistudio.scoring.batch_size import CudaMemory, find_batch_size

CALLERS = 3  # engine.shards_in_flight


class PageableEncoder(ImageRunner):
    """As the encoder would be without page-locked buffers: copy, compute, fetch, one after the other."""

    def _encode_on_gpu(self, pixels: np.ndarray, feed: PinnedFeed) -> np.ndarray:
        rows = []
        with torch.inference_mode(), exact_float32(self._device):
            for start in range(0, len(pixels), self._images_per_pass):
                part = pixels[start : start + self._images_per_pass]
                rows.append(self._forward(self.normalise(part)).cpu().numpy())
        return np.concatenate(rows)


def bare(args: argparse.Namespace) -> tuple[list[str], float]:
    """The section's lines, and the fastest encoder's images/s."""
    lines = table(
        "precision", "compile", "batch", "tower", "encoder", f"encoder, {CALLERS} callers", "encoder, pageable",
        "peak memory MB", "GPU, callers",
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (args.num_images, args.size, args.size, 3), np.uint8)
    found, fastest = [], 0.0
    for precision in args.precisions:
        for compiled in args.compile:
            try:
                encoder = make_encoder(args, precision, compiled == "yes")
                pageable = None if compiled == "yes" else make_encoder(args, precision, False, PageableEncoder)
            except Exception as e:  # noqa: BLE001 - whatever cannot be built is a line of the report
                lines.append(row(precision, compiled, "all", why(e), "", "", "", "", ""))
                continue
            if compiled == "no":
                found.append(f"- {precision}: {auto(encoder, args)}")
            for batch in args.batches:
                cells, best = measure(encoder, pageable, pixels, batch, precision, args)
                lines.append(row(precision, compiled, batch, *cells))
                fastest = max(fastest, best)
            del encoder, pageable
    return [
        *lines, "", f"`callers`: {CALLERS} threads at once, as shards in flight do; their copies overlap.", "",
        "`engine.batch_size: auto` takes:", "", *found, "", *copies(args),
    ], fastest  # fmt: skip


def make_encoder(
    args: argparse.Namespace, precision: str, compiled: bool, kind: type[ImageRunner] = ImageRunner
) -> ImageRunner:
    if compiled:
        torch._dynamo.reset()
    model = AlignModel(args.arch)
    tower = torch.nn.Sequential(model.image_model, model.image_hidden_layer)
    options = LoadOptions(args.device, precision, True, compiled, images_per_pass=max(args.batches))
    encoder = kind(tower, ImageSpec(size=args.size), args.arch.dim, options)
    encoder._cache = BoundedCache(0)  # on a CPU it would remember the images of the pass before
    return encoder


def measure(
    encoder: ImageRunner,
    pageable: ImageRunner | None,
    pixels: np.ndarray,
    batch: int,
    precision: str,
    args: argparse.Namespace,
) -> tuple[list[str], float]:
    """A row's cells, the reason where it fails; the fastest way's images/s."""
    if on_gpu(args):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    parts = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    try:
        with torch.inference_mode(), exact_float32(torch.device(args.device)):
            x = encoder.normalise(pixels[:batch]).to(PRECISIONS[precision])
            tower = rate(lambda: encoder._tower(x), len(x), args)
        alone = rate(lambda: [encoder(part) for part in parts], len(pixels), args)
        memory = f"{torch.cuda.max_memory_allocated() / 1e6:,.0f}" if on_gpu(args) else "-"
        # On a CPU the encoder takes one caller at a time.
        with ThreadPoolExecutor(CALLERS if on_gpu(args) else 1) as pool, Utilisation() as gpu:
            together = rate(lambda: list(pool.map(encoder, parts)), len(pixels), args)
        plain = rate(lambda: [pageable(part) for part in parts], len(pixels), args) if pageable else None
    except Exception as e:  # noqa: BLE001 - a batch that does not fit, or does not compile, is a line of the report
        return [why(e), "", "", "", "", ""], 0.0
    slow = "" if plain is None else f"{plain:,.0f}"
    cells = [f"{tower:,.0f}", f"{alone:,.0f}", f"{together:,.0f}", slow, memory, gpu.text()]
    return cells, max(alone, together)


def auto(encoder: ImageRunner, args: argparse.Namespace) -> str:
    """What find_batch_size says of the whole GPU."""
    if not on_gpu(args):
        return "no GPU"
    zeros = np.zeros((1, args.size, args.size, 3), np.uint8)
    try:
        return find_batch_size(lambda n: encoder(np.repeat(zeros, n, axis=0)), CudaMemory(1.0)).text()
    except RuntimeError as e:
        return why(e)


def copies(args: argparse.Namespace) -> list[str]:
    """Copying uint8 pixels to the device, in GB/s."""
    if not on_gpu(args):
        return ["Copies: no GPU."]
    pixels = np.random.default_rng(0).integers(0, 256, (256, args.size, args.size, 3), np.uint8)
    device, feed = torch.device(args.device), PinnedFeed(torch.device(args.device))
    locked = torch.from_numpy(pixels).pin_memory()

    def through_the_feed() -> None:
        with feed.upload(pixels) as upload:
            upload.arrived()

    ways = {
        "ordinary memory": lambda: torch.from_numpy(pixels).to(device),
        "page-locked memory": lambda: locked.to(device, non_blocking=True),
        "through the encoder's buffers, filling them included": through_the_feed,
    }
    gb = pixels.nbytes / 1e9
    rates = {way: gb * rate(call, 1, args) for way, call in ways.items()}
    return ["Copies of 256 images, GB/s:", "", *(f"- {way}: {found:.1f}" for way, found in rates.items())]


def alone_rate(precision: str, batch: int, args: argparse.Namespace) -> float:
    """Images/s of the encoder with one caller, for comparison with a job."""
    encoder = make_encoder(args, precision, False)
    pixels = np.random.default_rng(0).integers(0, 256, (4 * batch, args.size, args.size, 3), np.uint8)
    parts = [pixels[i : i + batch] for i in range(0, len(pixels), batch)]
    return rate(lambda: [encoder(part) for part in parts], len(pixels), args)
