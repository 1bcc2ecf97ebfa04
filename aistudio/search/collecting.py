"""Collects what the lines of a table give: scores, vectors, or scores of queries and rows. See alignment.py."""

from collections import Counter
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.search.alignment import (
    DUPLICATE,
    FAILED_ROW,
    NO_KEY,
    NO_VECTOR,
    NOT_A_NUMBER,
    UNKNOWN_ROW,
    UNKNOWN_TEXT,
    WRONG_WIDTH,
    Account,
    Given,
    Ints,
    RowIndex,
    lines_of,
)
from aistudio.search.given_table import GivenTable, Lines

Bools = NDArray[np.bool_]
UNIT = 1e-5  # a length that differs from 1 by less is that of a unit row in float32


class Collector(Protocol):
    """Takes lines and returns what they gave."""

    def add(self, lines: Lines, good: Bools) -> None:
        """Take the lines that are `good`; the others are accounted for already."""

    def result(self) -> Given:
        """Return everything."""


def collector_for(table: GivenTable, index: RowIndex, account: Account, folder: Path) -> Collector:
    """Return the collector for what the table holds."""
    if table.is_vector:
        return _Vectors(table, index, account, folder)
    return _Triples(table, index, account) if table.has_query else _Scores(table, index, account)


class _Base:
    def __init__(self, table: GivenTable, index: RowIndex, account: Account) -> None:
        self.table, self.index, self.account = table, index, account
        self.has_N = np.zeros(len(index), bool)

    def tell(self, reason: str, lines: Lines, places: Ints) -> None:
        """Account for lines that are not used."""
        self.account.add(reason, list(lines_of(lines.number_N, lines.keys, places)))

    def rows(self, lines: Lines, good: Bools) -> tuple[Ints, Ints]:
        """The pairs of a good line and an ok row that it means; lines of unknown and failed rows are accounted for."""
        line, row = self.index.find(lines.keys)
        known, usable = np.zeros(len(good), bool), np.zeros(len(good), bool)
        known[line] = True
        ok = self.index.ok_N[row]
        usable[line[ok]] = True
        self.tell(UNKNOWN_ROW, lines, np.flatnonzero(good & ~known))
        self.tell(FAILED_ROW, lines, np.flatnonzero(good & known & ~usable))
        kept = good[line] & ok
        return line[kept], row[kept]

    def first_of_each(self, lines: Lines, line: Ints, row: Ints) -> tuple[Ints, Ints]:
        """Return the pairs whose row has no line yet; a line whose row has one is counted as a duplicate."""
        _, first = np.unique(row, return_index=True)  # lines come in order, so the first pair is the first line's
        kept = np.zeros(len(row), bool)
        kept[first] = True
        kept &= ~self.has_N[row]
        self.has_N[row[kept]] = True
        used = np.unique(line[kept])
        self.account.used += len(used)
        self.tell(DUPLICATE, lines, np.setdiff1d(line, used))
        return line[kept], row[kept]


class _Scores(_Base):
    """A score for a row."""

    def __init__(self, table: GivenTable, index: RowIndex, account: Account) -> None:
        super().__init__(table, index, account)
        self.scores_N = np.full(len(index), np.nan)

    def add(self, lines: Lines, good: Bools) -> None:
        assert lines.scores_N is not None
        none = np.isnan(lines.scores_N)
        self.tell(NOT_A_NUMBER, lines, np.flatnonzero(good & none))
        line, row = self.first_of_each(lines, *self.rows(lines, good & ~none))
        self.scores_N[row] = lines.scores_N[line]

    def result(self) -> Given:
        return Given(self.table, self.index, self.account, self.has_N, scores_N=self.scores_N)


class _Triples(_Base):
    """A score for a query and a row."""

    def __init__(self, table: GivenTable, index: RowIndex, account: Account) -> None:
        super().__init__(table, index, account)
        self.queries: dict[str, int] = {}
        self.parts: list[tuple[Ints, Ints, NDArray[np.float64], Ints]] = []

    def add(self, lines: Lines, good: Bools) -> None:
        assert lines.scores_N is not None and lines.queries is not None
        none, nameless = np.isnan(lines.scores_N), np.array([query is None for query in lines.queries], bool)
        self.tell(NO_KEY, lines, np.flatnonzero(good & nameless))
        self.tell(NOT_A_NUMBER, lines, np.flatnonzero(good & ~nameless & none))
        line, row = self.rows(lines, good & ~none & ~nameless)
        code = np.array([self.queries.setdefault(name or "", len(self.queries)) for name in lines.queries], np.int64)
        self.has_N[row] = True
        self.parts.append((code[line], row, lines.scores_N[line], lines.number_N[line]))

    def result(self) -> Given:
        nothing = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
        query, row, score, number = (np.concatenate(part) for part in zip(nothing, *self.parts, strict=True))
        order = np.lexsort((number, row, query))
        query, row, score, number = query[order], row[order], score[order], number[order]
        again = np.append(False, (query[1:] == query[:-1]) & (row[1:] == row[:-1]))
        used = np.unique(number[~again])
        double = np.setdiff1d(number[again], used)
        self.account.used += len(used)
        self.account.add(DUPLICATE, [(int(n), None) for n in double])
        kept = (query[~again], row[~again], score[~again], number[~again])
        return Given(self.table, self.index, self.account, self.has_N, queries=tuple(self.queries), triples=kept)


