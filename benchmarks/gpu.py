"""One GPU: images/s of the bare model by precision, batch and compile, of decoding, and of the whole job; utilisation.

    python benchmarks/gpu.py                        # all of it, on the published sizes with random numbers
    python benchmarks/gpu.py --parts bare,decode    # what runs without Ray
    python benchmarks/gpu.py --device cpu --tiny    # does the program work? (numbers mean nothing)

Writes reports/bench/gpu_<date>.md, anew after each part: what was measured stays if the machine goes. `tower` is the
network alone on pixels that are on the device already; `encoder` is what the job calls: uint8 pixels in host memory ->
unit vectors in host memory. Best of some passes after a warm-up. Without Ray the whole job is left out. `bare` takes
some five minutes on a large GPU, half of it compiling (`--compile no`).
"""

import argparse
import datetime
import os
import platform
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _gpu_decode import balance, decoding
from _gpu_job import whole_jobs
from _gpu_model import bare

from aistudio.models.align import AlignArch

ROOT = Path(__file__).resolve().parents[1]
TINY_ARCH = {
    "image": {"width_mult": 0.25, "depth_mult": 0.2, "dim": 24, "static_size": 32},
    "text": {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24, "vocab_size": 41, "max_tokens": 12,
             "max_positions": 16},
    "dim": 16,
}  # fmt: skip


def main(argv: list[str] | None = None) -> Path:
    args = parse(argv)
    torch.manual_seed(0)
    lines = [f"# One {device_name(args.device)}", "", *setting(args), ""]
    model = per_core = 0.0
    if "bare" in args.parts:
        section, model = bare(args)
        write(args.out, lines, "The model alone, images/s", section)
    if "decode" in args.parts:
        section, per_core = decoding(args)
        write(args.out, lines, "Decoding, images/s", section)
        write(args.out, lines, "CPU cores per GPU", balance(model, per_core))
    if "job" in args.parts:
        write(args.out, lines, "The whole job", whole_jobs(args))
    print(f"\nwritten: {args.out}")
    return args.out


def write(out: Path, lines: list[str], title: str, section: list[str]) -> None:
    """Add a section and write all that is known so far."""
    lines += [f"## {title}", "", *section, ""]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines), encoding="utf-8")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default="bare,decode,job")
    parser.add_argument("--precisions", default="float32,bfloat16,float16")
    parser.add_argument("--batches", default="64,256,512,1024")
    parser.add_argument("--compile", default="no,yes", help="no, yes or both")
    parser.add_argument("--num-images", type=int, default=2048, help="per measurement of the model and of decoding")
    parser.add_argument("--job-images", type=int, default=20_000)
    parser.add_argument("--actors-per-gpu", default="1,2", help="of the whole job; each gets its share of the GPU")
    parser.add_argument("--job-batches", default="auto,256", help="auto: found by the job itself")
    parser.add_argument("--job-precisions", default="float32,bfloat16")
    parser.add_argument("--tiny", action="store_true", help="a network of some thousand weights on 32 px images")
    today = datetime.date.today().isoformat()
    parser.add_argument("--out", type=Path, default=ROOT / f"reports/bench/gpu_{today}.md")
    args = parser.parse_args(argv)
    for name in ("parts", "precisions", "compile", "job_precisions"):
        setattr(args, name, getattr(args, name).split(","))
    for name in ("batches", "job_batches", "actors_per_gpu"):
        setattr(args, name, [0 if x == "auto" else int(x) for x in getattr(args, name).split(",")])
    args.arch = AlignArch(**TINY_ARCH) if args.tiny else AlignArch()
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


if __name__ == "__main__":
    main()
