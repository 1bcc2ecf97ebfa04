"""Searches of similar items, of this run and of others, read for one page: lists side by side, and how right they are.

Right is what has the query's value in a column (metrics.relevant_by). Leaves out: the arithmetic
(evaluation/same_value.py), how it looks (reports/alike.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import MetricsSettings, ReportSettings
from aistudio.errors import ConfigError
from aistudio.evaluation.same_value import NONE, Floats, Ints, ListsByValue, quality
from aistudio.pipeline.report_rows import batches
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.search.searched import texts_of
from aistudio.store import Store, open_store
from aistudio.values import table_rows

Row = dict[str, Any]
STORED_QUERIES = {"item", "row"}  # kinds of queries that a run's own pictures ask
_QUERY_COLUMNS = ["query_id", "kind", "status", "item_id", "row_id"]
_NARROWED = ("filter", "where", "diversify")  # settings with which a column says nothing of how good a list is


class Values:
    """Columns of a run's ok items (or rows) as texts: of an item those of its first row."""

    def __init__(self, store: Store, per: str, columns: Sequence[str]) -> None:
        """Raises ConfigError where the run lacks a column."""
        keys = layout.score_keys(store)
        has = store.read_metadata(keys[0])[0].names if keys else list(columns)
        for column in columns:
            if column not in has:
                raise ConfigError(f"metrics.relevant_by: {column} is not a column of {store.root}: {', '.join(has)}")
        parts = [_values(store, key, list(dict.fromkeys(["item_id", "row_id", *columns]))) for key in keys]
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["item_id", "row_id", *columns])
        self.images_per_item = frame.groupby("item_id", sort=False).size().to_numpy()
        self.frame = frame.drop_duplicates(f"{per}_id", ignore_index=True)
        self.keys = pa.array(self.frame[f"{per}_id"], pa.string())

    def texts(self, column: str) -> pa.Array:
        """One column, in the order of `keys`."""
        return pa.array(self.frame[column], pa.string())


def _values(store: Store, key: str, columns: list[str]) -> pd.DataFrame:
    table = store.read_table(key, list(dict.fromkeys([*columns, "status"])), verify=True)
    table = table.filter(pc.equal(table["status"], Status.OK.value))
    return pd.DataFrame({c: texts_of(table[c].combine_chunks()).to_pylist() for c in columns}, dtype=object)


@dataclass
class Lists:
    """A search of similar items, of the run `store`; its queries are pictures of the run `source`."""

    name: str
    search: str
    store: Store
    source: Store
    about: Row
    queries: pa.Table
    judged: dict[str, ListsByValue] = field(default_factory=dict)  # by column
    results: dict[str, list[Row]] = field(default_factory=dict)  # by query_id, of the queries that are shown

    @property
    def per(self) -> str:
        """Return what one result is: item or row."""
        return str(self.about.get("per", "item"))

    @property
    def depth(self) -> int:
        """Results of a list at most."""
        return int((self.about.get("settings") or {}).get("top_n", 10))

    @property
    def role(self) -> str:
        """Key of the model in run.json."""
        return str((self.about.get("model") or {}).get("role", ""))

    @property
    def narrowed(self) -> list[str]:
        """Settings that let only some rows into a list."""
        settings = self.about.get("settings") or {}
        return [name for name in _NARROWED if settings.get(name)]

    @cached_property
    def query_ids(self) -> list[str]:
        """In the order of queries.parquet."""
        ids: list[str] = self.queries["query_id"].to_pylist()
        return ids

    @cached_property
    def place(self) -> dict[str, int]:
        """Place of each query among `query_ids`."""
        return {query_id: i for i, query_id in enumerate(self.query_ids)}


@dataclass
class Alike:
    """Everything that the page shows of pictures and numbers."""

    columns: list[str] = field(default_factory=list)
    lists: list[Lists] = field(default_factory=list)
    shown: dict[int, Row] = field(default_factory=dict)  # query by place in worst-first order
    total: int = 0
    values: Values | None = None  # of this run's items
    notes: list[str] = field(default_factory=list)

    def row_ids(self, store: Store) -> set[str]:
        """Rows of one run whose pictures the page shows."""
        found = {row["row_id"] for one in self.lists if one.store.root == store.root
                 for rows in one.results.values() for row in rows}  # fmt: skip
        asked = {q["row_id"] for q in self.shown.values() if q["source"].root == store.root}
        return (found | asked) - {None}

    def stores(self) -> list[Store]:
        """Every run that a picture comes from."""
        known = [s for one in self.lists for s in (one.store, one.source)]
        return list({store.root: store for store in known}.values())


