"""What people like: the known preference model behind the demo's click rates.

A picture's utility is a weighted sum of its attributes; its click rate is `BASE_CTR * sigmoid(utility)`; what the
catalogue records are clicks out of a number of impressions, so even the true utilities cannot order every
pair as recorded. `chance_greater` says how well they can: the best possible pairwise accuracy.
"""

import math
import random

import numpy as np

from aistudio.demo.draw import Attributes
from aistudio.demo.sights import Sight

BASE_CTR = 0.16
IMPRESSIONS = 500  # of each picture: with it, the best possible pairwise accuracy comes out near 0.9
_WEATHER = {"clear": 0.25, "cloudy": 0.0, "rain": -0.5, "fog": -0.35, "snow": 0.0}


def utility(sight: Sight, shown: Attributes) -> float:
    """How much people like a picture of a sight; differences matter, about -3..3.

    Bright, colourful, large, centred subjects are liked, and the sight's own best hour or weather; passers-by
    and sale badges are not. A sight's interest is the same for all its pictures.
    """
    interest = random.Random(f"interest/{sight.key}").gauss(0, 0.4)
    return (
        interest
        + 0.7 * (shown.brightness - 0.5) / 0.15
        + 0.5 * (shown.saturation - 0.2) / 0.1
        + 0.6 * (shown.subject_size - 0.53) / 0.11
        - 0.4 * (shown.off_centre - 0.1) / 0.06
        + _WEATHER[shown.weather]
        + 1.1 * (sight.best in (shown.light, shown.weather))
        - 0.35 * shown.num_people
        - 0.8 * shown.badge
        - 0.2
    )


def click_rate(value: float) -> float:
    """True click rate of a picture of this utility, 0..BASE_CTR."""
    return BASE_CTR / (1 + math.exp(-value))


def observed_clicks(rate: float, rng: np.random.Generator, impressions: int = IMPRESSIONS) -> int:
    """Clicks seen in `impressions` independent showings."""
    return int(rng.binomial(impressions, rate))


def chance_greater(rate_a: float, rate_b: float, impressions: int = IMPRESSIONS) -> float:
    """P(a gets more clicks than b | they differ), both shown `impressions` times; exact.

    With X ~ Bin(n, a), Y ~ Bin(n, b): P(X > Y) = sum_k P(X = k) P(Y < k).
    """
    pmf_a, pmf_b = _binomial_pmf(impressions, rate_a), _binomial_pmf(impressions, rate_b)
    a_wins = float(pmf_a[1:] @ np.cumsum(pmf_b)[:-1])
    b_wins = float(pmf_b[1:] @ np.cumsum(pmf_a)[:-1])
    return a_wins / (a_wins + b_wins)


def _binomial_pmf(n: int, p: float) -> np.ndarray:
    """(n+1,) float64 probabilities of 0..n successes, 0 < p < 1; computed in logarithms."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    return np.asarray(np.exp(log_choose + k * math.log(p) + (n - k) * math.log1p(-p)))
