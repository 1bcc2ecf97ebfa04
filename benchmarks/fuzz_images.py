"""Mutated images through `decode`: no crash, no hang, bounded memory. Prints one table; exits 1 beyond a limit.

    python benchmarks/fuzz_images.py --count 3000 --seed 1

Bit flips, cuts, spliced halves, zeroed and repeated runs over JPEG, PNG, WebP, GIF, TIFF and BMP, most of them near the
header. Memory is the process's high-water mark above what it was before the first image. libtiff writes
its own complaints to stderr.
"""

import argparse
import io
import random
import sys
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images.decode import decode
from aistudio.schema import Status

KINDS: tuple[tuple[str, dict], ...] = (
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "tiff_adobe_deflate"}), ("BMP", {}),
)  # fmt: skip
ALLOWED = {
    Status.OK, Status.NOT_AN_IMAGE, Status.TRUNCATED_IMAGE, Status.UNSUPPORTED_IMAGE, Status.IMAGE_TOO_LARGE,
    Status.EMPTY,
}  # fmt: skip


def seeds() -> list[tuple[str, bytes]]:
    image = Image.effect_mandelbrot((320, 240), (-2.2, -1.3, 1, 1.3), 60).convert("RGB")
    files = []
    for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
        for kind, options in KINDS:
            out = io.BytesIO()
            try:
                image.convert(mode).save(out, kind, **options)
            except (OSError, ValueError):
                continue  # this format has no such mode
            files.append((kind, out.getvalue()))
    return files


def mutate(rng: random.Random, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    kind, original = rng.choice(files)
    body = bytearray(original)
    for _ in range(rng.randint(1, 6)):
        near = min(len(body), rng.choice((64, 400, len(body))))
        at = rng.randrange(max(1, near))
        match rng.randrange(6):
            case 0 if body:
                body[min(at, len(body) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                body[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), rng.randbytes(4)))
            case 2:
                body = body[: rng.randrange(len(body) + 1)]
            case 3:
                other = rng.choice(files)[1]
                body = body[:at] + bytearray(other[at:])
            case 4:
                body[at : at + rng.randrange(1, 200)] = bytes(rng.randrange(1, 200))
            case _:
                body[at:at] = body[at : at + rng.randrange(1, 2000)] * rng.randrange(1, 20)
    return kind, bytes(body)


def peak_rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-pixels", type=int, default=25_000_000)
    parser.add_argument("--max-seconds", type=float, default=10.0, help="longest decode that is accepted")
    args = parser.parse_args()
    settings, spec = ImagesSettings(max_pixels=args.max_pixels), ImageSpec()
    files, rng = seeds(), random.Random(args.seed)
    for _, body in files:
        assert decode(body, [spec], settings).status is Status.OK
    before, table, slowest, start = peak_rss_mb(), Counter[tuple[str, str]](), (0.0, "", ""), time.perf_counter()
    for _ in range(args.count):
        kind, body = mutate(rng, files)
        began = time.perf_counter()
        got = decode(body, [spec], settings)
        slowest = max(slowest, (time.perf_counter() - began, kind, got.status.value))
        assert got.status in ALLOWED, got
        table[kind, got.status.value] += 1
    kinds, columns = sorted({k for k, _ in table}), sorted({s for _, s in table})
    print(f"| format | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for kind in kinds:
        print(f"| {kind} | {' | '.join(str(table[kind, s]) for s in columns)} |")
    print(
        f"\n{sum(table.values())} of {args.count} accounted for in {time.perf_counter() - start:.1f} s; longest decode "
        f"{slowest[0] * 1000:.0f} ms ({slowest[1]}, {slowest[2]}); peak memory {peak_rss_mb() - before:.0f} MB above "
        f"{before:.0f} MB, limit {args.max_pixels:,} pixels"
    )
    return 0 if slowest[0] <= args.max_seconds and sum(table.values()) == args.count else 1


if __name__ == "__main__":
    sys.exit(main())
