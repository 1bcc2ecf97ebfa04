"""Small parts of the lists: names of queries as names of their vectors, and how far a query's order is sure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from aistudio.search.pairs import Floats, Ints
from aistudio.search.qrels import Relevance, relevance
from aistudio.search.searched import texts_of


class ByText(Relevance):
    """Names compared with a column's values as texts."""

    def values_of(self, values: Mapping[str, pa.Array]) -> pa.Array:
        """Return the column as texts."""
        return texts_of(values[self.columns[0]])


def sure_rows(scores_VK: Floats, ids_VK: Ints, vectors_V: Ints) -> tuple[list[tuple[int, float, int]], bool]:
    """Rows of one query in order, up to the place where all its vectors have been searched; and whether that is all.

    A vector whose K places are all taken may have more rows behind its last one.
    """
    num, k = ids_VK.shape
    full = ids_VK[:, -1] >= 0
    score, row_id = scores_VK.ravel(), ids_VK.ravel()
    vector = np.repeat(vectors_V, k)
    order = np.lexsort((vector, row_id, -score))
    order = order[row_id[order] >= 0]
    if num > 1:
        _, first = np.unique(row_id[order], return_index=True)  # the best of the query's vectors counts
        order = order[np.sort(first)]
    if full.any():
        last = min((-s, i) for s, i in zip(scores_VK[full, -1].tolist(), ids_VK[full, -1].tolist(), strict=True))
        behind = (-score[order] > last[0]) | ((-score[order] == last[0]) & (row_id[order] > last[1]))
        order = order[~behind]
    rows = list(zip(row_id[order].tolist(), score[order].tolist(), vector[order].tolist(), strict=True))
    return rows, not full.any()


def relation_of(column: str, names: Sequence[str], query_I: Ints, query_S: Ints) -> Relevance:
    """Names of queries as names of their vectors, which stand together: query_S[i] is the query of vector i."""
    order = np.argsort(query_S, kind="stable")
    low, high = (np.searchsorted(query_S[order], query_I, side) for side in ("left", "right"))
    which = np.repeat(np.arange(len(query_I)), high - low)
    start = np.repeat(low - np.concatenate([[0], np.cumsum(high - low)[:-1]]) if len(low) else low, high - low)
    made = relevance([column], [names[i] for i in which.tolist()], order[start + np.arange(len(which))])
    return ByText(made.columns, made.names, made.start_I1, made.query_J, made.gain_J)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    one = column.combine_chunks()
    return one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one
