"""The bounds of the pairs against scikit-learn and by hand."""

import math
import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from aistudio.demo.draw import Attributes
from aistudio.demo.pairs import Picture, best_possible, roc_auc
from aistudio.demo.sights import SIGHTS


def test_roc_auc_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    label, score = rng.random(80) < 0.4, rng.integers(0, 10, 80).astype(float)
    assert roc_auc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert math.isnan(roc_auc(np.ones(3, bool), np.zeros(3)))


def test_best_possible_counts_upsets():
    shown = Attributes("day", "clear", 0.5, 0.2, 0.5, 0.1, 0, False)
    won = (Picture(SIGHTS[0], "", shown, 2.0, 90), Picture(SIGHTS[0], "", shown, -2.0, 20))
    upset = (Picture(SIGHTS[0], "", shown, 2.0, 20), Picture(SIGHTS[0], "", shown, -2.0, 90))
    best = best_possible([won, won, won, upset])
    assert best.pairwise_accuracy == 0.75
    assert best.pairwise_accuracy_expected > 0.99
    assert math.isnan(best_possible([]).roc_auc)


def test_expected_accuracy_does_not_depend_on_the_side():
    shown = Attributes("day", "clear", 0.5, 0.2, 0.5, 0.1, 0, False)
    rng = random.Random(0)
    pictures = [Picture(SIGHTS[0], str(i), shown, rng.gauss(0, 1), i) for i in range(6)]
    straight = best_possible([(pictures[0], pictures[1]), (pictures[2], pictures[3])])
    turned = best_possible([(pictures[1], pictures[0]), (pictures[3], pictures[2])])
    assert straight.pairwise_accuracy_expected == pytest.approx(turned.pairwise_accuracy_expected)
    assert straight.pairwise_accuracy == turned.pairwise_accuracy
