"""A searcher whose index lies in shards elsewhere: the single process's own code on top of passes that are merged.

What `search.searcher.Searcher` reads of its index comes from the shards here: passes, rows by name, texts, vectors and
columns. Its rules and its order are the same code, so ids and scores are the same, bit for bit. A shard that does not
answer in time, or holds another generation, makes the whole question fail; there is no partial answer.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from aistudio.errors import AIStudioError, ConfigError, StoreError
from aistudio.search.pairs import NONE, Ints
from aistudio.search.scanning import Part, Pass
from aistudio.search.searcher import Searcher, SearcherPlan


class ShardsError(StoreError):
    """A shard did not answer, or not for this generation: the question cannot be answered now."""


class Shard(Protocol):
    """How one shard is called: a method of `ShardIndexes` by name."""

    def call(self, method: str, *args: Any) -> Any:
        """Return what the method returns. Raises our own errors as they are, ShardsError for no answer."""


@dataclass(frozen=True)
class Generation:
    """One generation of one index, on all shards in the order of the gallery."""

    shards: Sequence[Shard]
    name: str
    index: str
    pool: ThreadPoolExecutor

    def each(self, method: str, args: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """Call all shards at once, those without arguments not. Raises the first shard's error."""
        futures = [
            None if own is None else self.pool.submit(shard.call, method, self.name, self.index, *own)
            for shard, own in zip(self.shards, args, strict=True)
        ]
        return [None if future is None else future.result() for future in futures]

    def all(self, method: str, *args: Any) -> list[Any]:
        """Call all shards with the same arguments."""
        return self.each(method, [args] * len(self.shards))


class RemoteHeld:
    """Stands for `search.held.Held`."""

    def __init__(self, generation: Generation, facts: Sequence[Mapping[str, Any]], folder: Path) -> None:
        """`facts`: of each shard, as `ShardIndexes.load` returns them."""
        self._generation = generation
        ids = [one["ids"] for one in facts]
        self.starts = np.cumsum([0, *(len(part) for part in ids)])  # of the shards' rows
        self.copy = RemoteCopy(self, np.concatenate(ids), facts, folder)

    def __len__(self) -> int:
        return len(self.copy.ids_N)

    def mask(self, where: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the filter itself: each shard finds its rows. Raises ConfigError for an unknown column."""
        for column in where:
            if column not in self.copy.table.column_names:
                names = self.copy.table.column_names
                raise ConfigError(f"where: {column} is not a column that is held; there: {', '.join(names)}")
        return dict(where) or None

    def scan(self, part: Part, where: Mapping[str, Any] | None) -> Pass:
        """Make a pass on all shards and merge what they found, in the order of the gallery."""
        first, *others = self._generation.all("scan", part, where)
        found: Pass = first
        for one in others:
            found = found.merge(one, part)
        return found

    def rows_of(self, column: str, name: str) -> Ints:
        """Return the rows whose text in a column is `name`, ascending."""
        found = self._generation.all("rows_of", column, name)
        return np.concatenate([NONE, *(rows + start for rows, start in zip(found, self.starts, strict=False))])

    def rows_at(self, ids: Ints) -> Ints:
        """Return the rows of some ids; those that are not held are left out."""
        place = np.minimum(np.searchsorted(self.copy.ids_N, ids), len(self) - 1)
        return np.asarray(place[self.copy.ids_N[place] == ids])

    def texts(self, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """Return the values of some columns as texts, in the order of `ids`, which ascend."""
        parts = self.split(self.rows_at(ids))
        asked = [
            (self.copy.ids_N[rows + start], list(columns)) if len(rows) else None
            for rows, start in zip(parts, self.starts, strict=False)
        ]
        found = [one for one in self._generation.each("texts", asked) if one is not None]
        return {c: [text for part in found for text in part[c]] for c in columns}

    def split(self, rows: Ints) -> list[Ints]:
        """Return each shard's own numbers of some rows, which keep their order within a shard."""
        shard = self._shard_of(rows)
        return [rows[shard == i] - start for i, start in enumerate(self.starts[:-1])]

    def _shard_of(self, rows: Ints) -> Ints:
        return np.asarray(np.searchsorted(self.starts, rows, side="right") - 1)

    def fetch(self, method: str, rows: Ints, *before: Any) -> tuple[list[Any], Ints]:
        """Call the shards of some rows; returns their answers, and where each of `rows` is among them."""
        parts = self.split(rows)
        asked: list[tuple[Any, ...] | None] = [(*before, part) if len(part) else None for part in parts]
        if not len(rows):
            asked[0] = (*before, NONE)  # for the layout alone
        found = [one for one in self._generation.each(method, asked) if one is not None]
        back = np.empty(len(rows), np.int64)
        back[np.argsort(self._shard_of(rows), kind="stable")] = np.arange(len(rows))
        return found, back

    def whole_table(self, columns: Sequence[str]) -> pa.Table:
        """Return all rows of some columns."""
        return together(self._generation.all("table", list(columns), None))


class RemoteCopy:
    """Stands for `search.local_copy.Copy`: places of the rows are here, everything else is fetched."""

    def __init__(self, held: RemoteHeld, ids_N: Ints, facts: Sequence[Mapping[str, Any]], folder: Path) -> None:
        self.folder, self.ids_N = folder, ids_N
        self.rows_ND = _Vectors(held, (len(ids_N), int(facts[0]["dim"])))
        self.table = _Table(held, list(facts[0]["columns"]))
        self.memory_bytes = sum(int(one["memory_bytes"]) for one in facts)
        self.disk_bytes = sum(int(one["disk_bytes"]) for one in facts)


class _Vectors:
    """Exact vectors by their rows."""

    def __init__(self, held: RemoteHeld, shape: tuple[int, int]) -> None:
        self._held, self.shape = held, shape

    def __getitem__(self, rows: Ints) -> Any:
        found, back = self._held.fetch("vectors", rows)
        return np.concatenate(found)[back]


class _Table:
    """Stored columns: some rows of some, or one column as a whole."""

    def __init__(self, held: RemoteHeld, columns: list[str]) -> None:
        self._held, self.column_names = held, columns

    def select(self, columns: Sequence[str]) -> "_Table":
        return _Table(self._held, list(columns))

    def take(self, rows: Any) -> pa.Table:
        found, back = self._held.fetch("table", np.asarray(rows, np.int64), self.column_names)
        return together(found).take(pa.array(back))

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        return self._held.whole_table([column])[column]


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Put the shards' parts behind one another. Raises StoreError where a column has another type in one."""
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as e:
        raise StoreError(f"a column has another type in another shard: {e}; leave it out with --columns") from None


class ShardedSearcher(Searcher):
    """A searcher over shards."""

    def __init__(
        self, plan: SearcherPlan, generation: Generation, facts: Sequence[Mapping[str, Any]], folder: Path
    ) -> None:  # fmt: skip
        self.plan, self.config, self.store = plan, plan.config, plan.gallery.store
        self.held: Any = RemoteHeld(generation, facts, folder)
        self.copy: Any = self.held.copy


def explained(number: int, error: Exception) -> AIStudioError:
    """Return a shard's failure as an error of ours: its own if it has one, else that it does not answer."""
    cause = getattr(error, "cause", None)
    for one in (error, cause):
        if isinstance(one, AIStudioError):
            return one
    return ShardsError(f"shard {number + 1} does not answer: {type(error).__name__}")
