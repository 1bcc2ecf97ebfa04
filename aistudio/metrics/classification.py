"""Labels against scores or probabilities: ROC AUC, average precision, log loss, calibration, Kendall's tau.

scikit-learn and scipy compute what they have; here are the checks, the cases they leave open (one class only: NaN, not
an exception) and ECE. Leaves out: what a label is (pairs.py).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau
from sklearn import metrics as sk

Floats = NDArray[np.floating[Any]]
SMALLEST = 1e-15  # probabilities are kept this far from 0 and 1 in the log loss


def roc_auc(label_N: ArrayLike, score_N: ArrayLike, weight_N: Floats | None = None) -> float:
    """Area under the ROC curve, ties at one half. NaN when there is only one class, or nothing.

    Raises:
        ValueError: a score is NaN, or a label is not 0 or 1.
    """
    labels, scores = _checked(label_N, score_N)
    if not _both(labels, weight_N):
        return float("nan")
    return float(sk.roc_auc_score(labels, scores, sample_weight=weight_N))


def average_precision(label_N: ArrayLike, score_N: ArrayLike, weight_N: Floats | None = None) -> float:
    """Area under the precision-recall steps. NaN when there is only one class. Raises as `roc_auc` does."""
    labels, scores = _checked(label_N, score_N)
    if not _both(labels, weight_N):
        return float("nan")
    return float(sk.average_precision_score(labels, scores, sample_weight=weight_N))


def log_losses(label_N: ArrayLike, probability_N: ArrayLike) -> Floats:
    """-log of the probability given to the true label, (N,): their mean is the log loss, one class or two.

    Raises:
        ValueError: a probability is NaN or outside 0..1, or a label is not 0 or 1.
    """
    labels, p = _checked(label_N, probability_N)
    _probabilities(p)
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    return -np.where(labels == 1, np.log(p), np.log1p(-p))


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of predicted probability; means are NaN where a bin is empty."""

    edges: Floats  # (bins + 1,)
    count: NDArray[np.int64]  # (bins,)
    mean_probability: Floats
    share_positive: Floats


def reliability(label_N: ArrayLike, probability_N: ArrayLike, bins: int = 10) -> Reliability:
    """The reliability curve. Bins are (edge, next edge], the first one takes 0 as well. Raises as `log_losses`."""
    labels, p = _checked(label_N, probability_N)
    _probabilities(p)
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_p = np.bincount(which, weights=p, minlength=bins) / count
        share = np.bincount(which, weights=labels, minlength=bins) / count
    return Reliability(edges, count, mean_p, share)


def ece(label_N: ArrayLike, probability_N: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and frequency (Guo et al. 2017, eq. 3, of class 1).

    NaN for no rows. Raises as `log_losses`.
    """
    curve = reliability(label_N, probability_N, bins)
    total = curve.count.sum()
    if not total:
        return float("nan")
    return float(np.nansum(curve.count * np.abs(curve.mean_probability - curve.share_positive)) / total)


def roc_points(label_N: ArrayLike, score_N: ArrayLike, at_most: int = 200) -> tuple[Floats, Floats]:
    """False and true positive rates of the ROC curve, thinned to `at_most` points; empty for one class."""
    labels, scores = _checked(label_N, score_N)
    if not _both(labels, None):
        return np.empty(0), np.empty(0)
    fpr, tpr, _ = sk.roc_curve(labels, scores)
    keep = np.unique(np.linspace(0, len(fpr) - 1, min(at_most, len(fpr))).round().astype(int))
    return fpr[keep], tpr[keep]


def kendall_tau(truth_N: ArrayLike, score_N: ArrayLike) -> float:
    """Kendall's tau-b, the order of the scores against that of the truth. NaN when either is constant or N < 2.

    Raises:
        ValueError: NaN among the values.
    """
    truth, scores = np.asarray(truth_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    _no_nan(truth, "truth")
    _no_nan(scores, "scores")
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(scores) == 0:
        return float("nan")
    return float(kendalltau(truth, scores).statistic)


def _checked(label_N: ArrayLike, score_N: ArrayLike) -> tuple[Floats, Floats]:
    labels, scores = np.asarray(label_N, dtype=np.float64), np.asarray(score_N, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two lists of one length")
    _no_nan(scores, "scores")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    return labels, scores


def _no_nan(values: Floats, what: str) -> None:
    if np.isnan(values).any():
        raise ValueError(f"{what}: {np.isnan(values).sum()} of {len(values)} are NaN")


def _probabilities(p: Floats) -> None:
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probabilities must lie in 0..1, found {p.min():g}..{p.max():g}")


def _both(labels: Floats, weight_N: Floats | None) -> bool:
    present = labels if weight_N is None else labels[np.asarray(weight_N) > 0]
    return len(present) > 0 and present.min() < present.max()