def choose_alike(
    store: Store, beside: Sequence[Store], settings: ReportSettings, metrics: MetricsSettings
) -> Alike:  # fmt: skip
    """Read the searches of this run and of those beside it whose queries are stored pictures.

    There is a page when a column says what is right, or when two searches can be compared.

    Raises:
        ConfigError: a run lacks a column of metrics.relevant_by. StoreError: a file is damaged.
    """
    notes: list[str] = []
    lists = [one for s in (store, *beside) for one in _lists(s, "" if s is store else _prefix(s, beside), notes)]
    if not lists or (len(lists) < 2 and not metrics.relevant_by):
        return Alike()
    found = Alike(list(metrics.relevant_by), lists, notes=notes)
    known: dict[tuple[str, str], Values] = {}
    for one in lists:
        for s in (one.store, one.source):
            if (s.root, one.per) not in known:
                known[s.root, one.per] = Values(s, one.per, found.columns)
        _judge(one, known[one.store.root, one.per], known[one.source.root, one.per], found)
    found.values = known.get((store.root, "item")) or Values(store, "item", found.columns)
    _choose_queries(found, settings)
    return found


def _prefix(store: Store, beside: Sequence[Store]) -> str:
    """The run's folder name, with a number where others are called the same."""
    names = [s.root.rstrip("/").rpartition("/")[2] for s in beside]
    place = next(i for i, s in enumerate(beside) if s is store)
    return f"{names[place]}/" if names.count(names[place]) == 1 else f"{names[place]} ({place + 1})/"


def _lists(store: Store, prefix: str, notes: list[str]) -> list[Lists]:
    entries = {e.key.split("/")[1] for e in store.list(layout.SEARCHES) if e.key.count("/") == 2}
    found = []
    for name in sorted(n for n in entries if store.exists(layout.search_key(n, "about.json"))):
        about = store.read_json(layout.search_key(name, "about.json"))
        if not about.get("kinds") or not set(about["kinds"]) <= STORED_QUERIES:
            continue
        root = about.get("asked_from") or store.root
        source = store if root == store.root else open_store(root, store.settings)
        if source is not store and not source.exists(layout.RUN):
            notes.append(f"search {name}: the run that asked, {root}, is not there any more; its lists are left out")
            continue
        queries = store.read_table(layout.search_key(name, "queries.parquet"), _QUERY_COLUMNS)
        queries = queries.filter(pc.equal(queries["status"], Status.OK.value))
        if queries.num_rows:
            found.append(Lists(prefix + name, name, store, source, about, queries))
    return found


def _judge(one: Lists, gallery: Values, source: Values, found: Alike) -> None:
    if one.narrowed:
        words = ", ".join(f"search.{name}" for name in one.narrowed)
        found.notes.append(f"search {one.name} was narrowed ({words}), so it is shown and not judged")
        return
    place_QK = _places(one, gallery)
    asked = pa.array(one.queries[f"{one.per}_id"].combine_chunks())
    own = _codes(asked, source.keys)
    for column in found.columns:
        texts, asking = gallery.texts(column), source.texts(column)
        names = pc.unique(pc.drop_null(pa.concat_arrays([texts, asking])))
        label_N, label_M = _codes(texts, names), _codes(asking, names)
        label_Q = np.where(own >= 0, label_M[own], NONE) if len(label_M) else np.full(len(own), NONE)
        label_QK = np.where(place_QK >= 0, label_N[place_QK], NONE) if len(label_N) else place_QK
        relevant_Q, gallery_Q = _counts(one, gallery, label_N, label_Q)
        one.judged[column] = ListsByValue(names.to_pylist(), label_Q, label_QK, relevant_Q, gallery_Q)


