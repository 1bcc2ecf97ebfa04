"""Passes over a gallery that is held in memory: the quick twin of reading.FromFiles, with the same answers.

Rows are numbered 0 .. N - 1 in the order of the gallery. Leaves out: files (local_copy.py) and rules (listing.py).
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import ConfigError
from aistudio.index.int8 import Int8Sieve, Mask, Wanted
from aistudio.search.local_copy import KEYS, Copy, whole_texts
from aistudio.search.pairs import NONE, Floats, Ints, first_of_each
from aistudio.search.scanning import Part, Pass
from aistudio.search.searched import passes, texts_of, where_of
from aistudio.values import NUMBER_TEXT

MASKS_KEPT = 32
TOGETHER = 16  # queries of one product


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; None: no limit."""

    low: float | None = None
    high: float | None = None


Condition = str | int | float | bool | Sequence[str | int | float | bool] | Range
Where = Mapping[str, Condition]  # column -> what a row must have there


class Held:
    """A copy, ready to be searched by any number of threads."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self._sieve = Combined(Int8Sieve(copy.codes(), copy.rows_ND))
        self._masks: OrderedDict[str, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.copy.ids_N)

    def mask(self, where: Where) -> Mask | None:
        """Return the rows that pass, (N,) bool; None: all. Raises ConfigError for an unknown column or no number."""
        if not where:
            return None
        key = repr(sorted(where.items(), key=lambda item: item[0]))
        with self._lock:
            if (found := self._masks.get(key)) is not None:
                self._masks.move_to_end(key)
                return found
        made = np.ones(len(self), bool)
        for column, condition in where.items():
            made &= self._passing(column, condition)
        with self._lock:
            self._masks[key] = made
            while len(self._masks) > MASKS_KEPT:
                self._masks.popitem(last=False)
        return made

    def _passing(self, column: str, condition: Condition) -> Mask:
        if column not in self.copy.table.column_names:
            raise ConfigError(
                f"where: {column} is not a column that is held; there: {', '.join(self.copy.table.column_names)}"
            )
        if isinstance(condition, Range):
            return _within(self.copy.table[column], column, condition)
        wanted = where_of({column: list(condition) if isinstance(condition, list | tuple) else condition})
        chunks = self.copy.table[column].chunks
        return np.concatenate([passes({column: chunk}, wanted, len(chunk)) for chunk in chunks])

    def rows_of(self, column: str, name: str) -> Ints:
        """Return the rows whose text in a column is `name`, ascending."""
        order = self.copy.order.get(column)
        if order is None:
            chunks = self.copy.table[column].chunks
            same = [pc.fill_null(pc.equal(texts_of(c), name), False).to_numpy(zero_copy_only=False) for c in chunks]
            return np.flatnonzero(np.concatenate(same))
        texts = self.copy.table[column]
        known = len(order) - texts.null_count  # nulls stand last
        target = name.encode("utf-8", "surrogatepass")

        def bound(after: bool) -> int:
            low, high = 0, known
            while low < high:
                middle = (low + high) // 2
                found = texts[int(order[middle])].as_buffer().to_pybytes()
                if found < target or (after and found == target):
                    low = middle + 1
                else:
                    high = middle
            return low

        return np.sort(order[bound(False) : bound(True)]).astype(np.int64)

    def rows_at(self, ids: Ints) -> Ints:
        """Return the rows of some ids; those that are not held are left out."""
        place = np.minimum(np.searchsorted(self.copy.ids_N, ids), len(self) - 1)
        return np.asarray(place[self.copy.ids_N[place] == ids])

    def scan(self, part: Part, mask_N: Mask | None) -> Pass:
        """Make a pass. `part.filter` and `part.wanted` are not for galleries in memory."""
        assert part.filter is None and not part.wanted
        num = len(part.vectors_SD)
        skips: list[list[Ints]] = [[] for _ in range(num)]
        skipped = [self._skip(relation, skips, mask_N, part.explain) for relation in part.skips]
        for row_id, sub in zip(part.skip_ids_J.tolist(), part.skip_subs_J.tolist(), strict=True):
            skips[sub].append(self.rows_at(np.array([row_id], np.int64)))
        wanted = [
            Wanted(vector, part.k, mask_N, np.unique(np.concatenate([NONE, *skip])))
            for vector, skip in zip(part.vectors_SD, skips, strict=True)
        ]
        found = self._sieve.top(wanted)
        scores, rows = (np.stack(column) for column in zip(*found, strict=True))
        near: tuple[Ints, Ints] = (NONE, NONE)
        if part.ceiling is not None:
            parts = [self._sieve.above(one, part.ceiling) for one in wanted]
            near = np.repeat(np.arange(num), [len(p) for p in parts]), self.copy.ids_N[np.concatenate([NONE, *parts])]
        total = len(self) if mask_N is None else int(np.count_nonzero(mask_N))
        return Pass(scores, self._ids(rows), near, skipped, [], total)

    def _skip(self, relation: Any, skips: list[list[Ints]], mask_N: Mask | None, explain: int) -> tuple[Ints, Ints]:
        """Note the rows that a relation's names have, and return the first of each vector."""
        subs, ids = [NONE], [NONE]
        for i, name in enumerate(relation.names.to_pylist()):
            rows = self.rows_of(relation.columns[0], name)
            rows = rows if mask_N is None else rows[mask_N[rows]]
            for sub in relation.query_J[relation.start_I1[i] : relation.start_I1[i + 1]].tolist():
                skips[sub].append(rows)
                subs.append(np.full(len(rows), sub))
                ids.append(self.copy.ids_N[rows])
        sub, row_id = np.concatenate(subs), np.concatenate(ids)
        order = np.lexsort((row_id, sub))
        return first_of_each((sub[order], row_id[order]), explain)

    def _ids(self, rows: Ints) -> Ints:
        return np.where(rows >= 0, self.copy.ids_N[rows], -1)

    def texts(self, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """Return the values of some columns as texts, in the order of `ids`."""
        table = self.copy.table.select(list(dict.fromkeys(columns))).take(pa.array(self.rows_at(ids)))
        return {c: whole_texts(table[c]).to_pylist() for c in columns}


class Filtered:
    """A `reading.Reader`: the held rows that pass a filter."""

    def __init__(self, held: Held, where: Where) -> None:
        self._held, self._mask = held, held.mask(where)

    def scan(self, part: Part) -> Pass:
        """As `Reader.scan`."""
        return self._held.scan(part, self._mask)

    def texts(self, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """As `Reader.texts`."""
        return self._held.texts(ids, columns)


def numbers_of(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column as float64, null where it holds none; None where it holds no number at all.

    Manifests of text (CSV, JSON lines) give their numbers as texts: those that are written as numbers count.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    is_number = pc.fill_null(pc.match_substring_regex(column, NUMBER_TEXT), False)
    if not pc.any(is_number).as_py():
        return None
    return pc.if_else(is_number, column, pa.scalar(None, kind)).cast(pa.float64())


def _within(column: pa.ChunkedArray, name: str, wanted: Range) -> Mask:
    found = numbers_of(column)
    if found is None:
        raise ConfigError(f"where: {name} holds no numbers, so it has no range")
    numbers = pc.fill_null(found, math.nan).to_numpy()
    low = -math.inf if wanted.low is None else wanted.low
    high = math.inf if wanted.high is None else wanted.high
    return np.asarray((numbers >= low) & (numbers <= high))


class Combined:
    """Puts queries that come at once into one product: the thread that finds the sieve free works for all that wait."""

    def __init__(self, sieve: Int8Sieve) -> None:
        self._sieve, self._waiting = sieve, list[_Waiting]()
        self._guard, self._busy = threading.Lock(), threading.Lock()

    def top(self, wanted: Sequence[Wanted]) -> list[tuple[Floats, Ints]]:
        """As `Int8Sieve.top`."""
        mine = _Waiting(list(wanted))
        with self._guard:
            self._waiting.append(mine)
        with self._busy:
            if not mine.done:
                self._work(mine)
        if mine.error is not None:
            raise mine.error
        return mine.found

    def above(self, wanted: Wanted, ceiling: float) -> Ints:
        """As `Int8Sieve.above`."""
        with self._busy:
            return self._sieve.above(wanted, ceiling)

    def _work(self, mine: "_Waiting") -> None:
        """Answer the caller and as many others as fit beside it."""
        with self._guard:
            self._waiting.remove(mine)
            taken, num = [mine], len(mine.wanted)
            while self._waiting and num + len(self._waiting[0].wanted) <= TOGETHER:
                taken.append(self._waiting.pop(0))
                num += len(taken[-1].wanted)
        try:
            found = self._sieve.top([one for waiting in taken for one in waiting.wanted])
        except Exception as e:  # noqa: BLE001 - each caller gets it
            for waiting in taken:
                waiting.error, waiting.done = e, True
            return
        start = 0
        for waiting in taken:
            waiting.found, waiting.done = found[start : start + len(waiting.wanted)], True
            start += len(waiting.wanted)


@dataclass(eq=False)
class _Waiting:
    wanted: list[Wanted]
    found: list[tuple[Floats, Ints]] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False


__all__ = ["KEYS", "Condition", "Filtered", "Held", "Range", "Where", "numbers_of"]
