"""Evaluation protocols of similar-item search, on vectors in memory: which rows each query is asked against.

(a) leave-self-out: every image asks all others: `drop` holds the query's own row.
(b) query and gallery apart: nothing is dropped, or the copies.
(c) item level: the gallery collapsed to items, the query's own item dropped, relevance by a column of the items.
(d) same item: relevant are the other images of the item, the query's row dropped; needs items with two images.
(e) new classes: (a) or (b) on classes that training never saw; the split is the caller's.

Rows that are dropped are neither relevant nor wrong: places count after their removal.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from aistudio.metrics.ranking import Similarity, collapse, rankings, relevant_by_label, same_rows
from aistudio.metrics.relevant import Floats, Ints, Relevant
from aistudio.metrics.retrieval import per_query_similar


def image_level(
    query_QD: ArrayLike,
    gallery_ND: ArrayLike,
    query_label_Q: ArrayLike,
    label_N: ArrayLike,
    drop: Sequence[ArrayLike] | None = None,
    similarity: Similarity = "cosine",
) -> tuple[Relevant, list[Ints]]:
    """Rank the gallery for each query (protocols a, b, d, e); relevant are the rows with the query's label.

    >>> items, ranked = image_level([[1, 0], [0, 1]], [[1, 0], [0, 1]], ["a", "a"], ["a", "a"], drop=[[0], [1]])
    >>> items.rank_P.tolist(), [r.tolist() for r in ranked]
    ([1, 1], [[1], [0]])

    Returns:
        Relevant rows with their places, and Q rankings of gallery rows. Without queries both are empty.
    """
    ranked = list(rankings(query_QD, gallery_ND, drop, similarity))
    return relevant_by_label(ranked, query_label_Q, label_N), ranked


def item_level(
    vector_ND: ArrayLike,
    item_N: ArrayLike,
    label_of_item: ArrayLike,
    query_row_Q: ArrayLike,
    similarity: Similarity = "cosine",
) -> tuple[Relevant, list[Ints]]:
    """Rank items for query images (protocol c): the best image of an item counts, the query's own item is left out.

    >>> vectors, item = [[1, 0], [0.9, 0.1], [0, 1], [0.5, 0.5]], [0, 0, 1, 2]
    >>> found, ranked = item_level(vectors, item, ["ring", "charm", "ring"], query_row_Q=[0])
    >>> found.rank_P.tolist(), [r.tolist() for r in ranked]
    ([1], [[2, 1]])

    Args:
        item_N: item number of each image, 0 .. I - 1.
        label_of_item: (I,) what makes two items relevant to each other.
        query_row_Q: rows of the images that ask.
    """
    vectors, item, query_row = np.asarray(vector_ND), np.asarray(item_N, dtype=np.int64), np.asarray(query_row_Q)
    own = item[query_row]
    ranked_rows = rankings(vectors[query_row], vectors, same_rows(own, item), similarity)
    ranked = [collapse(rows, item)[0] for rows in ranked_rows]
    label = np.asarray(label_of_item)
    return relevant_by_label(ranked, label[own], label), ranked


def evaluate(items: Relevant, ks: Sequence[int], label_Q: ArrayLike | None = None) -> dict[str, float]:
    """Average every metric over the queries that have something relevant: micro means, or means of class means.

    >>> from aistudio.metrics.relevant import relevant
    >>> evaluate(relevant([0, 1], [1, 4], num_queries=3), [1])["cmc@1"]
    0.5

    Args:
        label_Q: class of each query: the result is then the mean of class means (macro).

    Returns:
        name -> mean, and `num_queries`, the number of queries with something relevant. NaN where there is none.
    """
    kept, values = items.num_Q > 0, per_query_similar(items, ks)
    label = None if label_Q is None else np.asarray(label_Q)[kept]
    found = means({name: v[kept] for name, v in values.items()}, label)
    return found | {"num_queries": int(kept.sum())}


def means(values: Mapping[str, Floats], label_Q: ArrayLike | None = None) -> dict[str, float]:
    """Average values over queries (micro) or, with the class of each query, over class means (macro); NaN without any.

    >>> means({"map": np.array([1.0, 0.0, 0.5])}), means({"map": np.array([1.0, 0.0, 0.5])}, ["a", "b", "b"])
    ({'map': 0.5}, {'map': 0.625})
    """
    if label_Q is None:
        return {name: float(v.mean()) if len(v) else np.nan for name, v in values.items()}
    groups = list(classes(np.asarray(label_Q)).values())
    return {name: float(np.mean([v[g].mean() for g in groups])) if groups else np.nan for name, v in values.items()}


def by_class(items: Relevant, ks: Sequence[int], label_Q: ArrayLike) -> dict[object, dict[str, float]]:
    """Average every metric within each class of queries, in the order of the classes, with `num_queries` of each.

    A class whose queries have nothing relevant is left out.

    >>> from aistudio.metrics.relevant import relevant
    >>> found = by_class(relevant([0, 1], [1, 4], num_queries=3), [1], ["a", "b", "c"])
    >>> {label: means["map"] for label, means in found.items()}
    {'a': 1.0, 'b': 0.25}
    """
    kept, values = items.num_Q > 0, per_query_similar(items, ks)
    found = {name: v[kept] for name, v in values.items()}
    return {
        label: {name: float(v[rows].mean()) for name, v in found.items()} | {"num_queries": len(rows)}
        for label, rows in classes(np.asarray(label_Q)[kept]).items()
    }


def hits_curve(items: Relevant, max_rank: int) -> Floats:
    """Return the jewellery project's "recall" curve: relevant items found among the first k, over `max_rank`, k = 1 ...

    Means over the queries that have something relevant, (max_rank,) float64; NaN where there is none.

    >>> from aistudio.metrics.relevant import relevant
    >>> hits_curve(relevant([0, 0], [1, 3], num_queries=1), 4).tolist()
    [0.25, 0.25, 0.5, 0.5]
    """
    kept = items.num_Q > 0
    if not kept.any():
        return np.full(max_rank, np.nan)
    at_place = np.bincount(items.rank_P[items.rank_P <= max_rank], minlength=max_rank + 1)[1:]
    return np.asarray(np.cumsum(at_place) / (kept.sum() * max_rank))


def classes(label_Q: np.ndarray) -> dict[object, Ints]:
    """Places of each class's queries, ascending, in the order of the classes.

    >>> {label: rows.tolist() for label, rows in classes(np.array(["b", "a", "b"])).items()}
    {'a': [1], 'b': [0, 2]}
    """
    names, first = np.unique(label_Q[order := np.argsort(label_Q, kind="stable")], return_index=True)
    parts = np.split(order.astype(np.int64), first[1:]) if len(names) else []
    return dict(zip(names.tolist(), parts, strict=True))