def _places(one: Lists, gallery: Values) -> Ints:
    """(Q, K) places in the gallery of each query's results, NONE beyond a list's end."""
    ids = pa.array(one.query_ids, pa.string())
    places = np.full((len(ids), one.depth), NONE, np.int64)
    for batch in batches(one.store, layout.search_key(one.search, "results.parquet")):
        query, rank = _codes(batch["query_id"], ids), batch["rank"].to_numpy()
        kept = (query >= 0) & (rank <= one.depth)
        places[query[kept], rank[kept] - 1] = _codes(batch[f"{one.per}_id"], gallery.keys)[kept]
    return places


def _counts(one: Lists, gallery: Values, label_N: Ints, label_Q: Ints) -> tuple[Ints, Ints]:
    """Keys of each query's gallery with its value, and in all: its own item or row is not among them."""
    per_label = np.bincount(label_N[label_N >= 0], minlength=max(1, int(label_N.max(initial=0)) + 1))
    whole = np.where(label_Q >= 0, per_label[np.minimum(label_Q, len(per_label) - 1)], 0)
    total = np.full(len(label_Q), len(label_N), np.int64)
    leave_out = set(one.about.get("leave_out") or [])
    by = "item_id" if "item" in leave_out else "row_id" if "row" in leave_out else None
    if by is None:
        return whole, total
    own = pd.DataFrame({"key": gallery.frame[by], "label": label_N})
    sizes, same = own.groupby("key").size(), own.groupby(["key", "label"]).size()
    keys = one.queries[by].to_pylist()
    alike = same.reindex(pd.MultiIndex.from_arrays([keys, label_Q]), fill_value=0).to_numpy()
    return np.where(label_Q >= 0, whole - alike, 0), total - sizes.reindex(keys, fill_value=0).to_numpy()


def _codes(values: pa.Array | pa.ChunkedArray, names: pa.Array) -> Ints:
    """Place of each value among `names`, NONE where it is not there."""
    found = pc.fill_null(pc.index_in(values.cast(pa.string()), value_set=names, skip_nulls=True), NONE)
    return np.asarray(found).astype(np.int64)


def _choose_queries(found: Alike, settings: ReportSettings) -> None:
    """Queries of all searches by the mean quality of their lists: the worst, the middle and the best in turn."""
    rows: dict[str, Row] = {}
    sums: dict[str, list[float]] = {}
    for one in found.lists:
        value_Q: Floats = np.full(len(one.query_ids), np.nan)
        if found.columns and found.columns[0] in one.judged:
            value_Q = quality(one.judged[found.columns[0]])
        for query, value in zip(table_rows(one.queries), value_Q.tolist(), strict=True):
            rows.setdefault(query["query_id"], query | {"source": one.source, "quality": {}})
            rows[query["query_id"]]["quality"][one.name] = None if value != value else value
            if value == value:
                sums.setdefault(query["query_id"], []).append(value)
    ids = list(rows)
    if sums:
        means = np.array([np.mean(sums[i]) if i in sums else np.inf for i in ids])
        ids = [ids[i] for i in np.argsort(means, kind="stable")]
        known = len(sums)
    else:
        known = len(ids)
    places = in_turn(known)[: settings.max_queries] + list(range(known, len(ids)))
    found.total = len(ids)
    found.shown = {p: rows[ids[p]] for p in sorted(places[: settings.max_queries])}
    wanted = pa.array([q["query_id"] for q in found.shown.values()], pa.string())
    for one in found.lists:
        for batch in batches(one.store, layout.search_key(one.search, "results.parquet")):
            for row in table_rows(batch.filter(pc.is_in(batch["query_id"], value_set=wanted))):
                own = one.results.setdefault(row["query_id"], [])
                if len(own) < settings.images_per_query:
                    own.append(row)


def in_turn(count: int) -> list[int]:
    """Places 0 .. count - 1 of an order as worst, middle, best, second worst, next to the middle, second best ..."""
    middle = sorted(range(count), key=lambda i: (abs(2 * i - (count - 1)), i))
    turns = [range(count), middle, range(count - 1, -1, -1)]
    return list(dict.fromkeys(place for three in zip(*turns, strict=True) for place in three))
