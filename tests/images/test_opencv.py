"""The bilinear resize without OpenCV: the same bits, for any sides; an OpenCV that is none is not used."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.errors import ConfigError
from aistudio.images import opencv as module
from aistudio.images.crop import refuse_croppers
from aistudio.images.decode import decode
from aistudio.images.opencv import bilinear, exact_opencv, fixed_point
from aistudio.images.transform import shrink
from tests.images.test_transform import _fixed_point, _noise

SIDES = [1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 223, 300, 448, 449, 1001]


@pytest.fixture
def without(monkeypatch):
    """No OpenCV can be imported."""
    exact_opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    yield
    monkeypatch.undo()
    exact_opencv.cache_clear()


@pytest.mark.parametrize("size", [1, 2, 32, 64, 224])
def test_equal_to_opencv_for_all_kinds_of_sides(size):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(size)
    for height, width in [(a, b) for a in SIDES for b in SIDES if (a + b) % 3 == 0 or a == b]:
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if rng.random() < 0.3:
            rgb = np.where(rgb > 127, 255, 0).astype(np.uint8)
        want = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR)
        got = fixed_point(rgb, size)
        assert got.dtype == np.uint8 and got.flags.c_contiguous
        np.testing.assert_array_equal(got, want, f"{height} x {width} to {size}")


def test_equal_to_the_recipe_written_out():
    for height, width in ((200, 300), (1, 500), (31, 640)):
        rgb = _noise(width, height)
        np.testing.assert_array_equal(fixed_point(rgb, 224), _fixed_point(rgb, 224))


def test_a_view_and_the_same_size_give_a_picture_of_their_own():
    rgb = _noise(224, 224)
    made = fixed_point(rgb, 224)
    assert (made == rgb).all() and not np.shares_memory(made, rgb)
    wide = _noise(300, 200)
    np.testing.assert_array_equal(fixed_point(wide[10:150:2, ::-1], 64), fixed_point(wide[10:150:2, ::-1].copy(), 64))


def test_a_picture_is_decoded_to_the_same_pixels_without_opencv(without):
    out = io.BytesIO()
    rgb = _noise(321, 207)
    Image.fromarray(rgb).save(out, "PNG")
    assert exact_opencv() is None
    found = decode(out.getvalue(), [ImageSpec(size=96)], ImagesSettings())
    np.testing.assert_array_equal(found.pixels[0], _fixed_point(rgb, 96))
    assert found.status == "ok" and found.thumbnail[:2] == b"\xff\xd8"
    assert shrink(_noise(1600, 800), 160).shape == (80, 160, 3) and shrink(_noise(5000, 1), 160).shape == (1, 160, 3)


def test_thumbnails_are_nearly_those_of_opencv(without, monkeypatch):
    ramp = np.add.outer(np.linspace(0, 120, 641), np.linspace(0, 120, 803)).astype(np.uint8)
    rgb = np.dstack([ramp, 255 - ramp, ramp // 2])
    ours = shrink(rgb, 160).astype(int)
    monkeypatch.undo()
    exact_opencv.cache_clear()
    if exact_opencv() is None:
        pytest.skip("no OpenCV here")
    assert np.abs(ours - shrink(rgb, 160)).max() <= 2


@pytest.mark.parametrize("broken", ["empty", "other numbers"])
def test_an_opencv_that_is_none_is_not_used(broken, monkeypatch):
    fake = types.ModuleType("cv2")
    if broken == "other numbers":
        fake.getNumThreads, fake.INTER_LINEAR = (lambda: 1), 1
        fake.resize = lambda rgb, size, interpolation: np.zeros((*size, 3), np.uint8)
    monkeypatch.setitem(sys.modules, "cv2", fake)
    exact_opencv.cache_clear()
    try:
        rgb = _noise(30, 20)
        assert exact_opencv() is None
        np.testing.assert_array_equal(bilinear(rgb, 8), fixed_point(rgb, 8))
    finally:
        monkeypatch.undo()
        exact_opencv.cache_clear()


def test_sides_that_opencv_refuses_are_resized_all_the_same(monkeypatch):
    class Refusing:
        error, INTER_LINEAR = ArithmeticError, 1

        def resize(self, *args, **kwargs):
            raise ArithmeticError("too wide")

    monkeypatch.setattr(module, "opencv", Refusing)
    rgb = _noise(30, 20)
    np.testing.assert_array_equal(bilinear(rgb, 8), fixed_point(rgb, 8))


def test_grabcut_is_refused_before_the_work(without):
    refuse_croppers([ImageSpec(), ImageSpec(crop="border")])
    with pytest.raises(ConfigError, match=r"crop: grabcut needs OpenCV.*\[opencv\]"):
        refuse_croppers([ImageSpec(crop="grabcut")])
