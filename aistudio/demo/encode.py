"""Turns a drawn picture into a file: mostly JPEG, some PNG, WebP and GIF, as catalogues have them."""

import io
import random

from PIL import Image

SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}


def encode_image(image: Image.Image, rng: random.Random) -> tuple[bytes, str]:
    """File bytes of an RGB image and their suffix (jpg, png, webp or gif), both chosen by `rng`."""
    kind = rng.choices(tuple(SUFFIXES), (14, 2, 3, 1))[0]
    buffer = io.BytesIO()
    if kind == "JPEG":
        image.save(buffer, kind, quality=rng.choice((75, 85, 90)), progressive=rng.random() < 0.3)
    elif kind == "WEBP":
        image.save(buffer, kind, quality=85, method=1)
    elif kind == "PNG":
        image.save(buffer, kind, compress_level=4)
    else:
        image.quantize(128, Image.Quantize.FASTOCTREE).save(buffer, kind)
    return buffer.getvalue(), SUFFIXES[kind]
