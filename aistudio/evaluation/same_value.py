"""Stored lists of similar items, judged by a column: right is what has the query's value of it.

Means over queries, over classes (macro) and per class, beside what a random order would give; curves over K; which
classes stand among the first results of which. Only metrics at K within the lists. Leaves out: reading the lists
(pipeline/report_alike.py) and metrics over whole rankings (retrieval.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.metrics import retrieval, significance
from aistudio.metrics.chance import chance_at_k
from aistudio.metrics.relevant import RelevantInLists, relevant_in_lists

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
CURVES = {"hit_rate": retrieval.hit_rate, "recall": retrieval.recall}
AT_K = {
    **CURVES,
    "precision": retrieval.precision,
    "map_capped": retrieval.average_precision_capped,
}  # fmt: skip
MOST_SIZES = 5_000  # of classes: of more, what a random order would give is not computed
NONE = -1  # of a label: no value, or beyond the end of a list


@dataclass(frozen=True)
class ListsByValue:
    """Lists of K results of Q queries, with values as numbers of `names`.

    num_relevant_Q, num_gallery_Q: what each query's gallery holds with its value, and in all, its own left out.
    """

    names: Sequence[str]
    label_Q: Ints
    label_QK: Ints
    num_relevant_Q: Ints
    num_gallery_Q: Ints

    @property
    def right_QK(self) -> NDArray[np.bool_]:
        """Whether a result has its query's value."""
        right: NDArray[np.bool_] = (self.label_QK == self.label_Q[:, None]) & (self.label_QK != NONE)
        return right

    @property
    def judged_Q(self) -> NDArray[np.bool_]:
        """Whether a query has a value and something in its gallery has it too."""
        judged: NDArray[np.bool_] = (self.label_Q != NONE) & (self.num_relevant_Q > 0)
        return judged

    def relevant(self) -> RelevantInLists:
        """The lists as metrics take them; a gallery that changed since cannot hold fewer right ones than a list."""
        right = self.right_QK
        return relevant_in_lists(right, np.maximum(self.num_relevant_Q, right.sum(axis=1)))


def quality(lists: ListsByValue) -> Floats:
    """Average precision of each list, over min(K, R): (Q,) float64, NaN where a query is not judged."""
    found = retrieval.average_precision_capped(lists.relevant(), max(1, lists.label_QK.shape[1]))
    return np.where(lists.judged_Q, found, np.nan)


def metric_rows(lists: ListsByValue, ks: Sequence[int], settings: MetricsSettings) -> list[dict[str, Any]]:
    """A row for each metric: name, value (mean over queries), low, high, n, macro (mean of class means), chance.

    None where nothing is judged. `chance` and `chance_macro`: what a random order would give.
    """
    kept = lists.judged_Q
    if not kept.any():
        return []
    items, label = lists.relevant(), lists.label_Q[kept]
    # At K = 1 the others say what hit_rate says.
    names = [(name, k) for k in ks if k <= lists.label_QK.shape[1] for name in AT_K if k > 1 or name == "hit_rate"]
    values = np.column_stack([AT_K[name](items, k)[kept] for name, k in names])
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    rows = []
    for (name, k), value, interval in zip(names, values.T, significance.bootstrap_means(values, *how), strict=True):
        chance = _chance(lists, kept, name, k)
        rows.append({
            "name": f"{name}@{k}", "value": interval.value, "low": interval.low, "high": interval.high,
            "n": interval.n, "macro": _macro(value, label), "chance": None if chance is None else float(chance.mean()),
            "chance_macro": None if chance is None else _macro(chance, label),
        })  # fmt: skip
    return rows


def class_rows(lists: ListsByValue, k: int) -> list[dict[str, Any]]:
    """A row for each class of queries, the largest first: name, queries, gallery, each metric at K, chance."""
    kept, items = lists.judged_Q, lists.relevant()
    values = {name: metric(items, k) for name, metric in AT_K.items()}
    chance = _chance(lists, kept, "precision", k)
    whole = np.full(len(kept), np.nan)
    if chance is not None:
        whole[kept] = chance
    rows = []
    for label in np.unique(lists.label_Q[kept]).tolist():
        own = kept & (lists.label_Q == label)
        found = {f"{name}@{k}": float(value[own].mean()) for name, value in values.items()}
        level = None if chance is None else float(whole[own].mean())
        rows.append({"name": lists.names[label], "queries": int(own.sum()), **found, "chance": level})
    return sorted(rows, key=lambda row: (-row["queries"], row["name"]))


def curve_points(lists: ListsByValue, name: str) -> tuple[list[list[float]], list[list[float]] | None]:
    """[K, mean of hit_rate@K or recall@K] for K up to the length of the lists, and the same of a random order."""
    kept, items = lists.judged_Q, lists.relevant()
    if not kept.any():
        return [], None
    ks = range(1, lists.label_QK.shape[1] + 1)
    points = [[k, round(float(CURVES[name](items, k)[kept].mean()), 6)] for k in ks]
    chance = [_chance(lists, kept, name, k) for k in ks]
    return points, [[k, round(float(c.mean()), 6)] for k, c in zip(ks, chance, strict=True) if c is not None] or None


def confusion(lists: ListsByValue, k: int, most: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Which classes stand among the first K results of which.

    Returns:
        Names of the columns: the `most` classes with the most queries, and "other" where there are more. And a row for
        each of those classes: name, queries, shares (of its first K results; they add up to 1 with those of no value).
    """
    shown = [row["name"] for row in class_rows(lists, k)][:most]
    place = {name: i for i, name in enumerate(shown)}
    column_of = np.array([place.get(name, len(shown)) for name in lists.names] + [len(shown) + 1], np.int64)
    more = len(lists.names) > len(shown)
    rows = []
    for name in shown:
        own = lists.judged_Q & (column_of[lists.label_Q] == place[name])
        results = lists.label_QK[own, :k]
        counts = np.bincount(column_of[results[results != NONE]], minlength=len(shown) + 2)
        total = max(1, int((results != NONE).sum()))
        shares = (counts[: len(shown) + more] / total).round(4).tolist()
        rows.append({"name": name, "queries": int(own.sum()), "shares": shares})
    return [*shown, *(["other"] if more else [])], rows


def _macro(value: Floats, label: Ints) -> float:
    return float(np.mean([value[label == one].mean() for one in np.unique(label)]))


def _chance(lists: ListsByValue, kept: NDArray[np.bool_], name: str, k: int) -> Floats | None:
    relevant, gallery = lists.relevant().num_Q[kept], lists.num_gallery_Q[kept]
    if len(np.unique(np.stack([relevant, gallery]), axis=1).T) > MOST_SIZES or (relevant > gallery).any():
        return None
    return chance_at_k(name, relevant, gallery, k)
