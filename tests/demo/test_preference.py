"""The click model: the exact bound agrees with simulation, and liked things are liked."""

import dataclasses

import numpy as np
import pytest

from aistudio.demo.draw import Attributes
from aistudio.demo.preference import BASE_CTR, chance_greater, click_rate, observed_clicks, utility
from aistudio.demo.sights import SIGHTS

PLAIN = Attributes("day", "cloudy", 0.5, 0.2, 0.5, 0.1, 1, False)


@pytest.mark.parametrize(("a", "b", "n"), [(0.1, 0.1, 200), (0.12, 0.1, 500), (0.01, 0.02, 300), (0.15, 0.05, 400)])
def test_chance_greater_agrees_with_simulation(a, b, n):
    rng = np.random.default_rng(0)
    x, y = rng.binomial(n, a, 200_000), rng.binomial(n, b, 200_000)
    simulated = (x > y).sum() / (x != y).sum()
    assert chance_greater(a, b, n) == pytest.approx(simulated, abs=0.005)


def test_chance_greater_is_antisymmetric():
    assert chance_greater(0.08, 0.05) + chance_greater(0.05, 0.08) == pytest.approx(1)
    assert chance_greater(0.05, 0.05) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "better"),
    [
        ({"brightness": 0.7}, True),
        ({"saturation": 0.4}, True),
        ({"subject_size": 0.7}, True),
        ({"off_centre": 0.2}, False),
        ({"num_people": 3}, False),
        ({"badge": True}, False),
        ({"weather": "rain"}, False),
        ({"light": "morning"}, True),  # West Lake's best hour
    ],
)
def test_preferences_point_the_right_way(change, better):
    sight = SIGHTS[0]
    changed = utility(sight, dataclasses.replace(PLAIN, **change))
    assert (changed > utility(sight, PLAIN)) is better


def test_click_rate_stays_within_its_range_and_clicks_follow_it():
    assert click_rate(-50) == pytest.approx(0, abs=1e-9) and click_rate(50) == pytest.approx(BASE_CTR)
    rng = np.random.default_rng(1)
    assert observed_clicks(0.1, rng, 100_000) == pytest.approx(10_000, rel=0.05)
