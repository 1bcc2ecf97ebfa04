"""Searches a stored run from memory: exact, quick, with the ids and scores that `jobs.search` gives, bit for bit.

    with Searcher.open("runs/mine") as searcher:        # or s3://bucket/run
        found = searcher.search(searcher.like_row("a:1"), where={"category": "coat"}, top_n=20)
        found.table(["item_id", "category"])            # an Arrow table: rank, item_id, row_id, score, why, ...

It holds vectors as one byte a number, decides with exact float32 vectors from a memory-mapped local copy, and says how
much of both it takes before it loads (`plan_searcher`). Leaves out: models (a text's vector comes from whoever encodes
it), pages and the web (serving/).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.config import JobConfig
from aistudio.errors import ConfigError, StoreError
from aistudio.runs import layout
from aistudio.runs.mapper import InProcess
from aistudio.runs.record import stored_settings
from aistudio.schema import vector_width
from aistudio.search.gallery import File, unit_rows
from aistudio.search.held import Filtered, Held, Range, Where
from aistudio.search.listing import Asking, Naming, Rules, lists_from
from aistudio.search.local_copy import Copy, copies_folder, copy_bytes, held_bytes, open_copy, shown_columns
from aistudio.search.pairs import Ints
from aistudio.search.resolving import DUPLICATE, SAME_ITEM, SAME_ROW
from aistudio.search.searched import Searched, passes, where_of
from aistudio.search.stored import stored_vectors
from aistudio.search.vectors import VectorColumn, vector_column
from aistudio.store import Store, open_store
from aistudio.values import column_values

SCRATCH_BYTES = 64 * 2**20  # of a product and its scores
DEEPEST = 10_000  # results of one query, pages before included
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Ask:
    """What is asked with: S vectors, (S, D) float32 unit rows, of which the best counts for each row.

    item_ids, row_ids, hashes: of the query's own pictures, which may be left out. why: one text for each vector.
    """

    vectors_SD: Vector
    why: tuple[str, ...]
    item_ids: tuple[str, ...] = ()
    row_ids: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One place of a list. `row`: number of the held row."""

    rank: int
    item_id: str
    row_id: str
    score: float
    why: str
    row: int


@dataclass(frozen=True)
class Found:
    """One page of a list. `more`: there are results behind it. `left_out`: (row_id, reason)."""

    results: list[Result]
    more: bool
    gallery_rows: int  # that pass the filter
    left_out: list[tuple[str, str]]
    _held: Held

    def table(self, columns: Sequence[str] = ()) -> pa.Table:
        """Return rank int64, item_id, row_id, score float64, why, and stored columns, by rank.

        Raises ConfigError for a column that is not held.
        """
        ours: dict[str, Any] = {
            "rank": pa.array([r.rank for r in self.results], pa.int64()),
            "item_id": pa.array([r.item_id for r in self.results], pa.string()),
            "row_id": pa.array([r.row_id for r in self.results], pa.string()),
            "score": pa.array([r.score for r in self.results], pa.float64()),
            "why": pa.array([r.why for r in self.results], pa.string()),
        }
        table = self._held.copy.table
        wanted = [c for c in dict.fromkeys(columns) if c not in ours]
        if missing := [c for c in wanted if c not in table.column_names]:
            raise ConfigError(f"columns: {', '.join(missing)} not held; there: {', '.join(table.column_names)}")
        rows = table.select(wanted).take(pa.array([r.row for r in self.results], pa.int64()))
        return pa.table(ours | {c: rows[c] for c in wanted})


@dataclass(frozen=True)
class SearcherPlan:
    """A searcher before it is loaded: what it will hold, and where its copy lies."""

    config: JobConfig
    gallery: Searched
    columns: list[str]
    rows: int  # at most
    width: int
    folder: Path

    @property
    def memory_bytes(self) -> int:
        """Memory of its own, the mapped copy not counted."""
        return held_bytes(self.rows, self.width) + SCRATCH_BYTES

    @property
    def copy_bytes(self) -> int:
        """Return the bytes that the local copy of the vectors takes on disk; columns come on top."""
        return copy_bytes(self.rows, self.width)

    def text(self) -> str:
        """Say it in a line."""
        return (
            f"{self.rows:,} rows of {self.width} numbers: {self.memory_bytes / 2**20:,.0f} MiB of memory, and a local "
            f"copy of {self.copy_bytes / 2**20:,.0f} MiB and the columns below {self.folder}"
        )


