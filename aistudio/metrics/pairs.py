"""Metrics of A/B pairs: two images of one item, a click rate and a predicted score for each.

label = 1 when A's click rate is higher, prediction = 1 when A's score is higher, both strictly, as the paper's code
has them: a tie is a 0. The paper calls the accuracy of these predictions "AUC". Leaves out: finding the two sides of a
pair among stored rows (pipeline/).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aistudio.metrics.classification import kendall_tau

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Pairs:
    """n pairs: (n,) float64 each, no NaN. Made by `pairs`."""

    ctr_a: Floats
    ctr_b: Floats
    score_a: Floats
    score_b: Floats

    @property
    def label(self) -> NDArray[np.int64]:
        return (self.ctr_a > self.ctr_b).astype(np.int64)

    @property
    def prediction(self) -> NDArray[np.int64]:
        return (self.score_a > self.score_b).astype(np.int64)

    @property
    def margin(self) -> Floats:
        """score_a - score_b: what the model was trained on, through a sigmoid."""
        return self.score_a - self.score_b

    @property
    def probability(self) -> Floats:
        """sigmoid(margin): the model's probability that A is clicked more often."""
        return np.asarray(0.5 * (1 + np.tanh(0.5 * self.margin)))  # this form does not overflow

    def __len__(self) -> int:
        return len(self.ctr_a)


def pairs(ctr_a: ArrayLike, ctr_b: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> Pairs:
    """Raises ValueError for NaN or columns of different length."""
    columns = [np.asarray(c, dtype=np.float64) for c in (ctr_a, ctr_b, score_a, score_b)]
    if len({c.shape for c in columns}) != 1:
        raise ValueError(f"pairs: columns of different shapes {[c.shape for c in columns]}")
    for name, column in zip(("ctr_a", "ctr_b", "score_a", "score_b"), columns, strict=True):
        if np.isnan(column).any():
            raise ValueError(f"pairs: {np.isnan(column).sum()} of {len(column)} values of {name} are NaN")
    return Pairs(*columns)


def correct(p: Pairs) -> Floats:
    """1.0 where prediction equals label, strict `>` on both sides; the mean is pairwise_accuracy (paper: "AUC")."""
    return np.asarray(p.prediction == p.label, dtype=np.float64)


def correct_ties_half(p: Pairs) -> Floats:
    """1.0 for the right order, 0.5 for equal scores, 0.0 for the wrong one; NaN where the click rates are equal.

    Pairs without a winner have no right answer here and are left out of the mean, which is pairwise_accuracy_ties_half.
    """
    value = 0.5 * (1 + np.sign(p.margin) * np.sign(p.ctr_a - p.ctr_b))
    return np.where(p.ctr_a == p.ctr_b, np.nan, value)


def has_real_rates(p: Pairs) -> bool:
    """True when the click rates are rates (within 0..1, not just 0 and 1), False for mere winner marks as 1 and 2."""
    rates = np.concatenate([p.ctr_a, p.ctr_b])
    return bool(len(rates) and rates.min() >= 0 and rates.max() <= 1 and not np.isin(rates, (0, 1)).all())


def chosen_ctr(p: Pairs) -> Floats:
    """Click rate of the image with the higher score; of both in the mean where scores are equal."""
    mean = (p.ctr_a + p.ctr_b) / 2
    return np.where(p.margin > 0, p.ctr_a, np.where(p.margin < 0, p.ctr_b, mean))


def shown_ctr(p: Pairs) -> Floats:
    """Click rate that was had: an A/B test shows both images equally often, so the mean of the two."""
    return (p.ctr_a + p.ctr_b) / 2


def ctr_lift(chosen_N: ArrayLike, shown_N: ArrayLike, weight_N: ArrayLike | None = None) -> float:
    """Gain in click rate when the chosen images are shown: 0.05 is five per cent more clicks.

    sum(chosen) / sum(shown) - 1, pairs weighted alike (or by `weight_N`). NaN when nothing was clicked.
    """
    chosen, shown = np.asarray(chosen_N, dtype=np.float64), np.asarray(shown_N, dtype=np.float64)
    weight = np.ones(len(chosen)) if weight_N is None else np.asarray(weight_N)
    total = float((weight * shown).sum())  # not `@`: thousands of tiny threaded products cost seconds
    return float((weight * chosen).sum()) / total - 1 if total > 0 else float("nan")


def kendall_tau_per_item(item_N: ArrayLike, ctr_N: ArrayLike, score_N: ArrayLike) -> dict[Any, float]:
    """Kendall's tau-b of click rate and score within each item; items where it is not defined are left out."""
    items = np.asarray(item_N)
    ctr, score = np.asarray(ctr_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    order = np.argsort(items, kind="stable")
    names, starts = np.unique(items[order], return_index=True)
    found = {}
    for name, start, end in zip(names.tolist(), starts, np.append(starts[1:], len(order)), strict=False):
        rows = order[start:end]
        tau = kendall_tau(ctr[rows], score[rows])
        if not np.isnan(tau):
            found[name] = tau
    return found
