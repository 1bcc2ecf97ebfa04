"""Images of a shard travel as one row and come back as they were."""

import numpy as np
import pytest

from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow
from aistudio.scoring.packing import pack_images, unpack_images


def image(number: int, rng: np.random.Generator, sizes=(8, 6)) -> ImageRow:
    pixels = tuple(rng.integers(0, 256, (s, s, 3), dtype=np.uint8) for s in sizes)
    return ImageRow(
        number,
        Status.OK,
        None,
        200,
        123,
        None,
        40,
        30,
        "ab" * 32,
        b"webp",
        pixels,
        0.25,
        fetched=True,
        used_fallback=True,
    )


@pytest.mark.parametrize("sizes", [(8,), (8, 6), (8, 8)])
def test_round_trip_in_any_order_with_failures_between(sizes):
    rng = np.random.default_rng(0)
    rows = [
        image(2, rng, sizes),
        ImageRow(0, Status.HTTP_ERROR, "the server answered 404", 404),
        image(1, rng, sizes),
        ImageRow(3, Status.NOT_AN_IMAGE, "HTML", 200, 10, "http://h/x", content_hash="cd" * 32),
    ]
    packed = pack_images("00000-000001", rows)
    assert packed.num_rows == 1
    shard, back = unpack_images(packed)
    found = list(back)
    assert shard == "00000-000001" and len(found) == len(rows)
    for a, b in zip(rows, found, strict=True):
        assert a._replace(pixels=()) == b._replace(pixels=())
        assert len(a.pixels) == len(b.pixels)
        assert all(np.array_equal(x, y) and y.dtype == np.uint8 for x, y in zip(a.pixels, b.pixels, strict=True))


def test_a_shard_without_a_single_image():
    rows = [ImageRow(i, Status.TIMEOUT, "too late") for i in range(3)]
    _, back = unpack_images(pack_images("s", rows))
    assert list(back) == rows


def test_an_empty_shard():
    assert list(unpack_images(pack_images("s", []))[1]) == []


def test_unpacked_pixels_are_views():
    rng = np.random.default_rng(0)
    packed = pack_images("s", [image(0, rng)])
    (back,) = unpack_images(packed)[1]
    assert not back.pixels[0].flags.owndata
