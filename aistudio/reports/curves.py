"""curves.json -> the figures of the metrics page. A curve that is missing or empty is left out."""

import math
from typing import Any

from aistudio.reports.figures import Figure, Series

_BARS = 60  # most points of a score distribution
_DIAGONAL = [[0.0, 0.0], [1.0, 1.0]]


def figures(curves: dict[str, Any]) -> list[Figure]:
    """Retrieval over K, CMC, score distributions, reliability and ROC, as far as they are there."""
    makers = {"retrieval": _retrieval, "cmc": _cmc, "histogram": _histogram, "reliability": _reliability, "roc": _roc}
    made = [make(curves[name]) for name, make in makers.items() if curves.get(name)]
    return [f for f in made if f is not None]


def _retrieval(curve: dict[str, Any]) -> Figure | None:
    names = {"hit_rate": "hit rate", "recall": "recall", "precision": "precision"}
    series = [Series(label, _points(curve["k"], curve[name])) for name, label in names.items() if curve.get(name)]
    if not series:
        return None
    note = "mean over queries of what is among the first K images"
    return Figure("retrieval", "Retrieval over K", note, "line", "K", "mean over queries", series, y_max=1)


def _cmc(curve: dict[str, Any]) -> Figure | None:
    if not curve.get("share"):
        return None
    note = "share of queries whose first right image is at this rank or better"
    series = [Series("queries", _points(curve["rank"], curve["share"]), area=True)]
    return Figure("cmc", "Cumulative match (CMC)", note, "line", "rank", "share of queries", series, y_max=1)


def _histogram(curve: dict[str, Any]) -> Figure | None:
    relevant, irrelevant, edges = curve["relevant"], curve["irrelevant"], curve["edges"]
    filled = [i for i, counts in enumerate(zip(relevant, irrelevant, strict=True)) if any(counts)]
    if not filled:
        return None
    first, last = filled[0], filled[-1] + 1
    step = max(1, -(-(last - first) // _BARS))
    series = []
    for name, counts in (("right images", relevant), ("other images", irrelevant)):
        total = sum(counts)
        starts = range(first, last, step)
        points = [
            [round((edges[i] + edges[min(i + step, len(counts))]) / 2, 4), sum(counts[i : i + step]) / total]
            for i in starts
            if total
        ]
        series.append(Series(name, points, area=True))
    note = "share of all images of a kind at each score; the less the two overlap, the better"
    return Figure(
        "scores", "Scores of right and other images", note, "line", "score", "share of its kind", series,
        x_min=math.floor(edges[first] * 10) / 10, x_max=math.ceil(edges[last] * 10) / 10,
    )  # fmt: skip


def _reliability(curve: dict[str, Any]) -> Figure | None:
    points = [
        [p, share]
        for p, share in zip(curve["mean_probability"], curve["share_positive"], strict=True)
        if p is not None and share is not None
    ]
    if not points:
        return None
    series = [Series("pairs", points), Series("perfectly calibrated", _DIAGONAL, dashed=True)]
    note = "how often A was clicked more, where the model said it would be with this probability"
    return Figure(
        "reliability", "Reliability", note, "line", "predicted probability", "share that came true", series,
        x_min=0, x_max=1, y_max=1,
    )  # fmt: skip


def _roc(curve: dict[str, Any]) -> Figure | None:
    if not curve.get("fpr"):
        return None
    series = [Series("pairs", _points(curve["fpr"], curve["tpr"]), area=True)]
    series.append(Series("by chance", _DIAGONAL, dashed=True))
    note = "winners found against losers taken for winners, over all thresholds of the score gap"
    return Figure(
        "roc", "ROC of the pairs", note, "line", "false positive rate", "true positive rate", series,
        x_min=0, x_max=1, y_max=1,
    )  # fmt: skip


def _points(x: list[Any], y: list[Any]) -> list[list[Any]]:
    return [[a, b] for a, b in zip(x, y, strict=True) if a is not None and b is not None]
