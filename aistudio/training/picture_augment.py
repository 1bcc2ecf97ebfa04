"""What is done to training images at random: crop, mirror, rotation, colours, by torchvision.transforms.v2.

Its functions, not its classes: those draw from torch's global generator, these from a generator of the image's own,
made of the seed, the epoch and the row. So batches can be made ahead in a thread, and a training that is taken up
again sees the very same pixels.
"""

import math

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from aistudio.config.train_similar import JitterSettings, PictureAugment

CROP_TRIES = 10  # as RandomResizedCrop: then the middle of the image


def augmented_picture(
    pixels: torch.Tensor, size: int, settings: PictureAugment, rng: np.random.Generator
) -> torch.Tensor:
    """Return a changed copy: (3,P,P) uint8 -> (3,size,size) uint8."""
    if settings.rotate_degrees:
        angle = float(rng.uniform(-settings.rotate_degrees, settings.rotate_degrees))
        pixels = v2.rotate(pixels, angle, InterpolationMode.BILINEAR, fill=_border_colour(pixels))
    if settings.crop:
        top, left, height, width = crop_box(pixels.shape[-1], settings, rng)
        pixels = v2.resized_crop(pixels, top, left, height, width, [size, size], antialias=True)
    if settings.mirror and rng.random() < 0.5:
        pixels = v2.horizontal_flip(pixels)
    return _jittered(pixels, settings.jitter, rng)


def crop_box(side: int, settings: PictureAugment, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw top, left, height and width as RandomResizedCrop does: the area evenly, the logarithm of the aspect, too."""
    (low, high), aspect = settings.crop_area, settings.crop_aspect
    for _ in range(CROP_TRIES):
        area = side * side * rng.uniform(low, high)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            return int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1)), height, width
    return 0, 0, side, side


def _jittered(pixels: torch.Tensor, jitter: JitterSettings, rng: np.random.Generator) -> torch.Tensor:
    """Change colours in random order."""
    changes = [
        (v2.adjust_brightness, jitter.brightness, 1.0), (v2.adjust_contrast, jitter.contrast, 1.0),
        (v2.adjust_saturation, jitter.saturation, 1.0), (v2.adjust_hue, jitter.hue, 0.0),
    ]  # fmt: skip
    changes = [change for change in changes if change[1]]
    for number in rng.permutation(len(changes)).tolist():
        change, by, middle = changes[number]
        pixels = change(pixels, float(rng.uniform(middle - by, middle + by)))
    return pixels


def _border_colour(pixels: torch.Tensor) -> list[float]:
    """Return the median colour of the image's frame: what a rotation uncovers."""
    frame = torch.cat([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], dim=1)
    return [float(c) for c in frame.median(dim=1).values]


def augmented_batch(
    stored: np.ndarray, rows: list[int], size: int, settings: PictureAugment, seeds: tuple[int, int]
) -> torch.Tensor:
    """Change a batch: (B,P,P,3) uint8 -> (B,size,size,3) uint8. `seeds`: the training's seed and the epoch.

    A row that comes again in the batch is changed in another way.
    """
    out = torch.empty((len(stored), size, size, 3), dtype=torch.uint8)
    times: dict[int, int] = {}
    for i, row in enumerate(rows):
        times[row] = times.get(row, -1) + 1
        rng = np.random.default_rng([*seeds, row, times[row]])
        picture = torch.from_numpy(stored[i]).permute(2, 0, 1)
        out[i] = augmented_picture(picture, size, settings, rng).permute(1, 2, 0)
    return out
