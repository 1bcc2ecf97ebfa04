"""A/B pairs among stored rows: finding both sides, their metrics, their table.

A pair is used when both sides are ok, have a score and a click rate; the others are counted by reason. Leaves out:
the definitions (metrics/pairs.py) and where the rows come from (scan.py).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.metrics import classification, significance
from aistudio.metrics import pairs as pair_metrics
from aistudio.metrics.significance import Interval
from aistudio.schema import Status

SIDES = ("a", "b")


def join_sides(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int], str]:
    """Usable pairs in manifest order, left-out pairs by reason, and the score column they are judged by.

    Args:
        rows: pair_id, side, ctr, row_id, item_id, status, rank_score, recall_score, id, and slice columns.

    Returns:
        Columns pair_id, and row_id, item_id, ctr, score and the slice columns with `_a` and `_b`; rank_score is the
        score where any row has one, else recall_score.
    """
    rows = rows.assign(side=rows["side"].astype(str).str.strip().str.lower(), pair_id=rows["pair_id"].astype(str))
    column = "rank_score" if rows["rank_score"].notna().any() else "recall_score"
    rows = rows.assign(ctr=pd.to_numeric(rows["ctr"], errors="coerce"), score=rows[column])
    left_out: dict[str, int] = {}
    wrong = ~rows["side"].isin(SIDES) | rows.duplicated(["pair_id", "side"], keep=False)
    sides = {side: rows[(rows["side"] == side) & ~wrong].set_index("pair_id") for side in SIDES}
    joined = sides["a"].merge(sides["b"], left_index=True, right_index=True, suffixes=("_a", "_b"))
    left_out["a side is missing, double or neither a nor b"] = rows["pair_id"].nunique() - len(joined)
    conditions: tuple[tuple[str, Callable[[str], pd.Series]], ...] = (
        ("an image failed", lambda s: joined[f"status_{s}"] == Status.OK.value),
        ("the CTR is not a number", lambda s: joined[f"ctr_{s}"].notna()),
        ("a score is missing", lambda s: joined[f"score_{s}"].notna()),
    )
    for reason, holds in conditions:
        good = holds("a") & holds("b")
        left_out[reason] = int((~good).sum())
        joined = joined[good]
    joined = joined.sort_values("id_a", kind="stable").reset_index()
    return joined, {reason: n for reason, n in left_out.items() if n}, column


def as_pairs(joined: pd.DataFrame) -> pair_metrics.Pairs:
    """The four columns that the metrics are made of."""
    return pair_metrics.pairs(*(joined[c] for c in ("ctr_a", "ctr_b", "score_a", "score_b")))


def measure(joined: pd.DataFrame, settings: MetricsSettings) -> dict[str, Interval]:
    """Every pair metric with its interval, resampled by pair (kendall_tau: by item)."""
    p = as_pairs(joined)
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    halves = pair_metrics.correct_ties_half(p)
    found = {
        "pairwise_accuracy": _mean(pair_metrics.correct(p), how),
        "pairwise_accuracy_ties_half": _mean(halves[~np.isnan(halves)], how),
        "log_loss": _mean(classification.log_losses(p.label, p.probability), how),
    }
    label, margin, probability = p.label, p.margin, p.probability
    scored = {"roc_auc": classification.roc_auc, "average_precision": classification.average_precision}
    for name, metric in scored.items():
        found[name] = significance.bootstrap(lambda w, m=metric: m(label, margin, w), len(p), *how)  # type: ignore[misc]
    bins = _calibration_bins(probability)
    found["ece"] = significance.bootstrap(lambda w: _weighted_ece(label, probability, bins, w), len(p), *how)
    found["kendall_tau"] = _mean(_taus(joined), how)
    if pair_metrics.has_real_rates(p):
        chosen, shown = pair_metrics.chosen_ctr(p), pair_metrics.shown_ctr(p)
        found["ctr_lift"] = significance.bootstrap(lambda w: pair_metrics.ctr_lift(chosen, shown, w), len(p), *how)
    return found


def _mean(values: NDArray[Any], how: tuple[int, float, int]) -> Interval:
    return significance.bootstrap_means(values[:, None], *how)[0]


def _taus(joined: pd.DataFrame) -> NDArray[np.float64]:
    """Tau of each item over its distinct images."""
    columns = ("item_id", "row_id", "ctr", "score")
    both = pd.concat([joined[[f"{c}_{s}" for c in columns]].set_axis(columns, axis=1) for s in SIDES])
    both = both.drop_duplicates(["item_id", "row_id"])
    taus = pair_metrics.kendall_tau_per_item(both["item_id"].to_numpy(str), both["ctr"], both["score"])
    return np.array(list(taus.values()))


def _calibration_bins(probability: NDArray[Any], bins: int = 10) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), probability, side="left") - 1, 0, bins - 1)


def _weighted_ece(label: NDArray[Any], p: NDArray[Any], bins: NDArray[np.int64], w: NDArray[Any]) -> float:
    """ECE of a resample: the gap of each bin is |sum w (p - label)|, its weight is in it already."""
    return float(np.abs(np.bincount(bins, weights=w * (p - label))).sum() / w.sum())


def curves(joined: pd.DataFrame) -> dict[str, Any]:
    """Reliability and ROC points for curves.json; NaN of empty bins is null."""
    p = as_pairs(joined)
    curve = classification.reliability(p.label, p.probability)
    fpr, tpr = classification.roc_points(p.label, p.margin)
    return {
        "reliability": {
            "edges": curve.edges.tolist(),
            "count": curve.count.tolist(),
            "mean_probability": _nullable(curve.mean_probability),
            "share_positive": _nullable(curve.share_positive),
        },
        "roc": {"fpr": fpr.tolist(), "tpr": tpr.tolist()},
    }


def table(joined: pd.DataFrame) -> pd.DataFrame:
    """Rows of pairs.parquet, in manifest order."""
    p = as_pairs(joined)
    out = joined[["pair_id", "row_id_a", "row_id_b", "ctr_a", "ctr_b"]].assign(score_a=p.score_a, score_b=p.score_b)
    return out.assign(
        label=p.label, prediction=p.prediction, correct=pair_metrics.correct(p).astype(bool), margin=p.margin
    )


def slice_values(joined: pd.DataFrame, column: str, mixed: str) -> list[Any]:
    """A pair's value of a column: the mean of two numbers, else the value that both sides have, or `mixed`."""
    a, b = joined[f"{column}_a"], joined[f"{column}_b"]
    if pd.api.types.is_numeric_dtype(a) and not pd.api.types.is_bool_dtype(a):
        return pd.concat([a, b], axis=1).mean(axis=1).tolist()
    same = (a == b) | (a.isna() & b.isna())
    return a.where(same, mixed).tolist()


def _nullable(values: NDArray[Any]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
