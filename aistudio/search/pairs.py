"""Collects pairs of a query vector and a row during a pass: the nearly equal, the first and the best of each vector."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.index.sieve import Block, Survivors

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

NONE: Ints = np.empty(0, np.int64)


def first_of_each(pairs: tuple[Ints, Ints], most: int) -> tuple[Ints, Ints]:
    """Keep the first `most` pairs of each vector, in the order given within a vector."""
    sub, row = pairs
    order = np.argsort(sub, kind="stable")
    ordered = sub[order]
    start = np.searchsorted(ordered, ordered)
    kept = order[np.arange(len(order)) - start < most]
    return sub[kept], row[kept]


class Near:
    """Collects the rows whose true score is above the ceiling; a consumer of a sieve."""

    num_best = 1  # its threshold is always known

    def __init__(self, ceiling: float, num: int, most: int | None) -> None:
        self._ceiling, self._lowest_Q, self._most = ceiling, np.full(num, ceiling), most
        self.count = 0  # threads may lose a few of these: it is there to end the collecting some time
        self.found: list[tuple[Ints, Ints]] = []  # appended by several threads

    def thresholds(self, part: slice) -> Floats:
        return self._lowest_Q[part]

    def take(self, found: Survivors, part: slice, block: Block) -> None:
        error_S, score_S = block.error_Q[found.query_S], found.score_S.astype(np.float64)
        near_S = score_S > self._ceiling + error_S
        unsure = np.flatnonzero(~near_S & (score_S >= self._ceiling - error_S))
        near_S[unsure] = block.rescore(found.query_S[unsure], found.row_S[unsure]) > self._ceiling
        self.count += int(near_S.sum())
        if self._most is not None and self.count > self._most:
            self.found.clear()
        elif near_S.any():
            self.found.append((found.query_S[near_S], block.ids_N[found.row_S[near_S]]))

    def finish(self, part: slice, block: Block) -> None:
        """Nothing of a block is kept."""


def runs(values: Ints) -> Iterator[tuple[int, int]]:
    """Start and stop of each run of equal values."""
    cuts = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], cuts, [len(values)]]) if len(values) else np.zeros(1, np.int64)
    yield from ((a, b) for a, b in pairwise(starts.tolist()))


def together(a: tuple[Ints, Ints], b: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    return np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])


def joined(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    return (
        np.concatenate([NONE, *(sub for sub, _ in parts)]),
        np.concatenate([NONE, *(row for _, row in parts)]),
    )


def best_of(scores: Floats, ids: Ints, k: int) -> tuple[Floats, Ints]:
    """The K best of each query in order: scores downwards, then ids upwards; what is missing is last."""
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores), axis=-1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
