"""How well vectors find images of the same label: validation images ask all others of the validation.

The formulas, the order of ties and what is left out (the image itself and its copies) are those of `aggregate` with
`query: image`, so the exported model through `jobs.score` gives the same numbers. Memory is one query's ranking.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aistudio.metrics import retrieval
from aistudio.metrics.ranking import Similarity, rankings, same_rows
from aistudio.training.labelled import LabelledRows

SHOWN = 6  # nearest images kept of each query
BARE = ("map_at_r", "map", "r_precision", "mrr")
AT_K = ("cmc", "recall", "precision")


class Judged(NamedTuple):
    """What the validation found. Queries are places in the judged rows, in their order."""

    metrics: dict[str, float]
    query: NDArray[np.int64]  # (Q,) with something relevant
    ap: NDArray[np.float64]  # (Q,)
    nearest: NDArray[np.int64]  # (Q, up to SHOWN) places of the nearest rows, best first


def queries_of(rows: LabelledRows, max_queries: int | None, seed: int) -> NDArray[np.int64]:
    """Return the places of labelled rows that ask: those that some other image can answer, or a sample of them."""
    codes = np.unique(rows.label.astype(str), return_inverse=True)[1]
    pairs = np.unique(np.stack([codes, np.unique(rows.content, return_inverse=True)[1]]), axis=1)
    different = np.bincount(pairs[0], minlength=codes.max(initial=-1) + 1)  # copies of one image answer nothing
    asks = np.flatnonzero((rows.label != "") & (different[codes] > 1))
    if max_queries is None or len(asks) <= max_queries:
        return asks
    return np.sort(np.random.default_rng(seed).choice(asks, max_queries, replace=False))


def judge(
    vectors: NDArray[np.float32], rows: LabelledRows, query: NDArray[np.int64], k: list[int], similarity: Similarity
) -> Judged:
    """Rank all rows for each query; `vectors` (N, D) are those of `rows`, `query` as `queries_of` gives it."""
    drop = same_rows(rows.content[query], rows.content)
    names, codes = np.unique(rows.label.astype(str), return_inverse=True)
    places, nearest = [], []
    for asked, order in zip(query, rankings(vectors[query], vectors, drop, similarity), strict=True):
        places.append(np.flatnonzero(codes[order] == codes[asked]) + 1)
        nearest.append(order[:SHOWN])
    at = np.repeat(np.arange(len(query)), [len(p) for p in places])
    items = retrieval.relevant(at, np.concatenate([np.empty(0, np.int64), *places]), len(query))
    found = retrieval.per_query_similar(items, k)
    wanted = [*BARE, *(f"{name}@{n}" for n in k for name in AT_K)]
    metrics = {name: float(found[name].mean()) for name in wanted}
    label = codes[query]
    metrics["map_macro"] = float(np.mean([found["map"][label == c].mean() for c in np.unique(label)]))
    width = min((len(order) for order in nearest), default=0)
    shown = np.array([order[:width] for order in nearest], np.int64).reshape(len(query), width)
    assert len(names)
    return Judged(metrics, query, np.asarray(found["map"]), shown)


def few_queries(judged: Judged, labels: NDArray[np.object_], count: int) -> list[int]:
    """Return places in `judged.query` of a few fixed queries, of different labels first."""
    first: dict[str, int] = {}
    for place, row in enumerate(judged.query.tolist()):
        first.setdefault(str(labels[row]), place)
    others = (place for place in range(len(judged.query)) if place not in first.values())
    return [*first.values(), *others][:count]
