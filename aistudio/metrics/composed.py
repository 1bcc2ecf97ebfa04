"""Recalls of composed retrieval (a picture and a text ask for pictures) under the protocols of its papers.

Everything starts from ranked lists: `ranked_QR`, gallery rows of each query, best first, -1 beyond a list's end.
Recall@K here is the share of queries with a right picture among the first K, as the papers define it; elsewhere that
is `hit_rate@K`.

Numbers of different protocols cannot be compared. Which gallery, whether the query's own picture was taken out, and
whether the text describes the change or the whole target belong to a metric's name (`Protocol.prefix`).
Leaves out: finding the lists (index/).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

PARTS = ("composition", "adj", "noun")  # of a caption: all of it, its first word, its second
REFERENCE_LISTED = 150  # rows that FashionIQ's published evaluation looks at before it drops repeated ids
REFERENCE_KEPT = 50  # and after: its "recall@100" is computed on 50


@dataclass(frozen=True)
class Protocol:
    """What was asked of which gallery."""

    relevant_by: Literal["caption", "id"]
    gallery: Literal["pooled", "per_category"] = "pooled"
    query_removed: bool = True  # the query's own picture is not among its results
    text: Literal["modification", "complete"] = "modification"  # complete: the text itself says what is right

    @property
    def prefix(self) -> str:
        """Put before a metric's name.

        >>> Protocol("id", query_removed=False).prefix
        'id/pooled+query_kept+modification/'
        """
        return f"{self.relevant_by}/{self.gallery}+query_{'removed' if self.query_removed else 'kept'}+{self.text}/"


def without_rows(ranked_QR: Ints, row_Q: Ints) -> Ints:
    """Lists without one gallery row each (-1: without none), one place shorter: (Q,R-1). R is at least 1."""
    last = np.argsort(ranked_QR == row_Q[:, None], axis=1, kind="stable")  # the row to drop goes to the end
    return np.take_along_axis(ranked_QR, last, axis=1)[:, :-1]


def distinct(ranked_QR: Ints, group_N: Ints) -> Ints:
    """Lists in which only the first row of each group stays; -1 behind.

    Args:
        group_N: number of each gallery row's group.
    """
    if not ranked_QR.size:
        return ranked_QR
    group_QR = np.where(ranked_QR < 0, -1, group_N[ranked_QR])
    order = np.argsort(group_QR, axis=1, kind="stable")
    ordered = np.take_along_axis(group_QR, order, axis=1)
    repeated = np.zeros(ordered.shape, dtype=bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    dropped = np.zeros_like(repeated)
    np.put_along_axis(dropped, order, repeated, axis=1)
    last = np.argsort(dropped, axis=1, kind="stable")
    return np.take_along_axis(np.where(dropped, -1, ranked_QR), last, axis=1)


def numbered(*lists: Sequence[Hashable]) -> list[Ints]:
    """Each list's values as numbers, equal values as equal numbers in all lists."""
    numbers: dict[Hashable, int] = {}
    return [np.array([numbers.setdefault(v, len(numbers)) for v in values], dtype=np.int64) for values in lists]


def first_hit(ranked_QR: Ints, label_N: Ints, wanted_Q: Ints) -> Floats:
    """Rank from 1 of the first listed row whose label is wanted, (Q,) float64; inf where there is none."""
    if not ranked_QR.size or not len(label_N):
        return np.full(len(ranked_QR), np.inf)
    hit_QR = (ranked_QR >= 0) & (label_N[ranked_QR] == wanted_Q[:, None])
    return np.where(hit_QR.any(axis=1), hit_QR.argmax(axis=1) + 1.0, np.inf)


def recall_at(first_Q: Floats, ks: Sequence[int]) -> dict[int, float]:
    """Share of queries whose first hit is among the first K, for each K. NaN for no queries.

    >>> recall_at(np.array([1.0, 3.0, np.inf]), [1, 5])
    {1: 0.3333333333333333, 5: 0.6666666666666666}
    """
    return {k: float((first_Q <= k).mean()) if len(first_Q) else float("nan") for k in ks}


def accumulated(first_Q: Floats, ks: Sequence[int]) -> dict[int, float]:
    """Return what FashionIQ's published evaluation prints instead of recall@K: its counter is divided and then kept.

    The number of K is (that of the K before + hits) / queries, so it is too large and may exceed 1. For comparison with
    the papers' tables only. NaN for no queries.
    """
    found, counter = {}, 0.0
    for k in ks:
        counter = (counter + float((first_Q <= k).sum())) / len(first_Q) if len(first_Q) else float("nan")
        found[k] = counter
    return found


def by_caption(
    ranked_QR: Ints, gallery_captions: Sequence[str], target_captions: Sequence[str], ks: Sequence[int]
) -> dict[str, dict[int, float]]:
    """Recalls where every picture of the target's caption is right: MIT-States, Fashion200k.

    Returns:
        part -> K -> recall: "composition", and, where every caption has two words, "adj" and "noun" (first, second).
    """
    captions = (gallery_captions, target_captions)
    words = [[caption.split() for caption in side] for side in captions]
    found = {"composition": recall_at(first_hit(ranked_QR, *numbered(*captions)), ks)}
    if all(len(caption) == 2 for side in words for caption in side):
        for position, part in enumerate(PARTS[1:]):
            labels = numbered(*([caption[position] for caption in side] for side in words))
            found[part] = recall_at(first_hit(ranked_QR, *labels), ks)
    return found


def rows_needed(gallery_ids: Sequence[Hashable], ks: Sequence[int]) -> int:
    """How long ranked lists must be for `by_id`: as many rows as may belong to the first max(ks) ids; at most N."""
    (numbers,) = numbered(gallery_ids)
    most = int(np.bincount(numbers).max()) if len(numbers) else 0
    return min(len(numbers), max(most * max(ks), REFERENCE_LISTED))


def by_id(
    ranked_QR: Ints,
    gallery_ids: Sequence[str],
    target_ids: Sequence[str],
    categories: Sequence[str],
    ks: Sequence[int],
    *,
    as_published: bool = False,
) -> dict[str, dict[int, float]]:
    """Recalls where one picture is right, by category: FashionIQ. Repeated ids count once, at their best rank.

    Args:
        ranked_QR: lists of `rows_needed` rows.
        categories: of the queries.
        as_published: the numbers of the published evaluation instead: lists of 150 rows, cut to 50 ids, `accumulated`.

    Returns:
        category -> K -> recall, categories in the order of their first query.
    """
    ids, targets = numbered(gallery_ids, target_ids)
    lists = distinct(ranked_QR[:, :REFERENCE_LISTED] if as_published else ranked_QR, ids)
    first_Q = first_hit(lists[:, :REFERENCE_KEPT] if as_published else lists, ids, targets)
    count = accumulated if as_published else recall_at
    own = np.array(categories, dtype=object)
    return {category: count(first_Q[own == category], ks) for category in dict.fromkeys(categories)}


def reference_names(recalls: dict[str, dict[int, float]]) -> dict[str, float]:
    """Recalls under the names of the published code, by part or category.

    >>> reference_names({"noun": {5: 0.25}})
    {'recall_top5_correct_noun': 0.25}
    """
    return {f"recall_top{k}_correct_{part}": value for part, at in recalls.items() for k, value in at.items()}
