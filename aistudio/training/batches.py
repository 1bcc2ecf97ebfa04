"""Batches of the contrastive training: which pictures, which texts, and which texts are true of which pictures."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aistudio.demo.sights import SIGHTS
from aistudio.demo.texts import caption
from aistudio.training.renderings import RenderedSet

SHIFT_PX = 6  # largest shift of the augmentation; larger ones would cut off badges and passers-by


@dataclass(frozen=True)
class Batch:
    """B pictures and their texts.

    pixels: (B, S, S, 3) uint8; texts: B strings, text i written for picture i; compatible: (B, B) bool, [i, j]: text j
    is true of picture i; sight: (B,) int64; clicks: (B,) int64.
    """

    pixels: np.ndarray
    texts: list[str]
    compatible: np.ndarray
    sight: np.ndarray
    clicks: np.ndarray


def batches(data: RenderedSet, steps: int, num_sights: int, per_sight: int, seed: int) -> Iterator[Batch]:
    """`steps` batches of num_sights x per_sight pictures, each sight's pictures used up before one repeats."""
    rng = random.Random(f"batches/{seed}")
    of_sight = {int(s): np.flatnonzero(data.sight == s).tolist() for s in np.unique(data.sight)}
    queues: dict[int, list[int]] = {s: [] for s in of_sight}
    order: list[int] = []
    for _ in range(steps):
        rows: list[int] = []
        for _ in range(min(num_sights, len(of_sight))):
            if not order:
                order = rng.sample(sorted(of_sight), len(of_sight))
            sight = order.pop()
            if len(queues[sight]) < per_sight:
                queues[sight] = rng.sample(of_sight[sight], len(of_sight[sight]))
            rows += [queues[sight].pop() for _ in range(per_sight)]
        yield _batch(data, rows, rng)


def _batch(data: RenderedSet, rows: list[int], rng: random.Random) -> Batch:
    sight = data.sight[rows]
    written = [caption(SIGHTS[data.sight[row]], data.shown[row], rng) for row in rows]
    light = np.array([data.shown[row].light for row in rows])
    weather = np.array([data.shown[row].weather for row in rows])
    said_light = np.array([x[1] or "" for x in written])
    said_weather = np.array([x[2] or "" for x in written])
    compatible = (
        (sight[:, None] == sight[None, :])
        & ((said_light[None, :] == "") | (said_light[None, :] == light[:, None]))
        & ((said_weather[None, :] == "") | (said_weather[None, :] == weather[:, None]))
    )
    pixels = np.stack([augment(data.pixels[row], rng) for row in rows])
    return Batch(pixels, [x[0] for x in written], compatible, sight, data.clicks[rows])


def augment(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """(S, S, 3) uint8 mirrored at random and shifted by a few pixels: nothing that people have an opinion on."""
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    dy, dx = rng.randint(-SHIFT_PX, SHIFT_PX), rng.randint(-SHIFT_PX, SHIFT_PX)
    rows = np.clip(np.arange(pixels.shape[0]) + dy, 0, pixels.shape[0] - 1)
    columns = np.clip(np.arange(pixels.shape[1]) + dx, 0, pixels.shape[1] - 1)
    return pixels[rows][:, columns]
