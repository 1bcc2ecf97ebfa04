"""Cropping a picture to the object on it, without weights: by a plain border, or by GrabCut.

Pure functions on (H, W, 3) uint8 RGB, between decoding and resizing. A picture that a method cannot crop stays whole
and says so. White objects on white, shadows and busy backgrounds are the limits. A detector with a user's weights is in
models/detector.py.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from aistudio.config import ImageSpec
from aistudio.errors import ConfigError
from aistudio.schema import Crop

BORDER_PX = 200  # longer side at which the border is looked at
FRAME = 0.02  # of each side: the strip around the picture that should be background
PLAIN_SPREAD = 6.0  # median Lab distance within the frame; above it the background is not plain
FOREGROUND = 8.0  # least Lab distance of the object from the background
SPREADS = 4.0  # and at least this many times the spread
OPEN, CLOSE = 5, 9  # pixels: specks vanish, gaps (chains, holes of rings) close
COMPONENT = 0.2  # parts of at least this share of the largest one belong to the object
MARGIN = 0.04  # of the box's sides, added on each side
LEAST, MOST = 0.02, 0.95  # share of the picture that a believable box covers
GRABCUT_PX = 400  # 0.6 to 2.1 s of CPU: for queries, not for millions of rows
GRABCUT_CENTRE = 0.8  # of each side: the rectangle outside which all is background
GRABCUT_ITERATIONS = 5

# sRGB -> CIE XYZ (IEC 61966-2-1), divided by the white point D65
_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
_LINEAR = np.where(np.arange(256) <= 10, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4)


_NEEDS_OPENCV = (
    "crop: grabcut needs OpenCV, which is not installed here: pip install 'aistudio-catalogue[opencv]', or use "
    "crop: border"
)
Cropper = Callable[[np.ndarray], tuple[np.ndarray, Crop]]  # (H, W, 3) uint8 -> the pixels to resize, and their box


class _Box(NamedTuple):
    """In pixels of the shrunken picture."""

    x0: float
    y0: float
    x1: float
    y1: float


def crop_by_border(rgb: np.ndarray) -> Crop:
    """Find what differs from a plain border around the picture.

    Background: the median Lab colour of a 2 % frame. Foreground: what is farther from it than max(8, 4 x the frame's
    median distance), opened and closed; the largest part and those of at least 20 % of it; 4 % margin.

    Returns:
        A crop whose score is 1 for a perfectly plain border and 0 for one that is just plain enough; the whole picture
        where the border is not plain, or where the box covers less than 2 % or more than 95 % of the picture.
    """
    height, width = _checked(rgb)
    lab = lab_of(_shrunk(rgb, BORDER_PX))
    frame = lab[_frame(lab.shape[:2])]
    background = np.median(frame, axis=0)
    spread = float(np.median(np.linalg.norm(frame - background, axis=1)))
    if spread > PLAIN_SPREAD:
        return Crop.whole(height, width)
    foreground = np.linalg.norm(lab - background, axis=2) > max(FOREGROUND, SPREADS * spread)
    box = _box(_main_parts(_closed(_opened(foreground))))
    return _crop(box, lab.shape[:2], (height, width), "border", 1 - spread / PLAIN_SPREAD)


def crop_by_grabcut(rgb: np.ndarray) -> Crop:
    """Find the object with OpenCV's GrabCut, starting from the centre 80 % (Rother 2004). Equal pictures, equal boxes.

    Returns:
        A crop whose score is the share of the box that is foreground; the whole picture where nothing is found.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    height, width = _checked(rgb)
    try:
        import cv2
    except ImportError:
        raise ConfigError(_NEEDS_OPENCV) from None
    small = np.ascontiguousarray(_shrunk(rgb, GRABCUT_PX)[:, :, ::-1])
    h, w = small.shape[:2]
    x, y = round(w * (1 - GRABCUT_CENTRE) / 2), round(h * (1 - GRABCUT_CENTRE) / 2)
    if x < 1 or y < 1:  # no pixel is left to be background
        return Crop.whole(height, width)
    mask = np.zeros((h, w), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.setRNGSeed(0)
        cv2.grabCut(small, mask, (x, y, w - 2 * x, h - 2 * y), *models, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_RECT)
    except cv2.error:  # a picture of one colour has no clusters
        return Crop.whole(height, width)
    foreground = _main_parts((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    box = _box(foreground)
    filled = float(foreground[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].mean()) if box else 0.0
    return _crop(box, (h, w), (height, width), "grabcut", filled)


def refuse_croppers(specs: Iterable[ImageSpec]) -> None:
    """Refuse models whose crop cannot be made here. Raises ConfigError: OpenCV is not installed."""
    if any(spec.crop == "grabcut" for spec in specs) and not _has_opencv():
        raise ConfigError(_NEEDS_OPENCV)


def _has_opencv() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    return hasattr(cv2, "grabCut")


def cropper(method: str) -> Cropper:
    """Return what crops by `border` or `grabcut`."""
    find = {"border": crop_by_border, "grabcut": crop_by_grabcut}[method]

    def crop(rgb: np.ndarray) -> tuple[np.ndarray, Crop]:
        found = find(rgb)
        return cut(rgb, found), found

    return crop


def cut(rgb: np.ndarray, crop: Crop) -> np.ndarray:
    """Return the part of a picture inside a crop, as a view."""
    return rgb[crop.y0 : crop.y1, crop.x0 : crop.x1]


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """Convert (..., 3) uint8 sRGB to CIE Lab of D65: L 0 .. 100, a and b about -100 .. 100, float64."""
    xyz = _LINEAR[rgb] @ _XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _checked(rgb: np.ndarray) -> tuple[int, int]:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"picture is {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3) of at least one pixel")
    return rgb.shape[0], rgb.shape[1]


def _shrunk(rgb: np.ndarray, longer_px: int) -> np.ndarray:
    height, width = rgb.shape[:2]
    longest = max(height, width)
    if longest <= longer_px:
        return rgb
    size = max(1, round(width * longer_px / longest)), max(1, round(height * longer_px / longest))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _frame(shape: tuple[int, ...]) -> np.ndarray:
    frame = np.ones(shape, dtype=bool)
    y, x = (max(1, round(FRAME * side)) for side in shape)
    frame[y:-y, x:-x] = False
    return frame


def _opened(mask: np.ndarray) -> np.ndarray:
    return _grown(~_grown(~mask, OPEN), OPEN)


def _closed(mask: np.ndarray) -> np.ndarray:
    return ~_grown(~_grown(mask, CLOSE), CLOSE)


def _grown(mask: np.ndarray, size: int) -> np.ndarray:
    """Dilate by a square; what lies outside the picture changes nothing."""
    from scipy import ndimage  # half of what this module takes to import, for the few who crop

    return np.asarray(ndimage.maximum_filter(mask.view(np.uint8), size, mode="constant", cval=0), dtype=bool)


def _main_parts(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected part (eight neighbours) and those of at least 20 % of it."""
    from scipy import ndimage  # half of what this module takes to import, for the few who crop

    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(1, COMPONENT * sizes.max()))[parts])


def _box(mask: np.ndarray) -> _Box | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return _Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _crop(box: _Box | None, small: tuple[int, ...], full: tuple[int, int], method: str, score: float) -> Crop:
    """Add the margin, scale to the picture's pixels, and refuse boxes that are no crop."""
    height, width = full
    if box is None:
        return Crop.whole(height, width)
    dx, dy = MARGIN * (box.x1 - box.x0), MARGIN * (box.y1 - box.y0)
    sx, sy = width / small[1], height / small[0]
    x0, x1 = max(0, int((box.x0 - dx) * sx)), min(width, int(np.ceil((box.x1 + dx) * sx)))
    y0, y1 = max(0, int((box.y0 - dy) * sy)), min(height, int(np.ceil((box.y1 + dy) * sy)))
    share = (x1 - x0) * (y1 - y0) / (width * height)
    return Crop(x0, y0, x1, y1, method, score) if LEAST <= share <= MOST else Crop.whole(height, width)
