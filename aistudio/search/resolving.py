"""Finds what each query asks with: stored rows, a fresh picture, a text, or a picture and a text.

A query that cannot be asked gets a status and an error. Leaves out: models (scoring/query_vectors.py) and the search.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.models import Kind
from aistudio.runs.mapper import Mapper
from aistudio.schema import Status
from aistudio.search.gallery import File, unit_rows
from aistudio.search.keyed import SEPARATOR
from aistudio.search.listing import Asking, Naming
from aistudio.search.pairs import Ints
from aistudio.search.query_table import Query
from aistudio.search.scanning import Filter
from aistudio.search.stored import Rows, find_rows, stored_vectors
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store

BAD_QUERY, UNKNOWN, NO_VECTOR = "bad_query", "unknown_row", "no_vector"
SAME_ITEM, SAME_ROW, DUPLICATE = "same_item", "same_row", "duplicate"
FACTS = ("row_id", "item_id", "content_hash")
COMPOSED, _TEXT, _PICTURE, _ROW, _ITEM = "picture and text", "text", "picture", "row", "item"


@dataclass(frozen=True)
class Source:
    """The run whose stored rows ask; `is_searched`: it is the run that is searched."""

    store: Store
    files: Sequence[File]
    vectors: VectorColumn
    is_searched: bool = True


@dataclass
class Asked:
    """A query on its way into the search."""

    query: Query
    kind: str  # text, picture, row, item, or picture and text
    status: str = Status.OK.value
    error: str | None = None
    ids: list[int] = field(default_factory=list)  # of its stored rows, in the source
    row_ids: list[str] = field(default_factory=list)
    item_ids: list[str] = field(default_factory=list)  # of its picture or pictures
    hashes: list[str] = field(default_factory=list)
    vector_D: NDArray[np.float32] | None = None  # a unit row, where it is no stored row's
    thumbnail: bytes | None = None  # of a fresh picture
    filter_key: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it can be asked."""
        return self.status == Status.OK

    def fail(self, status: str, error: str) -> None:
        """Note why it cannot be asked; the first reason stays."""
        if self.ok:
            self.status, self.error = status, error


def sort_queries(queries: Sequence[Query], kind: Kind, model: str) -> list[Asked]:
    """Say of each query what it is, and refuse those that the model cannot answer.

    Args:
        kind, model: of the model whose vectors are searched, the latter for messages.
    """
    out = []
    for query in queries:
        has_picture = bool(query.row_id or query.image_url)
        what = _ROW if query.row_id else _PICTURE if query.image_url else _ITEM
        asked = Asked(query, (COMPOSED if has_picture else _TEXT) if query.text else what)
        if query.problem is not None:
            asked.fail(BAD_QUERY, query.problem)
        elif asked.kind == _TEXT and kind is not Kind.RECALL:
            need = "a picture beside it" if kind is Kind.COMPOSER else "a recall model (--model)"
            asked.fail(BAD_QUERY, f"a text needs {need}: {model} is a model of the kind {kind}")
        elif asked.kind == COMPOSED and kind is not Kind.COMPOSER:
            asked.fail(
                BAD_QUERY, f"a picture and a text need a composer (--model): {model} is a model of the kind {kind}"
            )
        out.append(asked)
    return out


def resolve_stored(asked: Sequence[Asked], source: Source, columns: Sequence[str], mapper: Mapper) -> None:
    """Find the stored rows of the queries that name a row or an item.

    Args:
        columns: further columns of the source, as texts; they go into `Query.values` where it lacks them.
    """
    todo = [a for a in asked if a.ok and (a.query.row_id or a.kind == _ITEM)]
    named = {
        "row_id": [a.query.row_id for a in todo if a.query.row_id],
        "item_id": [a.query.item_id for a in todo if not a.query.row_id and a.query.item_id],
    }
    wanted = {column: [n for n in names if n] for column, names in named.items() if names}
    if not wanted:
        return
    rows = find_rows(source.store, source.files, wanted, [*FACTS, *columns], mapper)
    places: dict[tuple[str, str | None], list[int]] = {}
    for i in range(len(rows)):
        for column in wanted:
            places.setdefault((column, rows.texts[column][i]), []).append(i)
    for one in todo:
        by = "row_id" if one.query.row_id else "item_id"
        name = one.query.row_id or one.query.item_id
        _give_rows(one, rows, places.get((by, name), []), f"{by} {name}", columns)


def items_of(rows: Rows, columns: Sequence[str]) -> list[Asked]:
    """Make a query of each item of some rows, in the order of their first rows."""
    places: dict[str, list[int]] = {}
    for i, item in enumerate(rows.texts["item_id"]):
        places.setdefault(item or "", []).append(i)
    out = []
    for item, of in places.items():
        asked = Asked(Query(item, item_id=item), _ITEM)
        _give_rows(asked, rows, of, f"item_id {item}", columns)
        out.append(asked)
    return out


