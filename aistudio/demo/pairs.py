"""The demo's A/B pairs: two pictures of one sight, the click rate of each, and how well anyone could order them."""

import random
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from aistudio.demo.draw import Attributes
from aistudio.demo.faults import BASE_URL
from aistudio.demo.preference import IMPRESSIONS, chance_greater, click_rate
from aistudio.demo.sights import Sight
from aistudio.demo.texts import offer_texts

SEPARATOR = "$record$"


@dataclass(frozen=True)
class Picture:
    """A whole picture of the catalogue: where it is, what it shows, how much it is liked, how often it was clicked."""

    sight: Sight
    path: str
    shown: Attributes
    utility: float
    clicks: int


@dataclass(frozen=True)
class BestPossible:
    """What a model that knew the true utilities would reach on the recorded clicks."""

    pairwise_accuracy: float  # on the pairs as they were drawn
    pairwise_accuracy_expected: float  # mean over all the ways in which the clicks could have fallen
    roc_auc: float  # label ctr_a > ctr_b, score utility_a - utility_b


def write_pairs(path: Path, pictures: list[Picture], num_pairs: int, seed: int) -> BestPossible:
    """Write `num_pairs` lines of ten fields.

    The durable address (oss_url) of one pair in a hundred is gone, so that its fallback is needed.

    Raises:
        ValueError: the pictures do not form that many pairs without ties.
    """
    rng = random.Random(f"pairs/{seed}")
    pairs = _draw_pairs(pictures, num_pairs, rng)
    lines = []
    for number, (a, b) in enumerate(pairs):
        title, poi_names = offer_texts(a.sight, rng)
        gone = number % 100 == 50
        fields = (
            f"demo_{number:06d}",
            *(f"{BASE_URL}original/{p.path}" for p in (a, b)),
            *(f"{p.clicks / IMPRESSIONS:.6f}" for p in (a, b)),
            title,
            "境内游 domestic",
            *(f"{BASE_URL}{'gone/' if gone else ''}{p.path}" for p in (a, b)),
            poi_names,
        )
        lines.append(SEPARATOR.join(fields) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return best_possible(pairs)


def _draw_pairs(pictures: list[Picture], num_pairs: int, rng: random.Random) -> list[tuple[Picture, Picture]]:
    by_sight: dict[str, list[Picture]] = {}
    for picture in pictures:
        by_sight.setdefault(picture.sight.item_id, []).append(picture)
    possible = [
        pair for mine in by_sight.values() for pair in combinations(mine, 2) if pair[0].clicks != pair[1].clicks
    ]
    if num_pairs > len(possible):
        raise ValueError(f"{num_pairs} pairs asked for; {len(pictures)} pictures form {len(possible)} without ties")
    return [(a, b) if rng.random() < 0.5 else (b, a) for a, b in rng.sample(possible, num_pairs)]


def best_possible(pairs: list[tuple[Picture, Picture]]) -> BestPossible:
    """Bounds of the pairs; all NaN when there are none."""
    margin = np.array([a.utility - b.utility for a, b in pairs])
    label = np.array([a.clicks > b.clicks for a, b in pairs], dtype=bool)
    if not pairs:
        return BestPossible(float("nan"), float("nan"), float("nan"))
    expected = []
    for a, b in pairs:
        chance = chance_greater(click_rate(a.utility), click_rate(b.utility))
        expected.append(max(chance, 1 - chance))  # the better one is bet on
    return BestPossible(float(np.mean((margin > 0) == label)), float(np.mean(expected)), roc_auc(label, margin))


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Share of (positive, negative) pairs in the right order, ties half; NaN when a class is empty.

    label: (N,) bool, score: (N,) float.
    """
    if label.all() or not label.any():
        return float("nan")
    difference = score[label][:, None] - score[~label][None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))
