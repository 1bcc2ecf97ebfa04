"""Resizing to a model's input, one function per recipe that published weights were trained with.

Pixels stay uint8 here; division, mean and standard deviation are applied where the model runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from aistudio.config import ImageSpec
from aistudio.images.opencv import bilinear, opencv

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_CROPPED = "_center_crop"
# Beyond this, resize-then-crop would make a picture of which it throws almost everything away: a 1 x 100,000 image
# becomes 224 x 22,400,000 pixels on the way.
_MAX_ASPECT = 16


def resize(rgb: np.ndarray | Image.Image, spec: ImageSpec) -> np.ndarray:
    """The picture at the model's input size, uint8 (size, size, 3), C-contiguous.

    Args:
        rgb: uint8 (H, W, 3) or a PIL image of mode RGB; at least 1 x 1 pixel.
        spec: `opencv_bilinear` is cv2.resize INTER_LINEAR, bit for bit and without OpenCV too, not antialiased, aspect
            not kept (the published recall and ranking weights); `pil_*_center_crop` brings the shortest edge to
            `resize_shortest` (or `size`) and crops the centre, as CLIP's image processor; `torchvision_*_center_crop`
            does the same as torchvision's Resize and CenterCrop, which halve an odd margin in another way;
            `pil_bicubic` and `pil_bilinear` squash with antialiasing.

    Raises:
        ValueError: `resize_shortest` is smaller than `size`, so that there is nothing to crop from.
    """
    if spec.resize == "opencv_bilinear":
        return bilinear(np.asarray(rgb), spec.size)
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    library, kernel = spec.resize.removesuffix(_CROPPED).split("_")
    if spec.resize.endswith(_CROPPED):
        half = _half_to_even if library == "torchvision" else _half_down
        out = _shortest_then_crop(image, spec.resize_shortest or spec.size, spec.size, _FILTERS[kernel], half)
    else:
        out = image.resize((spec.size, spec.size), _FILTERS[kernel])
    return np.array(out)  # a copy: the array must be writable, torch warns otherwise


def shrink(rgb: np.ndarray, longer_px: int) -> np.ndarray:
    """`rgb` (uint8, (H, W, 3)) with its longer side at most `longer_px`, area-averaged; smaller ones are returned.

    For pictures that people look at: without OpenCV pixels differ a little. Raises OSError for sides that OpenCV does
    not take.
    """
    height, width = rgb.shape[:2]
    longest = max(height, width)
    if longest <= longer_px:
        return rgb
    size = max(1, round(width * longer_px / longest)), max(1, round(height * longer_px / longest))
    cv2 = opencv()
    if cv2 is None:
        return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX, reducing_gap=2.0))
    try:
        return _area(cv2, rgb, size, longest // longer_px)
    except cv2.error as e:
        raise OSError(str(e)) from None


def _area(cv2: Any, rgb: np.ndarray, size: tuple[int, int], times: int) -> np.ndarray:
    """OpenCV's area average, `times` as small or a little more."""
    height, width = rgb.shape[:2]
    # First by a power of two, which is several times as fast; for it a few pixels at the edge may be left out.
    factor = 1 << max(0, times.bit_length() - 1)
    if factor > 1 and min(height, width) >= factor:
        whole = rgb[: height - height % factor, : width - width % factor]
        rgb = cv2.resize(whole, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _half_down(margin: int) -> int:
    return margin // 2


def _half_to_even(margin: int) -> int:
    return round(margin / 2)


def _shortest_then_crop(
    image: Image.Image, shortest: int, size: int, kernel: Image.Resampling, half: Callable[[int], int]
) -> Image.Image:
    if shortest < size:
        raise ValueError(f"resize_shortest {shortest} is smaller than size {size}: nothing to crop from")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longest = int(shortest * long / short)  # truncated, as CLIP's processor and torchvision do
    new_width, new_height = (shortest, longest) if width <= height else (longest, shortest)
    left, top = half(new_width - size), half(new_height - size)
    if long <= _MAX_ASPECT * short:
        resized = image.resize((new_width, new_height), kernel)
        return resized.crop((left, top, left + size, top + size))
    # Not bit-exact: Pillow then takes its two passes in the other order and rounds differently in between.
    x, y = width / new_width, height / new_height
    box = (left * x, top * y, min(width, (left + size) * x), min(height, (top + size) * y))
    return image.resize((size, size), kernel, box=box)
