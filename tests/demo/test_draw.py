"""Drawing: the same seeds give the same picture, sights differ, attributes say what is there."""

import hashlib

import numpy as np
import pytest

from aistudio.demo.draw import draw_image
from aistudio.demo.sights import SIGHTS


def test_same_arguments_same_pixels_others_differ():
    sight = SIGHTS[0]
    first, shown = draw_image(sight, seed=3, index=1)
    again, shown_again = draw_image(sight, seed=3, index=1)
    assert hashlib.sha256(first.tobytes()).digest() == hashlib.sha256(again.tobytes()).digest()
    assert shown == shown_again
    others = [draw_image(sight, 3, 2), draw_image(sight, 4, 1), draw_image(SIGHTS[1], 3, 1)]
    assert all(other.tobytes() != first.tobytes() for other, _ in others)


def test_enough_sights_with_names_of_their_own():
    assert len(SIGHTS) >= 40
    for values in (
        [s.zh for s in SIGHTS],
        [s.en for s in SIGHTS],
        [s.key for s in SIGHTS],
        [s.item_id for s in SIGHTS],
    ):
        assert len(set(values)) == len(SIGHTS)
    assert all(not s.zh.isascii() and s.en.isascii() and "," not in s.name for s in SIGHTS)


@pytest.mark.parametrize("sight", SIGHTS, ids=lambda s: s.key)
def test_every_sight_fills_the_frame(sight):
    image, shown = draw_image(sight, seed=0, index=0, long_side=96)
    pixels = np.asarray(image)
    assert image.mode == "RGB" and max(image.size) == 96
    assert pixels.std() > 8, "almost one colour: nothing was drawn"
    assert 0 < shown.brightness < 1 and 0 <= shown.saturation < 1


def test_images_of_different_sights_look_different():
    small = [np.asarray(draw_image(s, 0, 5, long_side=64)[0].resize((24, 24))).astype(float) for s in SIGHTS]
    for i, a in enumerate(small):
        for b in small[:i]:
            assert np.abs(a - b).mean() > 2


def test_sizes_and_conditions_vary():
    drawn = [draw_image(SIGHTS[i % 5], 1, i) for i in range(40)]
    assert len({image.size for image, _ in drawn}) > 8
    assert len({shown.light for _, shown in drawn}) == 5
    assert len({shown.weather for _, shown in drawn}) == 5
    assert {shown.badge for _, shown in drawn} == {True, False}


def test_brightness_is_measured_on_the_picture():
    image, shown = draw_image(SIGHTS[3], 0, 0)
    luma = np.asarray(image.convert("L"), dtype=float).mean() / 255
    assert shown.brightness == pytest.approx(luma, abs=0.02)
