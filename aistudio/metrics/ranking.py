"""Rank a gallery in memory for each query, by cosine or Euclidean distance, without the rows that do not count.

For validation during training and for catalogues of up to some tens of thousands of images; stored runs of any size
are ranked by index/, with the same rules: float64 scores, higher first, equal scores in gallery order. Rows are left
out by identity (the query itself, its item, its copies), never as "the first hit", because copies tie with the query.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from aistudio.metrics.relevant import Floats, Ints, Relevant, relevant

Similarity = Literal["cosine", "euclidean"]
BLOCK_SCORES = 4_000_000  # scores held at once: 32 MB; there is never a Q x N matrix


def rankings(
    query_QD: ArrayLike,
    gallery_ND: ArrayLike,
    drop: Sequence[ArrayLike] | None = None,
    similarity: Similarity = "cosine",
) -> Iterator[Ints]:
    """Yield for each query the gallery rows that count, best first, equal scores in gallery order.

    Equal vectors tie exactly. A vector of length 0 has cosine 0 with everything.

    >>> [r.tolist() for r in rankings([[1, 0]], [[0, 1], [1, 0], [2, 0]])]
    [[1, 2, 0]]
    >>> [r.tolist() for r in rankings([[1, 0]], [[0, 1], [1, 0], [2, 0]], drop=[[1]])]
    [[2, 0]]

    Args:
        drop: for each query the gallery rows to leave out, in any order; None: none.

    Raises:
        ValueError: widths differ, a vector is not finite, or `drop` has another length or rows outside the gallery.
    """
    query, gallery = _vectors(query_QD, "query"), _vectors(gallery_ND, "gallery")
    if query.shape[1] != gallery.shape[1] and len(query) and len(gallery):
        raise ValueError(f"queries are {query.shape[1]} wide, the gallery {gallery.shape[1]}")
    left_out = [np.empty(0, np.int64)] * len(query) if drop is None else [np.asarray(d, np.int64) for d in drop]
    if len(left_out) != len(query):
        raise ValueError(f"drop has {len(left_out)} lists for {len(query)} queries")
    return _rankings(query, gallery, left_out, similarity)


def _rankings(query: Floats, gallery: Floats, drop: list[Ints], similarity: Similarity) -> Iterator[Ints]:
    if similarity == "cosine":
        query, gallery = _unit(query), _unit(gallery)
    distinct, copy_of = np.unique(gallery, axis=0, return_inverse=True)  # a product rounds equal rows differently
    block = max(1, BLOCK_SCORES // max(1, len(gallery)))
    for start in range(0, len(query), block):
        part = query[start : start + block]
        scores = part @ distinct.T if similarity == "cosine" else -cdist(part, distinct, "sqeuclidean")
        for row, left_out in zip(scores, drop[start : start + block], strict=True):
            order = np.argsort(-row[copy_of.reshape(-1)], kind="stable")
            yield order[_kept(len(gallery), left_out)[order]]


def _kept(size: int, left_out: Ints) -> np.ndarray:
    if len(left_out) and not (left_out.min() >= 0 and left_out.max() < size):
        raise ValueError(f"drop names rows outside the gallery of {size}")
    kept = np.ones(size, dtype=bool)
    kept[left_out] = False
    return kept


def relevant_by_label(ranking_Q: Sequence[Ints], query_label_Q: ArrayLike, label_N: ArrayLike) -> Relevant:
    """Find the relevant rows of rankings, those of the query's own label, ready for the metrics.

    >>> relevant_by_label([np.array([2, 0, 1])], ["a"], ["a", "a", "b"]).rank_P.tolist()
    [2, 3]
    """
    wanted, label = np.asarray(query_label_Q), np.asarray(label_N)
    places = [np.flatnonzero(label[rows] == w) + 1 for rows, w in zip(ranking_Q, wanted, strict=True)]
    query = np.repeat(np.arange(len(places)), [len(p) for p in places])
    return relevant(query, np.concatenate([np.empty(0, np.int64), *places]), len(places))


def same_rows(query_key_Q: ArrayLike, key_N: ArrayLike) -> list[Ints]:
    """List for each query the gallery rows of the same item, content hash or row id, ascending: what to drop.

    >>> [r.tolist() for r in same_rows(["x", "z"], ["x", "y", "x"])]
    [[0, 2], []]
    """
    key = np.asarray(key_N)
    order = np.argsort(key, kind="stable")
    ordered, asked = key[order], np.asarray(query_key_Q)
    low, high = np.searchsorted(ordered, asked, "left"), np.searchsorted(ordered, asked, "right")
    return [order[a:b].astype(np.int64) for a, b in zip(low, high, strict=True)]


def collapse(rows: Ints, item_N: ArrayLike) -> tuple[Ints, Ints]:
    """Collapse a ranking of images to one of items: each item stands where its best image stands.

    >>> collapse(np.array([3, 0, 2, 1]), [7, 8, 7, 8])
    (array([8, 7]), array([3, 0]))

    Args:
        rows: gallery rows, best first.
        item_N: item of each gallery row; for the array of items to have numbers, give numbers.

    Returns:
        Items, best first, and the row that won for each.
    """
    item = np.asarray(item_N)[rows]
    if len(item) and item.dtype.kind == "i" and item.min() >= 0 and item.max() < 4 * len(item):  # no sort needed
        place = np.empty(int(item.max()) + 1, np.int64)
        place[item[::-1]] = np.arange(len(item) - 1, -1, -1)  # the last one written stays: the first of each item
        first = np.flatnonzero(place[item] == np.arange(len(item)))
    else:
        first = np.sort(np.unique(item, return_index=True)[1])
    return item[first], rows[first]


def _vectors(values: ArrayLike, what: str) -> Floats:
    vectors = np.asarray(values, dtype=np.float64)
    if vectors.ndim != 2:
        raise ValueError(f"{what} vectors have shape {vectors.shape}, expected (N, D)")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} {what} vectors are not finite, the first is row {bad[0]}")
    return vectors


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length == 0, 1.0, length)