def plan_searcher(
    run: str, overrides: Sequence[str] = (), *, model: str | None = None, where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None, cache: str | None = None, memory_bytes: int | None = None,
) -> SearcherPlan:  # fmt: skip
    """Look what a searcher of a run would hold, without reading vectors.

    Args:
        run: local folder or s3:// prefix. overrides: settings such as `store.region=...`.
        model: an encoder of the run; None: its recall model, or its only encoder.
        where: column -> value or values that a row must have to be held at all.
        columns: stored columns to keep for filters and results; None: all but vectors and pictures.
        cache: folder of local copies; None: $AISTUDIO_CACHE/search or ~/.cache/aistudio/search.
        memory_bytes: the most that it may hold; None: what the machine has left.

    Raises:
        ConfigError: no such run, model or column, or it does not fit. StoreError: nothing is scored there.
    """
    config = stored_settings(run, overrides)
    store = open_store(run, config.store)
    files = list(enumerate(layout.score_keys(store)))
    if not files:
        raise StoreError(f"{store.root}: no stored scores there; run jobs.score first")
    schema = store.read_metadata(files[0][1])[0]
    vectors = vector_column(store, _encoder(schema.names, model), "--model")
    kept = shown_columns(schema.names) if columns is None else list(columns)
    for column in [*kept, *(where or {})]:
        if column not in schema.names:
            raise ConfigError(f"{column} is not a column of the scores; there: {', '.join(schema.names)}")
    gallery = Searched(store, files, vectors, where_of(where or {}))
    width = vector_width(schema.field(vectors.name)) or _width(store, files, vectors)
    plan = SearcherPlan(config, gallery, kept, _count(gallery), width, copies_folder(cache))
    limit = available_bytes() if memory_bytes is None else memory_bytes
    if limit is not None and plan.memory_bytes > limit:
        raise ConfigError(
            f"{store.root}: a search needs {plan.memory_bytes / 2**20:,.0f} MiB of memory for {plan.rows:,} rows of "
            f"{width} numbers, {limit / 2**20:,.0f} MiB are there; hold fewer rows with --where COLUMN=VALUE"
        )
    return plan


