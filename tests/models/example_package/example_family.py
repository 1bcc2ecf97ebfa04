"""A model family of another package: the mean colours of a picture's quarters. Its entry point is in pyproject's words

[project.entry-points."aistudio.families"]
quarters = "example_family"
"""

import numpy as np

from aistudio.models import Kind, WeightsInfo

KIND = Kind.ENCODER


class Quarters:
    normalised, dim, image_tower_fingerprint = False, 12, None

    def __init__(self, cfg):
        self.image_spec, self.fingerprint = cfg.image, check(cfg).fingerprint

    def encode_images(self, pixels):
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (self.image_spec.size, self.image_spec.size, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 of the model's size")
        half = self.image_spec.size // 2
        quarters = pixels[:, : 2 * half, : 2 * half].reshape(len(pixels), 2, half, 2, half, 3)
        return quarters.mean((2, 4), dtype=np.float64).reshape(len(pixels), 12).astype(np.float32)


def check(cfg):
    print_of_all = f"quarters-1-{cfg.image.size}"
    return WeightsInfo(
        cfg.name, cfg.family, print_of_all, None, 12, cfg.image, 1, 1, {"none": "none"}, normalised=False
    )


def load(cfg, options):
    return Quarters(cfg)
