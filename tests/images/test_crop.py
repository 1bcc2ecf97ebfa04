"""aistudio/images/crop.py: plain borders, pictures that stay whole, GrabCut, Lab."""

import sys

import numpy as np
import pytest

from aistudio.errors import ConfigError
from aistudio.images.crop import crop_by_border, crop_by_grabcut, cut, lab_of


def scene(height=300, width=400, background=(240, 238, 235), box=(100, 60, 260, 210), colour=(120, 30, 40), noise=2):
    rng = np.random.default_rng(0)
    picture = np.full((height, width, 3), background, np.int64)
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = colour
    return np.clip(picture + rng.integers(-noise, noise + 1, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(300, 400), (1200, 900), (120, 160)])
def test_an_object_on_a_plain_background(shape):
    height, width = shape
    box = (int(0.25 * width), int(0.2 * height), int(0.6 * width), int(0.7 * height))
    crop = crop_by_border(scene(height, width, box=box))
    margin_x, margin_y = 0.04 * (box[2] - box[0]), 0.04 * (box[3] - box[1])
    slack = 0.02 * max(shape)
    assert crop.method == "border" and 0.5 < crop.score <= 1
    want = (box[0] - margin_x, box[1] - margin_y, box[2] + margin_x, box[3] + margin_y)
    np.testing.assert_allclose(crop[:4], want, atol=slack)
    assert cut(scene(height, width, box=box), crop).shape == (crop.y1 - crop.y0, crop.x1 - crop.x0, 3)


@pytest.mark.parametrize(
    ("why", "picture"),
    [
        ("a busy border", np.random.default_rng(1).integers(0, 256, (200, 200, 3)).astype(np.uint8)),
        ("one colour", np.full((90, 120, 3), 200, np.uint8)),
        ("white on white", scene(colour=(243, 240, 238))),
        ("too small", scene(box=(200, 150, 215, 165))),
        ("too large", scene(box=(4, 4, 396, 296))),
        ("one pixel", np.zeros((1, 1, 3), np.uint8)),
        ("a line", np.zeros((1, 5000, 3), np.uint8)),
    ],
)
def test_what_cannot_be_cropped_stays_whole_and_says_so(why, picture):
    crop = crop_by_border(picture)
    assert crop == (0, 0, picture.shape[1], picture.shape[0], "whole", None), why


def test_parts_of_a_pair_stay_together_and_specks_do_not_count():
    picture = scene(box=(60, 100, 140, 200))
    picture[110:190, 250:320] = (10, 90, 160)  # the other earring
    picture[10:14, 380:384] = 0  # a speck
    crop = crop_by_border(picture)
    assert crop.x0 < 60 and 320 < crop.x1 < 345 and crop.y0 > 80


def test_a_hole_is_inside():
    picture = scene(box=(100, 60, 260, 210))
    picture[100:170, 140:220] = (240, 238, 235)  # a ring
    crop = crop_by_border(picture)
    assert crop.x0 < 100 and crop.x1 > 260


def test_the_background_may_have_any_colour():
    for background, colour in (
        ((20, 20, 20), (90, 90, 90)),
        ((40, 160, 60), (200, 60, 60)),
        ((0, 0, 255), (255, 255, 0)),
    ):
        assert crop_by_border(scene(background=background, colour=colour)).method == "border"


def test_lab_of_known_colours():
    want = {(0, 0, 0): (0, 0, 0), (255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20),
            (0, 128, 0): (46.23, -51.70, 49.90), (0, 0, 255): (32.30, 79.19, -107.86)}  # fmt: skip
    for rgb, lab in want.items():
        np.testing.assert_allclose(lab_of(np.array(rgb, np.uint8)), lab, atol=0.03)


def test_grabcut_finds_the_object_twice_alike():
    pytest.importorskip("cv2")
    picture = scene(background=(200, 190, 150), box=(120, 80, 280, 220), noise=10)
    crop = crop_by_grabcut(picture)
    assert crop.method == "grabcut" and crop.score > 0.5
    np.testing.assert_allclose(crop[:4], (114, 74, 286, 226), atol=14)
    assert crop_by_grabcut(picture) == crop


@pytest.mark.parametrize(
    "picture", [np.full((50, 60, 3), 9, np.uint8), np.zeros((1, 1, 3), np.uint8), np.zeros((3, 900, 3), np.uint8)]
)
def test_grabcut_of_nothing_is_whole(picture):
    pytest.importorskip("cv2")
    assert crop_by_grabcut(picture).method == "whole"


def test_grabcut_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[opencv\]"):
        crop_by_grabcut(scene())


@pytest.mark.parametrize("crop", [crop_by_border, crop_by_grabcut])
def test_other_arrays_are_refused(crop):
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            crop(wrong)
