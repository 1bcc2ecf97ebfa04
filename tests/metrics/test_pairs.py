"""aistudio/metrics/pairs.py: strict `>` as published, ties, click rates, tau per item."""

import math

import numpy as np
import pytest

from aistudio.metrics import pairs as p

# ctr_a, ctr_b, score_a, score_b and: label, prediction, correct, correct with ties at one half
CASES = [
    (0.2, 0.1, 1.0, 0.5, 1, 1, 1.0, 1.0),
    (0.2, 0.1, -0.5, -0.1, 1, 0, 0.0, 0.0),
    (0.1, 0.2, -0.5, -0.1, 0, 0, 1.0, 1.0),
    (0.1, 0.2, 0.3, 0.3, 0, 0, 1.0, 0.5),  # the published code takes a tie for "B": lucky here
    (0.2, 0.1, 0.3, 0.3, 1, 0, 0.0, 0.5),  # and unlucky here
    (0.1, 0.1, 0.3, 0.2, 0, 1, 0.0, None),  # no winner: a 0 label for the published code
]


def test_strict_comparison_as_published():
    columns = np.array([case[:4] for case in CASES]).T
    found = p.pairs(*columns)
    assert found.label.tolist() == [c[4] for c in CASES]
    assert found.prediction.tolist() == [c[5] for c in CASES]
    assert p.correct(found).tolist() == [c[6] for c in CASES]
    halves = [None if math.isnan(v) else v for v in p.correct_ties_half(found)]
    assert halves == [c[7] for c in CASES]


@pytest.mark.parametrize("seed", range(20))
def test_naive_twin(seed):
    rng = np.random.default_rng(seed)
    columns = np.round(rng.normal(0, 1, (4, 60)), 1)
    rows = columns.T
    want = [(1 if sa > sb else 0) == (1 if float(a) > float(b) else 0) for a, b, sa, sb in rows]
    assert p.correct(p.pairs(*columns)).mean() == np.mean(want)
    decided = [0.5 if sa == sb else float((sa > sb) == (a > b)) for a, b, sa, sb in rows if a != b]
    assert np.nanmean(p.correct_ties_half(p.pairs(*columns))) == pytest.approx(np.mean(decided), abs=1e-12)


def test_probability_is_the_sigmoid_and_does_not_overflow():
    found = p.pairs([1, 1, 1], [0, 0, 0], [0.3, 5000, -5000], [0.1, 0, 0])
    assert found.probability == pytest.approx([1 / (1 + math.exp(-0.2)), 1, 0], abs=1e-15)


def test_lift_of_the_chosen_images():
    found = p.pairs([0.10, 0.02, 0.06], [0.05, 0.04, 0.02], [2, 1, 1], [1, 2, 1])
    assert p.chosen_ctr(found) == pytest.approx([0.10, 0.04, 0.04])
    assert p.shown_ctr(found) == pytest.approx([0.075, 0.03, 0.04])
    assert p.ctr_lift(p.chosen_ctr(found), p.shown_ctr(found)) == pytest.approx(0.18 / 0.145 - 1)
    assert math.isnan(p.ctr_lift([0.0], [0.0]))
    assert math.isnan(p.ctr_lift([], []))


@pytest.mark.parametrize(
    ("ctrs", "real"), [(([0.1], [0.2]), True), (([1], [2]), False), (([0, 1], [1, 0]), False), (([], []), False)]
)
def test_winner_marks_are_not_rates(ctrs, real):
    zeros = [0.0] * len(ctrs[0])
    assert p.has_real_rates(p.pairs(*ctrs, zeros, zeros)) is real


def test_tau_within_items_only():
    items = ["x", "y", "x", "y", "x", "z", "w", "w"]
    ctr = [0.1, 0.9, 0.2, 0.1, 0.3, 0.5, 0.2, 0.2]
    score = [1, 1, 2, 2, 3, 1, 1, 2]
    assert p.kendall_tau_per_item(items, ctr, score) == {"x": pytest.approx(1), "y": pytest.approx(-1)}
    assert p.kendall_tau_per_item([], [], []) == {}


def test_nan_and_uneven_columns_are_refused():
    with pytest.raises(ValueError, match="1 of 2 values of score_b are NaN"):
        p.pairs([1, 2], [1, 2], [1, 2], [1, math.nan])
    with pytest.raises(ValueError, match="different shapes"):
        p.pairs([1, 2], [1, 2], [1, 2], [1])
