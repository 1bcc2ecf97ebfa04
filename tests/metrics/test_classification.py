"""aistudio/metrics/classification.py against naive twins, scikit-learn and scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from aistudio.metrics import classification as c


def case(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    return labels, np.round(rng.normal(0, 1, n), int(rng.integers(0, 3))), rng


@pytest.mark.parametrize("seed", range(200))
def test_agreement_on_random_runs(seed):
    labels, scores, rng = case(seed)
    wins = [(a > b) + 0.5 * (a == b) for a in scores[labels == 1] for b in scores[labels == 0]]
    assert c.roc_auc(labels, scores) == pytest.approx(np.mean(wins), abs=1e-12)
    levels = sorted(set(scores), reverse=True)
    recalls = [0.0] + [((scores >= t) & (labels == 1)).sum() / labels.sum() for t in levels]
    precisions = [labels[scores >= t].mean() for t in levels]
    steps = sum((b - a) * p for a, b, p in zip(recalls, recalls[1:], precisions, strict=False))
    assert c.average_precision(labels, scores) == pytest.approx(steps, abs=1e-12)
    p = np.clip(rng.random(len(labels)), 0.01, 0.99)
    assert c.log_losses(labels, p).mean() == pytest.approx(sk.log_loss(labels, p), abs=1e-9)
    truth = np.round(rng.random(len(labels)), 1)
    want = stats.kendalltau(truth, scores).statistic
    got = c.kendall_tau(truth, scores)
    assert (math.isnan(want) and math.isnan(got)) or got == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("seed", range(50))
def test_kendall_tau_b_equals_its_naive_twin(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, 9), rng.integers(0, 4, 9)
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in itertools.combinations(range(9), 2)]
    top = sum(a * b for a, b in signs)
    bottom = math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))
    got = c.kendall_tau(x, y)
    assert (bottom == 0 and math.isnan(got)) or got == pytest.approx(top / bottom, abs=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_ece_equals_its_naive_twin(seed):
    labels, _, rng = case(seed)
    p = np.round(rng.random(len(labels)), 1)  # on the edges of the bins
    want = 0.0
    for b in range(10):
        inside = [i for i, v in enumerate(p) if (v > b / 10 or b == 0) and v <= (b + 1) / 10 + 1e-12 and v >= b / 10]
        inside = [i for i in inside if not (b > 0 and abs(p[i] - b / 10) < 1e-12)]
        if inside:
            want += len(inside) / len(p) * abs(np.mean(p[inside]) - np.mean(labels[inside]))
    assert c.ece(labels, p) == pytest.approx(want, abs=1e-12)


def test_sample_weights_are_repetitions():
    labels, scores, rng = case(3)
    counts = rng.integers(0, 4, len(labels)).astype(float)
    counts[:2] = 1
    again = np.repeat(np.arange(len(labels)), counts.astype(int))
    assert c.roc_auc(labels, scores, counts) == pytest.approx(c.roc_auc(labels[again], scores[again]), abs=1e-12)
    ap = c.average_precision(labels, scores, counts)
    assert ap == pytest.approx(c.average_precision(labels[again], scores[again]), abs=1e-12)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0], []])
def test_one_class_is_not_an_accident(labels):
    scores = np.linspace(0, 1, len(labels))
    assert math.isnan(c.roc_auc(labels, scores))
    assert math.isnan(c.average_precision(labels, scores))
    assert len(c.roc_points(labels, scores)[0]) == 0
    assert c.log_losses(labels, scores).shape == (len(labels),)
    assert math.isnan(c.ece(labels, scores)) == (not labels)


def test_a_class_weighted_away_is_one_class():
    assert math.isnan(c.roc_auc([0, 1], [0.1, 0.2], np.array([1.0, 0.0])))


def test_certainty_that_is_wrong_has_a_finite_loss():
    assert c.log_losses([1, 0], [0.0, 1.0]) == pytest.approx([-math.log(1e-15)] * 2, rel=1e-4)


def test_reliability_counts_every_row_once():
    curve = c.reliability([0, 1, 1, 0], [0.0, 0.1, 1.0, 0.1000001])
    assert curve.count.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert np.isnan(curve.mean_probability[3])


def test_roc_points_are_thinned_with_their_ends():
    rng = np.random.default_rng(0)
    fpr, tpr = c.roc_points(rng.integers(0, 2, 3000), rng.random(3000), at_most=50)
    assert len(fpr) == 50 and fpr[0] == tpr[0] == 0 and fpr[-1] == tpr[-1] == 1


def test_nan_and_nonsense_are_refused():
    for function in (c.roc_auc, c.average_precision, c.log_losses, c.ece, c.roc_points):
        with pytest.raises(ValueError, match="1 of 2 are NaN"):
            function([0, 1], [0.5, math.nan])
        with pytest.raises(ValueError, match="labels must be 0 or 1"):
            function([0, 2], [0.5, 0.5])
        with pytest.raises(ValueError, match="one length"):
            function([0, 1], [0.5])
    for function in (c.log_losses, c.ece):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1, found"):
            function([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="truth: 1 of 2 are NaN"):
        c.kendall_tau([math.nan, 1], [1, 2])