class Searcher:
    """A loaded searcher, for any number of threads."""

    def __init__(self, plan: SearcherPlan) -> None:
        """Load it; the first time its local copy is made. Raises as `local_copy.open_copy`."""
        self.plan, self.config = plan, plan.config
        self.store: Store = plan.gallery.store
        self.copy: Copy = open_copy(plan.gallery, plan.columns, plan.rows, plan.width, plan.folder)
        self.held = Held(self.copy)

    @classmethod
    def open(cls, run: str, overrides: Sequence[str] = (), **how: Any) -> Searcher:
        """Plan and load; arguments and errors as `plan_searcher`."""
        return cls(plan_searcher(run, overrides, **how))

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left open: maps are released with the object."""

    def __len__(self) -> int:
        """Rows that can be found."""
        return len(self.held)

    @property
    def dim(self) -> int:
        """Width of a vector."""
        return int(self.copy.rows_ND.shape[1])

    @property
    def columns(self) -> list[str]:
        """Stored columns that are held."""
        return list(self.copy.table.column_names)

    def like_row(self, row_id: str) -> Ask:
        """Ask with a stored picture. Raises ConfigError where no such row is held."""
        return self._like("row_id", row_id)

    def like_item(self, item_id: str) -> Ask:
        """Ask with all pictures of an item, of which the best counts. Raises ConfigError where none is held."""
        return self._like("item_id", item_id)

    def _like(self, column: str, name: str) -> Ask:
        rows = self.held.rows_of(column, name)
        if not len(rows):
            raise ConfigError(f"{column} {name}: no picture of it can be searched with here")
        texts = self.held.texts(self.copy.ids_N[rows], ["row_id", "item_id", "content_hash"])
        own = {c: tuple(dict.fromkeys(t for t in texts[c] if t is not None)) for c in texts}
        why = tuple(f"like {row_id}" for row_id in texts["row_id"])
        return Ask(np.array(self.copy.rows_ND[rows]), why, own["item_id"], own["row_id"], own["content_hash"])

    def like_vector(self, vector_D: Any, why: str = "like the vector", *, content_hash: str | None = None) -> Ask:
        """Ask with a vector of the run's model, of any length. Raises ConfigError for another width or no number."""
        with np.errstate(over="ignore"):  # what does not fit is refused below
            vector = np.asarray(vector_D, np.float32).reshape(-1)
        if len(vector) != self.dim or not np.isfinite(vector).all():
            raise ConfigError(f"a vector of {len(vector)} numbers, expected {self.dim} finite ones")
        return Ask(unit_rows(vector[None]), (why,), hashes=(content_hash,) if content_hash else ())

    def mixed(self, parts: Sequence[tuple[Ask, float]]) -> Ask:
        """Ask with the weighted sum of several questions' vectors, each the mean of its own, of length one again.

        Raises ConfigError where the sum is nothing.
        """
        total = np.zeros(self.dim)
        for ask, weight in parts:
            total += weight * unit_rows(ask.vectors_SD.astype(np.float64).sum(axis=0)[None])[0].astype(np.float64)
        if not np.linalg.norm(total) > 1e-6:
            raise ConfigError("the weighted vectors cancel each other out: there is no direction left to search in")
        why = " and ".join(dict.fromkeys(ask.why[0] if len(ask.why) == 1 else "like the item" for ask, _ in parts))
        own = {n: tuple(dict.fromkeys(t for a, _ in parts for t in getattr(a, n)))
               for n in ("item_ids", "row_ids", "hashes")}  # fmt: skip
        return Ask(unit_rows(total[None]), (why,), **own)

    def raw_vectors(self, row_ids: Sequence[str]) -> Vector:
        """Return stored vectors as the model gave them, (n, D) float32, for a composer. Raises ConfigError."""
        rows = np.concatenate([self._one_row(row_id) for row_id in row_ids])
        if self.plan.gallery.vectors.normalised:
            return np.array(self.copy.rows_ND[rows])
        gallery = self.plan.gallery
        ids = self.copy.ids_N[rows]
        return stored_vectors(self.store, gallery.files, ids, gallery.vectors, InProcess(), raw=True)

    def _one_row(self, row_id: str) -> Ints:
        rows = self.held.rows_of("row_id", row_id)
        if not len(rows):
            raise ConfigError(f"row_id {row_id}: no picture of it can be searched with here")
        return rows[:1]

    def search(
        self, ask: Ask, *, top_n: int = 10, offset: int = 0, where: Where | None = None, per: str = "item",
        leave_out: Sequence[str] = ("item", "copies"), diversify: Mapping[str, int] | None = None,
        duplicate_cosine: float | None = None, explain: int = 0,
    ) -> Found:  # fmt: skip
        """Return results `offset + 1` to `offset + top_n` of one question, exactly.

        Args:
            where: column -> value, values or Range that a row must have.
            per: what a result is, `item` or `row`.
            leave_out: of the question's own pictures: `item`, `row`, `copies`.
            diversify: column -> most results of each of its values.
            duplicate_cosine: rows more alike than this are copies too.
            explain: rows listed for each reason of leaving out.

        Raises:
            ConfigError: a column that is not held, or a list deeper than DEEPEST.
        """
        self._check(top_n, offset, per, diversify or {})
        kinds = {"item": (SAME_ITEM, "item_id", ask.item_ids), "row": (SAME_ROW, "row_id", ask.row_ids),
                 "copies": (DUPLICATE, "content_hash", ask.hashes)}  # fmt: skip
        if unknown := [name for name in leave_out if name not in kinds]:
            raise ConfigError(f"leave_out: {', '.join(map(str, unknown))}; expected item, row or copies")
        named = [kinds[name] for name in kinds if name in leave_out]
        naming = tuple(Naming(reason, column, names, np.zeros(len(names), int)) for reason, column, names in named)
        asking = Asking(np.zeros(len(ask.vectors_SD), np.int64), lambda numbers: ask.vectors_SD[numbers], naming)
        rules = Rules(offset + top_n + 1, f"{per}_id", tuple((diversify or {}).items()), duplicate_cosine, explain)
        (lists,) = lists_from(Filtered(self.held, where or {}), asking, rules)
        return self._found(lists, ask, top_n, offset)

    def _check(self, top_n: int, offset: int, per: str, diversify: Mapping[str, int]) -> None:
        if top_n < 1 or offset < 0 or offset + top_n > DEEPEST:
            raise ConfigError(
                f"results {offset + 1:,} to {offset + top_n:,}: expected at least one, {DEEPEST:,} at most"
            )
        if per not in ("item", "row"):
            raise ConfigError(f"per: {per}; expected item or row")
        for column, most in diversify.items():
            if column not in self.columns or most < 1:
                raise ConfigError(f"diversify: {column}={most}: expected a held column and 1 or more")

    def _found(self, lists: Any, ask: Ask, top_n: int, offset: int) -> Found:
        ids = np.unique(np.concatenate([lists.id_R, np.array([i for _, i, _ in lists.left_out], np.int64)]))
        rows = self.held.rows_at(ids)
        texts = self.held.texts(ids, ["row_id", "item_id"])
        at = {row_id: i for i, row_id in enumerate(ids.tolist())}
        columns = (lists.rank_R, lists.id_R, lists.score_R, lists.vector_R)
        page = [
            Result(
                rank, texts["item_id"][at[i]] or "", texts["row_id"][at[i]] or "", score, ask.why[v], int(rows[at[i]])
            )
            for rank, i, score, v in zip(*(c.tolist() for c in columns), strict=True)
        ][offset:]
        left_out = [(texts["row_id"][at[i]] or "", reason) for _, i, reason in sorted(lists.left_out)]
        return Found(page[:top_n], len(page) > top_n, lists.rows, left_out, self.held)

    def row(self, row_id: str) -> dict[str, Any] | None:
        """Return the held columns of a row, None where it is not held."""
        rows = self.held.rows_of("row_id", row_id)
        if not len(rows):
            return None
        taken = self.copy.table.take(pa.array(rows[:1]))
        return {name: column_values(taken[name])[0] for name in taken.column_names}

    def place_of(self, row_id: str) -> tuple[str, int] | None:
        """Return the score file of a row and its place there, None where it is not held."""
        rows = self.held.rows_of("row_id", row_id)
        if not len(rows):
            return None
        row_number = int(self.copy.ids_N[rows[0]])
        return self.plan.gallery.files[row_number >> 32][1], row_number & 0xFFFFFFFF


