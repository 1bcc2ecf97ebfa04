"""Image tower on one CPU core: milliseconds per image of every way to run it, and what bfloat16 does to the results.

    OMP_NUM_THREADS=1 python benchmarks/model_cpu.py --images DIR [--golden DIR] [--conf conf/models/x.yaml ...]

Times are processor time, the median of some passes over the published B3 sizes with random numbers, in a thread as
in the job's actors; they are taken twice, on ordinary and on huge pages (torch decides that once per process). Drift
compares bfloat16 with float32 through `load_model`: vectors, and the top-5 sets when each image queries the others (and
each golden text the images). --golden makes checkpoints of the published size from a folder with the golden recipe;
--conf adds models of your own.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aistudio.config import ImagesSettings, ModelConfig, load_model_config
from aistudio.images.decode import decode
from aistudio.models import load_model
from aistudio.models._optimise import SmallSteps, fold_batch_norm, ready_tower
from aistudio.models.align import AlignModel

BATCHES = (1, 4, 8, 16)
PASSES = 7
TOP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, searched through")
    parser.add_argument("--num-images", type=int, default=60)
    parser.add_argument("--golden", type=Path, help="folder with recipe.py, align_keys.json, bert/ and public/")
    parser.add_argument("--conf", action="append", default=[], help="a recall model's settings")
    parser.add_argument("--no-timing", action="store_true")
    parser.add_argument("--only-timing", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only_timing:
        time_variants()
        return
    print(f"torch {torch.__version__}, 1 thread, {_processor()}\n")
    for huge in () if args.no_timing else ("0", "1"):
        print(f"\n{'huge' if huge == '1' else 'ordinary'} pages\n", flush=True)
        command = [sys.executable, __file__, "--only-timing", "--images", str(args.images)]
        subprocess.run(command, check=True, env=os.environ | {"THP_MEM_ALLOC_ENABLE": huge})
    print("\n| model | images | max abs diff | cosine min | cosine median | same top-5 sets | mean overlap |")
    print("|---|---|---|---|---|---|---|")
    files = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in (".jpg", ".png"))
    files = files[:: max(1, len(files) // args.num_images)][: args.num_images]
    for conf in args.conf:
        drift(load_model_config(conf), files, [])
    if args.golden:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))
        from golden_adapter import write_checkpoints

        cases = json.loads((args.golden / "public" / "cases.json").read_text(encoding="utf-8"))
        own = [args.golden / "public" / image["file"] for image in cases["images"]]
        with tempfile.TemporaryDirectory() as folder:
            drift(write_checkpoints(args.golden, Path(folder))["recall"], own + files, cases["texts"])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown processor")


def time_variants() -> None:
    """Milliseconds per image by variant and batch."""
    torch.manual_seed(0)
    model = AlignModel().eval().requires_grad_(False)
    tower = nn.Sequential(model.image_model, model.image_hidden_layer)
    for norm in tower.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0, 0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 1, 2)
    folded = copy.deepcopy(tower).eval()
    fold_batch_norm(folded)
    cpu = torch.device("cpu")
    last = torch.channels_last
    used, plain = (ready_tower(copy.deepcopy(tower), cpu, torch.float32, True) for _ in range(2))
    variants: dict[str, tuple[nn.Module, torch.dtype, torch.memory_format]] = {
        "eager": (tower, torch.float32, torch.contiguous_format),
        "channels-last": (copy.deepcopy(tower).to(memory_format=last), torch.float32, last),
        "+ BatchNorm folded": (folded.eval().to(memory_format=last), torch.float32, last),
        "+ oneDNN calls": (all_at_once(plain), torch.float32, last),
        "+ large maps in small steps (used)": (used, torch.float32, last),
        "the same in bfloat16": (ready_tower(copy.deepcopy(tower), cpu, torch.bfloat16, True), torch.bfloat16, last),
    }
    print("| ms per image, batch of | " + " | ".join(map(str, BATCHES)) + " | largest relative difference |")
    print("|---" * (len(BATCHES) + 2) + "|")
    images = {n: torch.randn(n, 3, 224, 224) for n in BATCHES}
    with torch.inference_mode():
        want = tower(images[4])
        for name, (module, dtype, layout) in variants.items():
            batches = [images[n].to(dtype).contiguous(memory_format=layout) for n in BATCHES]
            with ThreadPoolExecutor(1) as thread:
                times = [thread.submit(_best, module, x).result() / len(x) * 1e3 for x in batches]
            off = float((module(batches[1]).float() - want).abs().max() / want.abs().max())
            print(f"| {name} | " + " | ".join(f"{t:.1f}" for t in times) + f" | {off:.1e} |", flush=True)


def _best(call: Callable[[torch.Tensor], object], x: torch.Tensor) -> float:
    times = []
    with torch.inference_mode():  # a thread's own
        call(x)
        for _ in range(PASSES):
            start = time.thread_time()  # other programs on the machine disturb it least
            call(x)
            times.append(time.thread_time() - start)
    return statistics.median(times)


def all_at_once(tower: nn.Module) -> nn.Module:
    """The tower without its small steps."""
    for module in list(tower.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, SmallSteps):
                setattr(module, name, nn.Sequential(*layer))
    return tower


def drift(cfg: ModelConfig, files: list[Path], texts: list[str]) -> None:
    """One table row: bfloat16 against float32."""
    full, low = load_model(cfg), load_model(cfg, precision="bfloat16")
    decoded = [decode(path.read_bytes(), [full.image_spec], ImagesSettings()) for path in files]
    pixels = np.stack([d.pixels[0] for d in decoded if d.pixels])
    a, b = full.encode_images(pixels), low.encode_images(pixels)
    cosines = (a * b).sum(axis=1)
    queries = [(a, b)] if not texts else [(a, b), (full.encode_texts(texts), low.encode_texts(texts))]
    overlaps = np.concatenate([_overlap(qa @ a.T, qb @ b.T, qa is a) for qa, qb in queries])
    print(
        f"| {cfg.name} | {len(pixels)} | {np.abs(a - b).max():.2g} | {cosines.min():.4f} | {np.median(cosines):.4f} "
        f"| {(overlaps == TOP).mean():.0%} of {len(overlaps)} | {overlaps.mean():.2f} of {TOP} |",
        flush=True,
    )


def _overlap(a: np.ndarray, b: np.ndarray, themselves: bool) -> np.ndarray:
    """Size of the common part of both top-5 sets, per query row."""
    if themselves:
        a, b = a - 9 * np.eye(len(a)), b - 9 * np.eye(len(b))
    tops = [np.argsort(-scores, axis=1, kind="stable")[:, :TOP] for scores in (a, b)]
    return np.array([len(set(x) & set(y)) for x, y in zip(*tops, strict=True)])


if __name__ == "__main__":
    main()
