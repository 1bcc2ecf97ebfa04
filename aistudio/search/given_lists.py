"""Ranks made from given scores: of queries and rows, or of an item's own rows. Stands in for the search by vectors.

A list holds the scored rows, highest first, equal scores in manifest order; rows of the gallery that have no score come
behind them in manifest order, so that every relevant row has a rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.runs.mapper import Mapper
from aistudio.schema import Status
from aistudio.search.alignment import whole
from aistudio.search.exact import HISTOGRAM_BINS, Found, Gallery
from aistudio.search.gallery import ID_STEP
from aistudio.search.pace import Pace
from aistudio.search.qrels import Relevance
from aistudio.search.queries import Queries

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
SCORED_ALONE = -np.inf  # stands for the score of a row that has none


class RowScores(NamedTuple):
    """A score for each of a run's N rows, NaN where there is none; ids ascending."""

    id_N: Ints
    scores_N: Floats

    def at(self, ids: Ints) -> Floats:
        """Return the scores of some rows, by their ids."""
        return self.scores_N[np.searchsorted(self.id_N, ids)]

    def of_file(self, number: int, num_rows: int) -> Floats:
        """Return the scores of a score file's rows."""
        start = int(np.searchsorted(self.id_N, number * ID_STEP))
        return self.scores_N[start : start + num_rows]


