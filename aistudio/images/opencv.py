"""OpenCV's bilinear resize of bytes, by OpenCV where one is installed and by NumPy elsewhere: the same bits.

Published weights were trained on what cv2.resize INTER_LINEAR gives for uint8: weights of 11 bits, two roundings
(OpenCV, modules/imgproc/src/resize.cpp, VResizeLinear of uchar). An OpenCV that gives anything else on a small picture
is not used; nor is one that refuses a picture's sides.
"""

from functools import lru_cache
from types import ModuleType

import numpy as np

_ONE = 2048  # the weights' 1.0
_TRIED = ((13, 29), (64, 48), (5, 300))  # heights and widths of the pictures that an OpenCV is tried on


def bilinear(rgb: np.ndarray, size: int) -> np.ndarray:
    """Return the picture squashed to uint8 (size, size, 3), C-contiguous; not antialiased. Never the same array.

    Args:
        rgb: uint8 (H, W, 3), at least 1 x 1 pixel.
    """
    cv2 = opencv()
    if cv2 is not None:
        try:
            return np.asarray(cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR))
        except cv2.error:  # sides that it does not take
            pass
    return fixed_point(rgb, size)


def fixed_point(rgb: np.ndarray, size: int) -> np.ndarray:
    """Return what `bilinear` returns, by NumPy alone."""
    height, width = rgb.shape[:2]
    if (height, width) == (size, size):
        return rgb.copy()
    left_n, right_n, a0_n, a1_n = _weights(width, size, clamp=True)
    top_n, bottom_n, b0_n, b1_n = _weights(height, size, clamp=False)
    rows, place = np.unique(np.concatenate([top_n, bottom_n]), return_inverse=True)
    columns = (np.concatenate([left_n, right_n])[:, None] * 3 + np.arange(3)).reshape(-1)
    both = np.take(rgb[rows].reshape(len(rows), -1), columns, axis=1)  # left neighbours, then right ones
    across = both[:, : 3 * size] * np.repeat(a0_n, 3)
    across += both[:, 3 * size :] * np.repeat(a1_n, 3)
    across >>= 4
    down = (across[place[:size]] * b0_n[:, None]) >> 16
    down += (across[place[size:]] * b1_n[:, None]) >> 16
    made: np.ndarray = np.clip((down + 2) >> 2, 0, 255).astype(np.uint8)
    return made.reshape(size, size, 3)


def _weights(length: int, size: int, *, clamp: bool) -> tuple[np.ndarray, ...]:
    """Return both neighbours of each target pixel and their weights of 11 bits, int32 (size,) each.

    Beyond the last pixel columns have weight 0 (`clamp`), rows repeat it: the two differ in nothing but rounding.
    """
    scale = 1 / (size / length)
    place = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int32)
    part = place - first.astype(np.float32)
    if clamp:
        part[(first < 0) | (first >= length - 1)] = 0
        first = np.clip(first, 0, length - 1)
    one = np.rint(part * np.float32(_ONE)).astype(np.int32)
    other = np.rint((np.float32(1) - part) * np.float32(_ONE)).astype(np.int32)
    return np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1), other, one


def opencv() -> ModuleType | None:
    """Return OpenCV, limited to one thread, where one is installed whose bilinear resize is exact; else None.

    Decoding already runs one image per thread; a pool of OpenCV's own would only fight over the cores.
    """
    cv2 = exact_opencv()
    if cv2 is not None and cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2


@lru_cache(maxsize=1)
def exact_opencv() -> ModuleType | None:
    """Import OpenCV and try it on small pictures; None where there is none, or another one than is wanted."""
    try:
        import cv2

        cv2.getNumThreads()
    except (ImportError, AttributeError):  # none, one that lacks a system library, what is left of one
        return None
    rng = np.random.default_rng(0)
    for height, width in _TRIED:
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if not np.array_equal(cv2.resize(picture, (17, 17), interpolation=cv2.INTER_LINEAR), fixed_point(picture, 17)):
            return None
    return cv2
