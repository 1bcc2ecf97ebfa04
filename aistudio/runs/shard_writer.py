"""Cutting a stream of manifest rows into shard files, and its rejected lines into files of their own."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.catalogue import Reading
from aistudio.runs import layout
from aistudio.schema import REJECTED_SCHEMA, candidate_schema
from aistudio.store import Store

# A shard costs about 30 ms to commit, so it should hold seconds of work; but an actor that has no shard left waits for
# the others' last ones, so these should be small: each takes the same part of what is left.
AUTO_ROWS = 500
_FEWEST_ROWS = 32
_ROWS_STEP = 16  # a CPU's batch: a shard that ends with a small one pays for it
_PART = 4  # a shard is at most this part of an actor's share of the rest
_LOOK_AHEAD_ROWS = 100_000  # rows held before their number is given up on: some 50 MB


def most_rows(shard_rows: int | Literal["auto"]) -> int:
    """Rows of a full shard, by the setting."""
    return AUTO_ROWS if shard_rows == "auto" else shard_rows


class Shard(NamedTuple):
    """A unit of work and commit: one snapshot file, later one score file of the same name."""

    name: str
    rows: int


class ShardWriter:
    """Writes shard files of exactly `shard_rows` rows (the last one shorter).

    `auto`: AUTO_ROWS, and fewer and fewer towards the end of the stream, so that `num_actors` finish together (0: so
    much work follows that it does not matter).
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        shard_rows: int | Literal["auto"],
        num_actors: int,
        key: Callable[[str], str] = layout.manifest_key,
    ) -> None:
        """`key`: of a shard's file."""
        self.store, self.prefix, self._key = store, prefix, key
        self.num_bytes = 0  # of the rows in memory
        self._shard_rows = most_rows(shard_rows)
        self._parts = _PART * num_actors if shard_rows == "auto" else 0
        self._held_back = min(AUTO_ROWS * self._parts, _LOOK_AHEAD_ROWS)
        self.shards: list[Shard] = []
        self.reasons: dict[str, int] = {}
        self.passthrough: list[tuple[str, str]] = []  # SOURCE_FIELDS and the manifest's own columns
        self.reading = Reading()  # what the rows and rejected lines were made from; the caller adds it up
        self._waiting: list[pa.Table] = []
        self._rejected: list[pa.Table] = []
        self._rejected_files = 0

    def add(self, candidates: pa.Table) -> None:
        if candidates.num_rows:
            self._waiting.append(candidates)
        if sum(t.num_rows for t in self._waiting) >= self._held_back + self._shard_rows:
            self._write_full()

    def reject(self, rejected: pa.Table) -> None:
        if rejected.num_rows == 0:
            return
        for reason in rejected["reason"].to_pylist():
            kind = reason.split(":")[0]
            self.reasons[kind] = self.reasons.get(kind, 0) + 1
        self._rejected.append(rejected)
        if sum(t.num_rows for t in self._rejected) >= 10_000:
            self._flush_rejected()

    def finish(self) -> None:
        """This is all there is."""
        rest = pa.concat_tables(self._waiting) if self._waiting else None
        while rest is not None and (left := rest.num_rows):
            rows = self._rows_of_next(left)
            self._write(rest.slice(0, rows))
            rest = rest.slice(rows)
        self._flush_rejected()

    def write_units(self, rows: pa.Table, unit: np.ndarray) -> None:
        """Write all of the rows; a shard ends where a unit does, however long it is.

        Args:
            unit: of each row; rows of equal ones stand side by side.
        """
        ends = np.append(np.flatnonzero(unit[1:] != unit[:-1]) + 1, rows.num_rows)
        start = 0
        while left := rows.num_rows - start:
            wanted = np.searchsorted(ends, start + self._rows_of_next(left), "right") - 1
            first = np.searchsorted(ends, start, "right")  # at least one unit
            end = int(ends[max(wanted, first)])
            self._write(rows.slice(start, end - start))
            start = end

    def _rows_of_next(self, left: int) -> int:
        """Return the number of rows of the next shard when `left` rows are left in all."""
        if not self._parts:
            return min(self._shard_rows, left)
        part = math.ceil(left / self._parts / _ROWS_STEP) * _ROWS_STEP
        return min(AUTO_ROWS, max(_FEWEST_ROWS, part), left)

    def _write_full(self) -> None:
        """Write full shards as long as enough rows stay; what stays is one table."""
        table = pa.concat_tables(self._waiting)
        full = (table.num_rows - self._held_back) // self._shard_rows * self._shard_rows
        for start in range(0, full, self._shard_rows):
            self._write(table.slice(start, self._shard_rows))
        self._waiting = [table.slice(full)] if full < table.num_rows else []

    def _write(self, table: pa.Table) -> None:
        shard = Shard(f"{self.prefix}-{len(self.shards):06d}", table.num_rows)
        table = table.combine_chunks()
        num_candidate = len(candidate_schema([]))
        self.passthrough = [(f.name, str(f.type)) for f in list(table.schema)[num_candidate:]]
        self.store.write_table(self._key(shard.name), table)
        self.num_bytes += table.nbytes
        self.shards.append(shard)

    def _flush_rejected(self) -> None:
        if self._rejected:
            key = layout.rejected_key(self.prefix, self._rejected_files)
            self.store.write_table(key, pa.concat_tables(self._rejected).cast(REJECTED_SCHEMA))
            self._rejected, self._rejected_files = [], self._rejected_files + 1