def _give_rows(asked: Asked, rows: Rows, places: Sequence[int], name: str, columns: Sequence[str]) -> None:
    if not places:
        asked.fail(UNKNOWN, f"{name} is not in the run")
        return
    good = [i for i in places if rows.usable_N[i]]
    if not good:
        asked.fail(NO_VECTOR, f"{name}: no image of it is ok, so there is no vector to ask with")
        return
    asked.ids = rows.ids_N[good].tolist()
    for column, into in zip(FACTS, (asked.row_ids, asked.item_ids, asked.hashes), strict=True):
        into += dict.fromkeys(text for i in good if (text := rows.texts[column][i]) is not None)
    known = {c: rows.texts[c][good[0]] for c in columns}
    asked.query = Query(**{**asked.query.__dict__, "values": known | dict(asked.query.values)})


def set_filters(asked: Sequence[Asked], columns: Sequence[tuple[str, str]], separator: str | None) -> Filter | None:
    """Give each query the values that a row must have; a query without one of them fails."""
    if not columns:
        return None
    for one in asked:
        values = [one.query.values.get(theirs) or one.query.values.get(ours) for theirs, ours in columns]
        missing = [theirs for (theirs, _), value in zip(columns, values, strict=True) if not value]
        if missing:
            one.fail(BAD_QUERY, f"no value of {missing[0]}, by which search.filter chooses the rows")
        else:
            one.filter_key = SEPARATOR.join(value for value in values if value)
    keys = sorted({one.filter_key for one in asked if one.ok and one.filter_key is not None})
    return Filter(tuple(ours for _, ours in columns), pa.array(keys, pa.string()), separator)


def make_asking(
    asked: Sequence[Asked], source: Source, leave_out: Sequence[str], wanted: tuple[Naming, ...],
    chosen: Filter | None, mean: bool, mapper: Mapper,
) -> Asking:  # fmt: skip
    """Make the search's queries of those that are ok, numbered from 0 in their order.

    Args:
        leave_out: "item", "row", "copies".
        mean: a query of several stored rows asks with their mean.
    """
    ids = [[np.array(one.ids, np.int64)] if mean else [np.array([i], np.int64) for i in one.ids] for one in asked]
    parts = [[None] if one.vector_D is not None else own for one, own in zip(asked, ids, strict=True)]
    query_S = np.repeat(np.arange(len(asked)), [len(p) for p in parts])
    flat = [part for own in parts for part in own]
    codes = None
    if chosen is not None:
        places = {key: i for i, key in enumerate(chosen.values.to_pylist())}
        codes = np.array([places[one.filter_key or ""] for one in asked], np.int64)
    return Asking(
        query_S, _vectors(asked, query_S, flat, source, mapper), _left_out(asked, leave_out, source.is_searched),
        wanted, chosen, codes,
    )  # fmt: skip


def _vectors(
    asked: Sequence[Asked], query_S: Ints, ids_S: Sequence[Ints | None], source: Source, mapper: Mapper
) -> Callable[[Ints], NDArray[np.float32]]:
    def read(numbers: Ints) -> NDArray[np.float32]:
        stored = [(place, ids) for place, s in enumerate(numbers.tolist()) if (ids := ids_S[s]) is not None]
        rows = np.zeros((0, 0), np.float32)
        if stored:
            whole = np.concatenate([ids for _, ids in stored])
            rows = stored_vectors(source.store, source.files, whole, source.vectors, mapper)
        given = [(place, asked[query_S[s]].vector_D) for place, s in enumerate(numbers.tolist()) if ids_S[s] is None]
        width = rows.shape[1] if stored else len(given[0][1]) if given and given[0][1] is not None else 1
        out = np.zeros((len(numbers), width), np.float32)
        if stored:
            owner = np.repeat(np.arange(len(stored)), [len(ids) for _, ids in stored])
            places = np.array([place for place, _ in stored])
            if len(owner) == len(stored):
                out[places] = rows
            else:
                sums = np.zeros((len(stored), width))
                np.add.at(sums, owner, rows.astype(np.float64))  # one after the other, in the order of the gallery
                out[places] = unit_rows(sums)
        for place, vector in given:
            out[place] = vector
        return out

    return read


def _left_out(asked: Sequence[Asked], leave_out: Sequence[str], is_searched: bool) -> tuple[Naming, ...]:
    kinds: list[tuple[str, str, Callable[[Asked], list[str]]]] = []
    if "item" in leave_out:
        kinds.append((SAME_ITEM, "item_id", lambda one: one.item_ids))
    if "row" in leave_out and is_searched:
        kinds.append((SAME_ROW, "row_id", lambda one: one.row_ids))
    if "copies" in leave_out:
        kinds.append((DUPLICATE, "content_hash", lambda one: one.hashes))
    return tuple(naming(reason, column, [names(one) for one in asked]) for reason, column, names in kinds)


def naming(reason: str, column: str, names_Q: Sequence[Sequence[str]]) -> Naming:
    """Make a naming from each query's names."""
    query = np.repeat(np.arange(len(names_Q)), [len(names) for names in names_Q])
    return Naming(reason, column, [name for names in names_Q for name in names], query)
