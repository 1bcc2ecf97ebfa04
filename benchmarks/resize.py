"""What OpenCV's bilinear resize costs without OpenCV, and thumbnails, and the table that turns bytes into numbers.

    python benchmarks/resize.py [--seconds 1]

Prints milliseconds for one picture, the median of repeated calls; one thread. Whether the bits are equal is a test's
matter (tests/images/test_opencv.py).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from aistudio.images.opencv import fixed_point, opencv
from aistudio.images.transform import _area
from aistudio.models._lookup import by_torch, lookup_in

SIZES = ((400, 300), (1200, 900), (4000, 3000))  # width, height
THUMBNAIL_PX = 224


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2 = opencv()
    rng = np.random.default_rng(0)
    print(f"{'picture':<14}{'what':<34}{'ms':>8}")
    for width, height in SIZES:
        rgb = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((width, height)))
        small = (THUMBNAIL_PX, round(height * THUMBNAIL_PX / width))
        ways: dict[str, Callable[[], object]] = {"resize to 224, NumPy": lambda rgb=rgb: fixed_point(rgb, 224)}
        ways["thumbnail, Pillow"] = lambda rgb=rgb, small=small: np.asarray(
            Image.fromarray(rgb).resize(small, Image.Resampling.BOX, reducing_gap=2.0)
        )
        if cv2 is not None:
            ways["resize to 224, OpenCV"] = lambda rgb=rgb: cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_LINEAR)
            times = width // THUMBNAIL_PX
            ways["thumbnail, OpenCV"] = lambda rgb=rgb, small=small, times=times: _area(cv2, rgb, small, times)
        for name, call in ways.items():
            print(f"{f'{width} x {height}':<14}{name:<34}{measured_ms(call, args.seconds):>8.2f}", flush=True)
    pixels = rng.integers(0, 256, (16, 224, 224, 3), dtype=np.uint8)
    table = torch.from_numpy(rng.normal(size=(3, 256)).astype(np.float32))
    tables: dict[str, Callable[[], object]] = {"table, torch": lambda: by_torch(table)(pixels)}
    if cv2 is not None:
        tables["table, OpenCV"] = lambda: lookup_in(table)(pixels)
    for name, call in tables.items():
        print(f"{'224 x 224':<14}{name:<34}{measured_ms(call, args.seconds) / len(pixels):>8.2f}", flush=True)


def measured_ms(call: Callable[[], object], seconds: float) -> float:
    """Return the median time of a call."""
    call()
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return statistics.median(found)


if __name__ == "__main__":
    main()
