"""Images of a shard travel as one row and come back as they were."""

import numpy as np
import pytest

from aistudio.schema import Reused, Status
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


def test_images_of_a_base_run_travel_with_vectors_instead_of_pixels():
    rng = np.random.default_rng(0)
    vectors = [tuple(rng.normal(size=d).astype(np.float32) for d in (4, 3)) for _ in range(2)]
    taken = [
        ImageRow(n, Status.OK, content_hash="ab", etag='"v"', last_modified="d", reused=how, vectors=vectors[i])
        for i, (n, how) in enumerate([(1, Reused.URL), (3, Reused.CONTENT)])
    ]
    rows = [image(2, rng), taken[0], ImageRow(0, Status.TIMEOUT, "late"), image(4, rng), taken[1]]
    found = list(unpack_images(pack_images("s", rows))[1])
    for a, b in zip(rows, found, strict=True):
        assert a._replace(pixels=(), vectors=()) == b._replace(pixels=(), vectors=())
        for field in ("pixels", "vectors"):
            pairs = list(zip(getattr(a, field), getattr(b, field), strict=True))
            assert all(x.tobytes() == y.tobytes() and x.dtype == y.dtype for x, y in pairs)
    alone = list(unpack_images(pack_images("s", taken))[1])
    assert [r.vectors[1].tobytes() for r in alone] == [v[1].tobytes() for v in vectors]


def test_images_of_another_shard_travel_with_vectors_and_failures():
    vectors = (np.ones(3, np.float32),)
    rows = [ImageRow(0, Status.OK, given=True, vectors=vectors), ImageRow(1, Status.TIMEOUT, "late", given=True)]
    ok, failed, _ = unpack_images(pack_images("s", [*rows, image(2, np.random.default_rng(0))]))[1]
    assert ok.given and ok.vectors[0].tobytes() == vectors[0].tobytes() and not ok.pixels
    assert failed == rows[1]


def test_more_than_ten_pixel_formats_keep_their_order():
    rng = np.random.default_rng(0)
    sizes = tuple(range(4, 16))
    (back,) = unpack_images(pack_images("s", [image(0, rng, sizes)]))[1]
    assert tuple(p.shape[0] for p in back.pixels) == sizes
