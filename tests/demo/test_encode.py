"""File formats: all four occur and can be read back."""

import io
import random

from PIL import Image

from aistudio.demo.encode import SUFFIXES, encode_image


def test_all_formats_occur_and_open():
    image = Image.linear_gradient("L").convert("RGB").resize((40, 30))
    rng, seen = random.Random(0), set()
    for _ in range(60):
        body, suffix = encode_image(image, rng)
        opened = Image.open(io.BytesIO(body))
        opened.load()
        assert opened.size == (40, 30) and SUFFIXES[opened.format] == suffix
        seen.add(suffix)
    assert seen == set(SUFFIXES.values())