@dataclass(frozen=True)
class ListFinder:
    """Finds the lists of queries in given scores."""

    triples: tuple[Ints, Ints, Floats] = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    own: Relevance | None = None  # a query's gallery are these rows alone; None: every ok row
    scores: RowScores | None = None  # of a query's own rows, in place of `triples`: query, id of a row, score (T,)

    def __call__(
        self, gallery: Gallery, queries: Queries, k: int, block_rows: int, mapper: Mapper, pace: Pace
    ) -> Found:  # fmt: skip
        """Return the top K of each query and the rank of each relevant row, as `search.exact.search` does."""
        rows = _Rows(gallery, queries, self.own)
        num = max(len(rows.ids_N), 1)
        query, row_id, score = self.triples if self.scores is None else _own_triples(rows, self.scores, num)
        place = np.minimum(np.searchsorted(rows.ids_N, row_id), num - 1)
        here = rows.ids_N[place] == row_id if len(rows.ids_N) else np.zeros(len(row_id), bool)
        code = query * num + place
        here &= ~np.isin(code, rows.out_J)
        if rows.own_J is not None:
            here &= np.isin(code, rows.own_J)
        code, score = code[here], score[here]
        order = np.lexsort((code, -score, code // num))
        listed = code[order]
        first = np.searchsorted(listed // num, listed // num)
        rank = np.arange(len(listed)) - first + 1
        by_code = np.argsort(listed)
        pairs = _ranks(rows, num, listed[by_code], rank[by_code], score[order][by_code])
        scores, ids = _top(len(queries), k, listed, rank, score[order], num, rows.ids_N)
        nothing = np.empty(0, np.int64), np.zeros(HISTOGRAM_BINS, np.int64)
        code_P, gain_P, score_P, rank_P = pairs
        return Found(
            code_P // num, rows.ids_N[code_P % num] if len(code_P) else code_P, score_P, gain_P, rank_P,
            scores, ids, *nothing, len(rows.ids_N),
        )  # fmt: skip


class _Rows:
    """Ids of the gallery's rows, and codes (query * N + place of the row) of what queries have to do with them."""

    def __init__(self, gallery: Gallery, queries: Queries, own: Relevance | None) -> None:
        relations = [queries.relevance, *queries.left_out, *([own] if own is not None else [])]
        columns = list(dict.fromkeys(c for relation in relations for c in relation.columns))
        ids: list[Ints] = [np.empty(0, np.int64)]
        found: list[list[tuple[Ints, ...]]] = [[] for _ in relations]
        start = 0
        for ids_N, values in ok_blocks(gallery, columns):
            for number, relation in enumerate(relations):
                row, query, gain = relation.pairs(values)
                found[number].append((query, row + start, gain))
            ids.append(ids_N)
            start += len(ids_N)
        self.ids_N, num = np.concatenate(ids), max(start, 1)
        joined = [_joined(parts) for parts in found]
        codes = [query * num + row for query, row, _ in joined]
        outs = codes[1 : 1 + len(queries.left_out)]
        self.out_J = np.unique(np.concatenate([np.empty(0, np.int64), *outs]))
        self.own_J = None if own is None else np.setdiff1d(codes[-1], self.out_J)
        kept = ~np.isin(codes[0], self.out_J)
        if self.own_J is not None:
            kept &= np.isin(codes[0], self.own_J)
        self.relevant_J, self.gain_J = codes[0][kept], joined[0][2][kept]


def _own_triples(rows: _Rows, scores: RowScores, num: int) -> tuple[Ints, Ints, Floats]:
    assert rows.own_J is not None
    ids = rows.ids_N[rows.own_J % num] if len(rows.own_J) else rows.own_J
    score = scores.at(ids)
    has = ~np.isnan(score)
    return (rows.own_J // num)[has], ids[has], score[has]


def _ranks(rows: _Rows, num: int, listed: Ints, rank: Ints, score: Floats) -> tuple[Ints, Floats, Floats, Ints]:
    """Code, gain, score and rank of each relevant pair; `listed` are the codes of scored pairs, ascending."""
    code = rows.relevant_J
    at = np.minimum(np.searchsorted(listed, code), max(len(listed) - 1, 0))
    has = listed[at] == code if len(listed) else np.zeros(len(code), bool)
    out_rank, out_score = np.zeros(len(code), np.int64), np.full(len(code), SCORED_ALONE)
    out_rank[has], out_score[has] = rank[at[has]], score[at[has]]
    rest = code[~has]
    start = rest // num * num

    def between(codes: Ints) -> Ints:
        """How many of a query's codes lie before each of `rest`."""
        return np.asarray(np.searchsorted(codes, rest) - np.searchsorted(codes, start))

    before = rest - start - between(rows.out_J) if rows.own_J is None else between(rows.own_J)
    scored = np.searchsorted(listed, start + num) - np.searchsorted(listed, start)
    out_rank[~has] = scored + before - between(listed) + 1
    return code, rows.gain_J, out_score, out_rank


def _top(
    num_queries: int, k: int, listed: Ints, rank: Ints, score: Floats, num: int, ids_N: Ints
) -> tuple[Floats, Ints]:  # fmt: skip
    scores, ids = np.full((num_queries, k), -np.inf), np.full((num_queries, k), -1, np.int64)
    kept = rank <= k
    place = (listed[kept] // num, rank[kept] - 1)
    if len(listed):
        scores[place], ids[place] = score[kept], ids_N[listed[kept] % num]
    return scores, ids


def ok_blocks(gallery: Gallery, columns: Sequence[str]) -> Iterator[tuple[Ints, dict[str, pa.Array]]]:
    """Yield ids of the gallery's rows and the values of some columns, a file at a time; no vectors are read."""
    wanted = list(dict.fromkeys([*columns, "row_id", "status"]))
    for number, key in gallery.files:
        table = gallery.store.read_table(key, wanted, verify=True)
        kept = pc.equal(table["status"], Status.OK.value)
        if gallery.left_out is not None:
            kept = pc.and_(kept, pc.invert(pc.is_in(table["row_id"], value_set=gallery.left_out)))
        rows = np.flatnonzero(kept.to_numpy(zero_copy_only=False))
        values = {c: whole(table[c].take(pa.array(rows))) for c in columns}
        yield number * ID_STEP + rows, values


def _joined(parts: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    return tuple(np.concatenate(column) for column in zip(nothing, *parts, strict=True))
