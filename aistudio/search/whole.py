"""Whole rankings of a gallery, query by query, in bounded memory: every row in its place, not only the best.

For metrics over whole rankings where very many rows are relevant (all of a category): to keep each relevant pair, as
search/exact.py does, would take rows squared. Scores are those of the exact search, bit for bit: float64, summed in an
order that depends on the width alone; equal scores in gallery order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aistudio.errors import StoreError
from aistudio.search.exact import Gallery
from aistudio.search.gallery import Vectors
from aistudio.search.pairs import Floats, Ints

BLOCK_SCORES = 16_000_000  # scores held at once: 128 MB
MOST_QUERIES = 1024  # ranked at once
HELD_BYTES = 256 * 2**20  # a gallery up to this stays in memory between blocks of queries
TILE_NUMBERS = 65_536  # of the gallery brought to float64 at once: they stay in cache for all queries


def queries_at_once(gallery_rows: int) -> int:
    """Return how many queries are ranked in one pass over the gallery."""
    return max(1, min(MOST_QUERIES, BLOCK_SCORES // max(1, gallery_rows)))


@dataclass(frozen=True)
class WholeGallery:
    """A gallery of `num_rows` rows of `width` numbers that is passed over again and again."""

    gallery: Gallery
    num_rows: int
    width: int
    block_rows: int

    def passes(self) -> "Passes":
        """Return what goes through the rows; a small gallery is read once."""
        return Passes(self)


class Passes:
    """Goes through the gallery's rows, from memory where they fit into HELD_BYTES."""

    def __init__(self, whole: WholeGallery) -> None:
        self.whole = whole
        self._held: list[Vectors] | None = None

    def blocks(self) -> Iterator[Vectors]:
        """Yield all rows."""
        whole = self.whole
        if self._held is None and 4 * whole.num_rows * whole.width <= HELD_BYTES:
            self._held = list(whole.gallery.blocks(whole.gallery.files, whole.block_rows, []))
        yield from self._held or whole.gallery.blocks(whole.gallery.files, whole.block_rows, [])

    def orders(self, queries_QD: NDArray[np.float32], tell: Callable[[int, int], None] | None = None) -> Iterator[Ints]:
        """Yield for each query all rows of the gallery by their place in it, best first.

        Args:
            queries_QD: not more than `queries_at_once`; memory holds their scores with every row.
            tell: hears of each block: its rows, and the number of queries.

        Raises:
            StoreError: vectors of another width, or another number of rows than before.
        """
        scores_QN, start = np.empty((len(queries_QD), self.whole.num_rows)), 0
        for block in self.blocks():
            stop = start + len(block.ids_N)
            if block.rows_ND.shape[1] != queries_QD.shape[1] or stop > self.whole.num_rows:
                raise StoreError(f"{self.whole.gallery.store.root}: the gallery changed while it was searched")
            scores_QN[:, start:stop] = all_scores(queries_QD, block.rows_ND)
            start = stop
            if tell is not None:
                tell(len(block.ids_N), len(queries_QD))
        for scores_N in scores_QN:
            yield best_first(scores_N)


def best_first(scores_N: Floats) -> Ints:
    """Return the order of some scores: higher first, equal ones in the order given.

    A stable sort would do; an unstable one whose ties are put in order afterwards takes a fraction of its time.

    >>> best_first(np.array([0.5, 1.0, 0.5])).tolist()
    [1, 0, 2]
    """
    order = np.argsort(-scores_N).astype(np.int64)
    ordered = scores_N[order]
    is_tied = ordered[1:] == ordered[:-1]
    if is_tied.any():
        tied = np.flatnonzero(np.append(is_tied, False) | np.append(False, is_tied))
        run = np.cumsum(np.append(True, ~is_tied))[tied]
        order[tied] = order[tied][np.lexsort((order[tied], run))]
    return order


def all_scores(queries_QD: NDArray[np.float32], rows_ND: NDArray[np.float32]) -> Floats:
    """Compute the inner products of all queries with all rows, (Q, N) float64, the same bits as `exact_scores`."""
    out = np.empty((len(queries_QD), len(rows_ND)))
    queries = queries_QD.astype(np.float64)[:, None, :]
    tile = max(1, TILE_NUMBERS // max(1, queries_QD.shape[1]))
    for start in range(0, len(rows_ND), tile):
        rows = rows_ND[start : start + tile].astype(np.float64)
        out[:, start : start + tile] = np.vecdot(queries, rows[None])
    return out
