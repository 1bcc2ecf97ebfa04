"""The best results of each query: passes over the gallery until every list is full or the gallery is at its end.

A pass gives each query vector its K best eligible rows. From them a query takes results in order: one for each item, at
most n of a diversity value, none that is nearly equal to it. Where that leaves fewer than were asked for, the next pass
skips what is settled (the items found, the values that are full) and goes on, so that each pass adds at least one
result and memory does not grow with the size of an item. A query with several vectors scores a row by the best of them.

One answer, whatever the blocks, files and mapper: scores and order are those of index/.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aistudio.runs.mapper import Mapper
from aistudio.search.naming import relation_of, sure_rows
from aistudio.search.pairs import Floats, Ints
from aistudio.search.qrels import Relevance
from aistudio.search.reading import FromFiles, Reader
from aistudio.search.scanning import Filter, Part, Pass
from aistudio.search.searched import Searchable

VECTOR_CHUNK = 16_384  # query vectors of a pass, unless one query alone has more
FIRST_ROWS = 3  # rows of an item that the first pass allows for
SPARE = 16
MOST_ROWS = 1_024  # K of a later pass
MOST_NEAR = 4_000_000  # nearly equal pairs of a pass; of more, the chunk is searched in halves


class Naming(NamedTuple):
    """Rows that belong to queries by a column: `names[i]` belongs to query `query_I[i]`, ascending."""

    reason: str
    column: str
    names: Sequence[str]
    query_I: Ints


@dataclass(frozen=True)
class Rules:
    """What a list may hold. `diversify`: (column, most results of a value)."""

    top_n: int
    key: str  # "item_id" or "row_id": what a result is
    diversify: tuple[tuple[str, int], ...] = ()
    ceiling: float | None = None
    explain: int = 10
    block_rows: int = 32_768


@dataclass(frozen=True)
class Asking:
    """Q queries with S vectors.

    vectors: takes ascending numbers of vectors and returns them, (n, D) float32 unit rows.
    """

    query_S: Ints  # ascending
    vectors: Callable[[Ints], NDArray[np.float32]]
    leave_out: tuple[Naming, ...] = ()
    wanted: tuple[Naming, ...] = ()  # relevant rows
    filter: Filter | None = None
    code_Q: Ints | None = None  # of each query, where there is a filter

    @property
    def num_queries(self) -> int:
        """Q; every query has at least one vector."""
        return int(self.query_S[-1]) + 1 if len(self.query_S) else 0


@dataclass(frozen=True)
class Lists:
    """Results of some queries, in the order of query and rank; ids are places in the gallery (search/gallery.py)."""

    query_R: Ints
    rank_R: Ints  # from 1
    id_R: Ints
    score_R: Floats
    vector_R: Ints  # which of the query's vectors found it, from 0
    left_out: list[tuple[int, int, str]]  # query, id, reason
    relevant: tuple[Ints, Ints]  # query and id of the relevant rows that are eligible, each once
    rows: int  # that the gallery has


def best_lists(gallery: Searchable, asking: Asking, rules: Rules, mapper: Mapper) -> Iterator[Lists]:
    """Yield the results of consecutive queries, some thousands at a time. Raises StoreError for a damaged file."""
    yield from lists_from(FromFiles(gallery, mapper, rules.block_rows), asking, rules)


def lists_from(reader: Reader, asking: Asking, rules: Rules) -> Iterator[Lists]:
    """As `best_lists`, from whatever makes the passes."""
    for start, stop in _chunks(asking.query_S):
        yield from _searched(reader, asking, rules, (start, stop))


def _searched(reader: Reader, asking: Asking, rules: Rules, chunk: tuple[int, int]) -> Iterator[Lists]:
    """Search a chunk, in halves where it has too many nearly equal rows to hold."""
    start, stop = chunk
    found = _Chunk(reader, asking, rules, chunk).lists()
    if found is not None:
        yield found
        return
    middle = (start + stop) // 2
    yield from _searched(reader, asking, rules, (start, middle))
    yield from _searched(reader, asking, rules, (middle, stop))


def _chunks(query_S: Ints) -> Iterator[tuple[int, int]]:
    """First and last query (excluded) of chunks with at most VECTOR_CHUNK vectors, or one query."""
    start, num = 0, int(query_S[-1]) + 1 if len(query_S) else 0
    first_S = np.searchsorted(query_S, np.arange(num + 1))
    while start < num:
        stop = int(np.searchsorted(first_S, first_S[start] + VECTOR_CHUNK, side="right")) - 1
        yield start, max(stop, start + 1)
        start = max(stop, start + 1)


@dataclass
class _State:
    """A query on its way to its list."""

    results: list[tuple[int, float, int]] = field(default_factory=list)  # id, score, vector
    keys: set[str] = field(default_factory=set)
    counts: list[dict[str, int]] = field(default_factory=list)  # per diversity column
    near: set[int] = field(default_factory=set)
    told: list[tuple[int, str]] = field(default_factory=list)  # id, reason
    done: bool = False

    def full(self, column: int, most: int) -> list[str]:
        return [value for value, count in self.counts[column].items() if count >= most]


class _Chunk:
    """Queries start .. stop - 1, searched."""

    def __init__(self, reader: Reader, asking: Asking, rules: Rules, chunk: tuple[int, int]) -> None:
        self.reader, self.asking, self.rules = reader, asking, rules
        self.start, self.stop = chunk
        low, high = np.searchsorted(asking.query_S, chunk)
        self.first_sub, self.query_S = int(low), asking.query_S[low:high] - self.start
        self.vectors = asking.vectors(np.arange(low, high))
        self.states = [_State(counts=[{} for _ in rules.diversify]) for _ in range(self.stop - self.start)]
        self.relevant: tuple[Ints, Ints] = (np.empty(0, np.int64), np.empty(0, np.int64))

    def lists(self) -> Lists | None:
        """Search until every list is done; None: too many nearly equal rows for this many queries at once."""
        k = self.rules.top_n * FIRST_ROWS + SPARE
        pending, rows, is_first = np.arange(len(self.query_S)), 0, True
        while len(pending):
            subs = self._by_code(pending)
            part = self._part(subs, k, is_first)
            found = self.reader.scan(part)
            if found.near is None:
                return None
            if is_first:
                rows = found.rows
                self._note_first(found, part, subs)
            self._take(found, subs)
            pending = pending[[not self.states[q].done for q in self.query_S[pending]]]
            k, is_first = min(2 * k, max(MOST_ROWS, k)), False
        return self._result(rows)

    def _by_code(self, pending: Ints) -> Ints:
        """Numbers of vectors ordered by their filter's code; those of a query stay together."""
        if self.asking.code_Q is None:
            return pending
        return pending[np.argsort(self.asking.code_Q[self.start + self.query_S[pending]], kind="stable")]

    def _part(self, subs: Ints, k: int, is_first: bool) -> Part:
        asking, rules = self.asking, self.rules
        query_S = self.query_S[subs]
        skips = [self._naming(n, query_S) for n in asking.leave_out]
        ids, id_subs = np.empty(0, np.int64), np.empty(0, np.int64)
        if not is_first:
            skips += self._settled(query_S)
            ids, id_subs = self._settled_ids(query_S)
        return Part(
            self.vectors[subs], k, tuple(skips), ids, id_subs, asking.filter,
            np.empty(0, np.int64) if asking.code_Q is None else asking.code_Q[self.start + query_S],
            rules.ceiling if is_first else None,
            tuple(self._naming(n, query_S) for n in asking.wanted) if is_first else (),
            rules.explain if is_first else 0,
            None if self.stop - self.start == 1 else MOST_NEAR,
        )  # fmt: skip

    def _naming(self, naming: Naming, query_S: Ints) -> Relevance:
        """The names of the queries that are asked, each for all vectors of its query."""
        low, high = np.searchsorted(naming.query_I, [self.start, self.stop])
        return relation_of(naming.column, naming.names[low:high], naming.query_I[low:high] - self.start, query_S)

    def _settled(self, query_S: Ints) -> list[Relevance]:
        """Items that were found and diversity values that are full, of the queries that go on."""
        asked = np.unique(query_S)
        found = []
        if self.rules.key == "item_id":
            pairs = [(key, q) for q in asked for key in self.states[q].keys]
            found.append(relation_of("item_id", [k for k, _ in pairs], np.array([q for _, q in pairs], int), query_S))
        for number, (column, most) in enumerate(self.rules.diversify):
            pairs = [(value, q) for q in asked for value in self.states[q].full(number, most)]
            found.append(relation_of(column, [v for v, _ in pairs], np.array([q for _, q in pairs], int), query_S))
        return found

    def _settled_ids(self, query_S: Ints) -> tuple[Ints, Ints]:
        """Rows that are nearly equal to the query, and where rows are results those that were found, by id."""
        by_row = self.rules.key == "row_id"
        ids: dict[int, list[int]] = {}
        for q in np.unique(query_S).tolist():
            state = self.states[q]
            ids[q] = [*state.near, *((row_id for row_id, _, _ in state.results) if by_row else ())]
        pairs = np.array([(row_id, sub) for sub, q in enumerate(query_S.tolist()) for row_id in ids[q]], np.int64)
        pairs = pairs.reshape(-1, 2)
        order = np.argsort(pairs[:, 0], kind="stable")
        return pairs[order, 0], pairs[order, 1]

    def _note_first(self, found: Pass, part: Part, subs: Ints) -> None:
        """Take over what only the first pass looks for: nearly equal rows, some skipped rows, relevant rows."""
        query_S = self.query_S[subs]
        assert found.near is not None
        for sub, row_id in zip(*(column.tolist() for column in found.near), strict=True):
            self.states[query_S[sub]].near.add(row_id)
        for naming, (sub_J, id_J) in zip(self.asking.leave_out, found.skipped, strict=True):
            for q, row_id in sorted(set(zip(query_S[sub_J].tolist(), id_J.tolist(), strict=True))):
                self._tell(self.states[q], row_id, naming.reason)
        for state in self.states:
            for row_id in sorted(state.near):
                self._tell(state, row_id, "duplicate")
        pairs = {
            (q, row_id)
            for sub_J, id_J in found.wanted
            for q, row_id in zip(query_S[sub_J].tolist(), id_J.tolist(), strict=True)
            if row_id not in self.states[q].near
        }
        ordered = np.array(sorted(pairs), np.int64).reshape(-1, 2)
        self.relevant = ordered[:, 0], ordered[:, 1]

    def _tell(self, state: _State, row_id: int, reason: str) -> None:
        if (
            all(row_id != told for told, _ in state.told)
            and sum(r == reason for _, r in state.told) < self.rules.explain
        ):
            state.told.append((row_id, reason))

    def _take(self, found: Pass, subs: Ints) -> None:
        """Give each query the results that are sure now."""
        columns = list(dict.fromkeys([self.rules.key, *(column for column, _ in self.rules.diversify)]))
        ids = np.unique(found.ids_SK[found.ids_SK >= 0])
        texts = self.reader.texts(ids, columns)
        query_S = self.query_S[subs]
        cuts = np.flatnonzero(np.diff(query_S)) + 1
        for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), len(subs)], strict=True):
            q = int(query_S[a])
            first_sub = int(np.searchsorted(self.query_S, q))
            rows, complete = sure_rows(found.scores_SK[a:b], found.ids_SK[a:b], subs[a:b] - first_sub)
            places = np.searchsorted(ids, [row_id for row_id, _, _ in rows])
            state = self.states[q]
            for row, place in zip(rows, places.tolist(), strict=True):
                if len(state.results) == self.rules.top_n:
                    break
                self._consider(state, row, {c: texts[c][place] for c in columns})
            state.done = complete or len(state.results) == self.rules.top_n

    def _consider(self, state: _State, row: tuple[int, float, int], texts: dict[str, str | None]) -> None:
        """Take a row as the query's next result unless a rule is against it."""
        key = texts[self.rules.key] or ""
        if row[0] in state.near or key in state.keys:
            return
        values = [texts[column] for column, _ in self.rules.diversify]
        for (column, most), value, counts in zip(self.rules.diversify, values, state.counts, strict=True):
            if value is not None and counts.get(value, 0) >= most:
                self._tell(state, row[0], f"diversify:{column}")
                return
        for value, counts in zip(values, state.counts, strict=True):
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
        state.keys.add(key)
        state.results.append(row)

    def _result(self, rows: int) -> Lists:
        flat = [(q, i + 1, *row) for q, state in enumerate(self.states) for i, row in enumerate(state.results)]
        query, rank, row_id, score, vector = zip(*flat, strict=True) if flat else ((), (), (), (), ())
        left_out = [(q + self.start, *one) for q, state in enumerate(self.states) for one in state.told]
        return Lists(
            np.array(query, np.int64) + self.start, np.array(rank, np.int64), np.array(row_id, np.int64),
            np.array(score, np.float64), np.array(vector, np.int64), left_out,
            (self.relevant[0] + self.start, self.relevant[1]), rows,
        )  # fmt: skip
