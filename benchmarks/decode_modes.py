"""What `images.decode: fast` saves and what it does to vectors, scores and top-5 sets.

    python benchmarks/decode_modes.py --images FOLDER [--num 200] [--sizes 1600x1200 4032x3024] [--conf CONF ...]

Every photograph is decoded both ways, as it is and re-encoded (JPEG, quality 90) to the given sizes. Per size: time of
one decoding on one core, resizing and thumbnail included; largest difference of a pixel; cosine of the two vectors;
largest change of a score with a text; share of texts whose five best images are the same set, in any order.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from throughput import reencode

from aistudio.config import ImagesSettings, load_model_config
from aistudio.images.decode import decode
from aistudio.models import load_model

MODES = ("exact", "fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs, searched through")
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--sizes", nargs="*", default=["1600x1200", "4032x3024"], metavar="WxH")
    parser.add_argument("--conf", nargs="*", default=["conf/models/demo_recall.yaml"], help="conf/models/*.yaml")
    parser.add_argument("--b3", action="store_true", help="also the published sizes, with random weights")
    args = parser.parse_args()
    files = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[: args.num]
    with tempfile.TemporaryDirectory() as folder:
        confs = list(args.conf)
        if args.b3:
            from _models import write_b3

            confs.append(write_b3(Path(folder), files[:32]))
        for conf in confs:
            compare(conf, files, args.sizes)


def compare(conf: str, files: list[Path], sizes: list[str]) -> None:
    """Print one model's table."""
    import torch

    torch.set_num_threads(1)
    model = load_model(load_model_config(conf))
    letters = np.random.default_rng(0).integers(0x4E00, 0x9000, (50, 30))
    texts = model.encode_texts(["".join(map(chr, row)) for row in letters])
    spec = model.image_spec
    print(f"\n{Path(conf).stem}, {spec.size} px, {len(files)} photographs, {len(texts)} texts\n")
    print("| size | exact ms | fast ms | pixel diff | cosine min | cosine median | score diff | same top-5 sets |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for size in ["as it is", *sizes]:
        bodies = [f.read_bytes() if size == "as it is" else reencode(f.read_bytes(), size) for f in files]
        ms, pixels, vectors = {}, {}, {}
        for mode in MODES:
            ms[mode], pixels[mode] = decoded(bodies, spec, mode)
            vectors[mode] = model.encode_images(pixels[mode])
        cosine = np.einsum("nd,nd->n", vectors["exact"], vectors["fast"])
        scores = {mode: texts @ vectors[mode].T for mode in MODES}
        off = np.abs(scores["exact"] - scores["fast"]).max()
        best = {mode: np.sort(np.argsort(-scores[mode], axis=1)[:, :5], axis=1) for mode in MODES}
        same = (best["exact"] == best["fast"]).all(axis=1).mean()
        pixel = np.abs(pixels["exact"].astype(int) - pixels["fast"]).max()
        print(
            f"| {size} | {ms['exact']:.2f} | {ms['fast']:.2f} | {pixel} | {cosine.min():.4f} | {np.median(cosine):.4f} "
            f"| {off:.1e} | {same:.0%} |",
            flush=True,
        )


def decoded(bodies: list[bytes], spec: object, mode: str) -> tuple[float, np.ndarray]:
    """Milliseconds of processor time an image (the better of two passes), and the pixels (N, S, S, 3)."""
    settings, best, found = ImagesSettings(decode=mode), np.inf, []
    for _ in range(2):
        started = time.thread_time()
        found = [decode(body, [spec], settings).pixels[0] for body in bodies]
        best = min(best, (time.thread_time() - started) / len(bodies) * 1e3)
    return best, np.stack(found)


if __name__ == "__main__":
    main()