def _encoder(stored: Sequence[str], model: str | None) -> str | None:
    """The encoder that is meant; None: the recall model."""
    if model in (None, "recall") and "embedding" in stored:
        return None
    encoders = [c.removeprefix("embedding_") for c in stored if c.startswith("embedding_")]
    return encoders[0] if model is None and len(encoders) == 1 else model


def _width(store: Store, files: Sequence[File], vectors: VectorColumn) -> int:
    """Width of the vectors where the schema does not say: of the first block."""
    for block in Searched(store, files, vectors).blocks(files, 1, []):
        return int(block.rows_ND.shape[1])
    return 1


def _count(gallery: Searched) -> int:
    """Rows that will be held at most: by the files' footers, or by the filter's columns where there is one."""
    store, keys = gallery.store, [key for _, key in gallery.files]

    def rows(key: str) -> int:
        if not gallery.where:
            return store.read_metadata(key)[1]
        table = store.read_table(key, [column for column, _ in gallery.where]).combine_chunks()
        batches = table.to_batches()
        return sum(int(passes({c: b[c] for c in b.schema.names}, gallery.where, len(b)).sum()) for b in batches)

    with ThreadPoolExecutor(1 if store.is_local else 16) as pool:
        return sum(pool.map(rows, keys))


def available_bytes() -> int | None:
    """Memory that the machine can give; None where it does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _cached_bytes()
    except (ValueError, OSError, AttributeError):
        return None


def _cached_bytes() -> int:
    """Return the bytes of its caches that the kernel would give back."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Cached:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


__all__ = ["Ask", "Found", "Range", "Result", "Searcher", "SearcherPlan", "available_bytes", "plan_searcher"]