class _Vectors(_Base):
    """A vector for a row, or for a text."""

    def __init__(self, table: GivenTable, index: RowIndex, account: Account, folder: Path) -> None:
        super().__init__(table, index, account)
        self.path, self.width = folder / "vectors.f32", 0
        self.vectors_ND: np.memmap[tuple[int, int], np.dtype[np.float32]] | None = None
        self.text_vectors: dict[str, NDArray[np.float32]] = {}

    def add(self, lines: Lines, good: Bools) -> None:
        assert lines.vectors is not None
        lengths = pc.fill_null(pc.list_value_length(lines.vectors), -1).to_numpy(zero_copy_only=False)
        if not self.width:
            common = Counter(lengths[good & (lengths > 0)].tolist()).most_common(1)
            self.width = common[0][0] if common else 0
        if self.width and self.vectors_ND is None:
            self.vectors_ND = np.memmap(self.path, np.float32, "w+", shape=(max(1, len(self.index)), self.width))
        place_M, unit_MD = _unit_rows(lines.vectors, lengths, self.width)
        of_line = np.full(len(good), -1, np.int64)
        of_line[place_M] = np.arange(len(place_M))
        wide = (lengths > 0) & (lengths != self.width)
        self.tell(WRONG_WIDTH, lines, np.flatnonzero(good & wide))
        self.tell(NO_VECTOR, lines, np.flatnonzero(good & ~wide & (of_line < 0)))
        usable = good & (of_line >= 0)
        named = np.array([key is not None for key in lines.keys], bool)
        self._texts(lines, np.flatnonzero(usable & ~named), of_line, unit_MD)
        line, row = self.first_of_each(lines, *self.rows(lines, usable & named))
        if len(row):
            assert self.vectors_ND is not None
            self.vectors_ND[row] = unit_MD[of_line[line]]

    def _texts(self, lines: Lines, places: Ints, of_line: Ints, unit_MD: NDArray[np.float32]) -> None:
        texts, unknown, double = lines.texts or [], [], []
        for i in places.tolist():
            text = texts[i] or ""
            if text in self.text_vectors:
                double.append((int(lines.number_N[i]), text))
            elif not self.index.has_text(text):
                unknown.append((int(lines.number_N[i]), text))
            else:
                self.text_vectors[text] = unit_MD[of_line[i]]
                self.account.used += 1
        self.account.add(UNKNOWN_TEXT, unknown)
        self.account.add(DUPLICATE, double)

    def result(self) -> Given:
        vectors = self.vectors_ND if self.vectors_ND is not None else np.zeros((len(self.index), 0), np.float32)
        return Given(
            self.table, self.index, self.account, self.has_N, vectors_ND=vectors, text_vectors=self.text_vectors
        )


def _unit_rows(vectors: pa.ListArray, lengths: Ints, width: int) -> tuple[Ints, NDArray[np.float32]]:
    """Places of the vectors of this width that are finite and not zero, and they as unit rows, float32.

    Rows whose length is 1 up to rounding stay as they are.
    """
    if not width:
        return np.empty(0, np.int64), np.zeros((0, 0), np.float32)
    places = np.flatnonzero(lengths == width)
    flat = vectors.take(pa.array(places)).flatten().to_numpy(zero_copy_only=False)
    rows_MD = np.asarray(flat, np.float64).reshape(-1, width)  # a null number is NaN
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        scale = np.abs(rows_MD).max(axis=1, keepdims=True)  # squares of huge and of tiny numbers stay finite
        scaled = rows_MD / scale
        length = np.linalg.norm(scaled, axis=1, keepdims=True)
        unit_MD = np.where(np.abs(length * scale - 1) < UNIT, rows_MD, scaled / length)
    good = np.isfinite(unit_MD).all(axis=1)
    return places[good], unit_MD[good].astype(np.float32)
