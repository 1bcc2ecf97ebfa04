"""One shard of a served index: a contiguous part of the gallery, held and searched in a process of its own.

A gallery is cut at rows, so that each of N shards holds 1/N of the rows that can be found. A shard holds its part of
each index by generation: what the score files were when it was loaded. A request names the generation that it means, so
that no answer ever mixes two; the next generation is loaded while the present one answers.
"""

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import ConfigError, StoreError
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.search.gallery import ID_STEP, File, Vectors
from aistudio.search.held import Held
from aistudio.search.local_copy import copy_bytes, held_bytes, open_copy
from aistudio.search.naming import whole
from aistudio.search.pairs import Ints
from aistudio.search.scanning import Part, Pass
from aistudio.search.searched import Searched, passes
from aistudio.search.searcher import available_bytes
from aistudio.serving.opening import Planned, ServePlan, plan_serve

UNLIMITED_MIB = 2**31  # for the plan of the whole; each shard looks at its own part


class NotHereError(StoreError):
    """A shard does not hold the generation that was asked for."""


@dataclass(frozen=True)
class Spec:
    """What is served, as the command line has it, in N shards."""

    runs: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    where: Mapping[str, Any] | None = None
    shards: int = 1

    def plan(self) -> ServePlan:
        """Look what is served. Raises as `plan_serve`."""
        overrides = [*self.overrides, f"serve.memory_mib={UNLIMITED_MIB}"]
        return plan_serve(self.runs, overrides, models=self.models, where=self.where)

    def text(self, one: Planned) -> str:
        """Say what each shard of an index will hold."""
        rows = self.rows(one)
        held, disk = held_bytes(rows, one.plan.width) / 2**20, copy_bytes(rows, one.plan.width) / 2**20
        return (
            f"{self.shards} shards of at most {rows:,} rows of {one.plan.width} numbers: {held:,.0f} MiB of memory "
            f"each, and a local copy of {disk:,.0f} MiB and the columns on its node"
        )

    def rows(self, one: Planned) -> int:
        """Return the most rows that a shard of an index can hold."""
        return -(-one.plan.rows // self.shards)


@dataclass(frozen=True)
class Sliced(Searched):
    """The rows of a gallery whose ids are in `low` .. `high` - 1."""

    low: int = 0
    high: int = 2**62

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield blocks of the rows. Raises StoreError for a damaged file."""
        mine = [f for f in files if f[0] * ID_STEP < self.high and (f[0] + 1) * ID_STEP > self.low]
        for block in super().blocks(mine, block_rows, columns):
            kept = (block.ids_N >= self.low) & (block.ids_N < self.high)
            if kept.all():
                yield block
            elif kept.any():
                values = {c: v.filter(pa.array(kept)) for c, v in block.values.items()}
                yield Vectors(block.rows_ND[kept], block.ids_N[kept], values)


def cut(gallery: Searched, num: int) -> list[Sliced]:
    """Cut a gallery into `num` parts of equally many rows that can be found. Raises ConfigError for fewer rows."""
    ids = [np.empty(0, np.int64)]
    columns = list(dict.fromkeys(["status", *(column for column, _ in gallery.where)]))
    for number, key in gallery.files:
        table = gallery.store.read_table(key, columns)
        good = pc.equal(table["status"], Status.OK.value).to_numpy(zero_copy_only=False)
        good &= passes({c: whole(table[c]) for c in columns}, gallery.where, table.num_rows)
        ids.append(number * ID_STEP + np.flatnonzero(good))
    found = np.concatenate(ids)
    if len(found) < num:
        raise ConfigError(f"{gallery.store.root}: {len(found):,} rows cannot be cut into {num} shards")
    ends = [0, *(int(found[i * len(found) // num]) for i in range(1, num)), 2**62]
    return [
        Sliced(gallery.store, gallery.files, gallery.vectors, gallery.where, low, high)
        for low, high in itertools.pairwise(ends)
    ]


def generation_of(plan: ServePlan, shards: int) -> str:
    """Return what names the stored files of a plan: another one as soon as a score file is another."""
    facts: list[Any] = [shards]
    for one in plan.indexes:
        store = one.plan.gallery.store
        files = [
            [e.key, e.size, e.etag, _changed(store.path(e.key), store.is_local)] for e in store.list(layout.SCORES)
        ]
        facts.append([one.name, one.plan.columns, files])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _changed(path: str, is_local: bool) -> int:
    return os.stat(path).st_mtime_ns if is_local else 0  # noqa: PTH116


class ShardIndexes:
    """The indexes of one shard, by generation. Thread-safe."""

    def __init__(self, spec: Spec, number: int) -> None:
        """Load the present generation. Raises as `load`."""
        self.spec, self.number = spec, number
        self._held: dict[str, dict[str, Held]] = {}
        self._loading = threading.Lock()
        self.load(None)

    def load(self, generation: str | None) -> dict[str, dict[str, Any]]:
        """Hold a generation, if it is the present one of the files, and return facts of each index.

        Args:
            generation: None: whatever the files are.

        Raises:
            NotHereError: the files are of another generation by now.
            ConfigError: the part does not fit into memory. StoreError: a file is damaged.
        """
        with self._loading:
            if generation is None or generation not in self._held:
                plan = self.spec.plan()
                present = generation_of(plan, self.spec.shards)
                if generation not in (None, present):
                    raise NotHereError(f"shard {self.number + 1}: the run has changed again")
                if present not in self._held:
                    made = {one.name: self._open(one) for one in plan.indexes}
                    if generation_of(self.spec.plan(), self.spec.shards) != present:
                        raise NotHereError(f"shard {self.number + 1}: the run changed while it was read")
                    self._held[present] = made
                generation = present
            return {name: _facts(held) for name, held in self._held[generation].items()}

    def _open(self, one: Planned) -> Held:
        part = cut(one.plan.gallery, self.spec.shards)[self.number]
        rows = self.spec.rows(one)
        need, limit = held_bytes(rows, one.plan.width), available_bytes()
        if limit is not None and need > limit:
            raise ConfigError(
                f"{one.name}: a shard needs {need / 2**20:,.0f} MiB, {limit / 2**20:,.0f} MiB are there; more --shards"
            )
        folder = one.plan.folder / f"shard-{self.number + 1}-of-{self.spec.shards}"
        return Held(open_copy(part, one.plan.columns, rows, one.plan.width, folder))

    def keep(self, generation: str) -> None:
        """Let other generations go."""
        with self._loading:
            for other in [g for g in self._held if g != generation]:
                del self._held[other]

    def _index(self, generation: str, index: str) -> Held:
        try:
            return self._held[generation][index]
        except KeyError:
            raise NotHereError(f"shard {self.number + 1} does not hold this generation of {index}") from None

    def scan(self, generation: str, index: str, part: Part, where: Mapping[str, Any] | None) -> Pass:
        """Make a pass over the part. Raises NotHereError, and ConfigError for a filter that cannot be."""
        held = self._index(generation, index)
        return held.scan(part, held.mask(where or {}))

    def rows_of(self, generation: str, index: str, column: str, name: str) -> Ints:
        """Return the rows of the part whose text in a column is `name`."""
        return self._index(generation, index).rows_of(column, name)

    def texts(self, generation: str, index: str, ids: Ints, columns: Sequence[str]) -> dict[str, list[str | None]]:
        """Return columns of some rows as texts, by their ids."""
        return self._index(generation, index).texts(ids, columns)

    def vectors(self, generation: str, index: str, rows: Ints) -> Any:
        """Return exact vectors of some rows, (n, D) float32."""
        return np.array(self._index(generation, index).copy.rows_ND[rows])

    def table(self, generation: str, index: str, columns: Sequence[str], rows: Ints | None) -> pa.Table:
        """Return stored columns of some rows of the part, or of all."""
        table = self._index(generation, index).copy.table.select(list(columns))
        return table.combine_chunks() if rows is None else table.take(pa.array(rows, pa.int64()))


def _facts(held: Held) -> dict[str, Any]:
    copy = held.copy
    return {
        "ids": copy.ids_N, "columns": copy.table.column_names, "dim": int(copy.rows_ND.shape[1]),
        "memory_bytes": copy.memory_bytes, "disk_bytes": copy.disk_bytes,
    }  # fmt: skip
