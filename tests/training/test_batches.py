"""Batches: every picture before any twice, and texts that are true of several pictures are marked so."""

import random

import numpy as np

from aistudio.config import ImageSpec
from aistudio.training.batches import SHIFT_PX, augment, batches
from aistudio.training.renderings import render

SPEC = ImageSpec(size=24)


def test_batches_use_every_picture_before_one_repeats():
    data = render(7, range(4), SPEC, num_sights=3, workers=1)
    data.pixels[:] = np.arange(12, dtype=np.uint8)[:, None, None, None]  # each picture says which it is
    seen = [int(pixels[0, 0, 0]) for batch in batches(data, 2, 3, 2, seed=0) for pixels in batch.pixels]
    assert sorted(seen) == list(range(12))


def test_compatible_holds_where_sight_and_conditions_agree():
    data = render(7, range(6), SPEC, num_sights=4, workers=1)
    for batch in batches(data, 5, 4, 3, seed=1):
        assert batch.compatible.diagonal().all()
        other_sight = batch.sight[:, None] != batch.sight[None, :]
        assert not (batch.compatible & other_sight).any()
        assert batch.pixels.shape == (12, 24, 24, 3) and len(batch.texts) == 12
    everything = list(batches(data, 20, 4, 3, seed=2))
    same = [b.compatible[b.sight[:, None] == b.sight[None, :]] for b in everything]
    assert 0.4 < np.concatenate(same).mean() < 1, "some captions must exclude pictures of their own sight"


def test_same_seed_same_batches():
    data = render(7, range(4), SPEC, num_sights=3, workers=1)
    a, b = (list(batches(data, 3, 2, 2, seed=5)) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        assert x.texts == y.texts and (x.pixels == y.pixels).all()


def test_augment_only_mirrors_and_shifts():
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[20, 12] = 255
    rng = random.Random(0)
    for _ in range(50):
        moved = augment(pixels, rng)
        (y,), (x,) = np.nonzero(moved[:, :, 0])
        assert moved.shape == pixels.shape and abs(y - 20) <= SHIFT_PX
        assert min(abs(x - 12), abs(x - 27)) <= SHIFT_PX


def test_render_does_not_depend_on_the_slice():
    whole = render(3, range(4), SPEC, num_sights=2, workers=1)
    part = render(3, range(2, 4), SPEC, num_sights=2, workers=1)
    assert (whole.pixels[[2, 3, 6, 7]] == part.pixels).all()
    assert [whole.shown[i] for i in (2, 3, 6, 7)] == part.shown
