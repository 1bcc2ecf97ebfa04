"""Which queries, pairs and items of a run get a card in the report, and with which of their rows.

Everything is cut to the report's settings while it streams by: the tables themselves may have millions of rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import ReportSettings
from aistudio.pipeline.report_rows import Place, batches
from aistudio.reports import gallery, pairs, selection
from aistudio.runs import layout
from aistudio.store import Store
from aistudio.values import table_rows

_SHOWN_RIGHT_PAIRS = 200  # beside the mistakes, to see what the model gets right
Row = dict[str, Any]


@dataclass
class Queries:
    """Rows of per_query.parquet that get a card, by position in worst-first order, and their images."""

    total: int = 0
    quality: str | None = None  # the metric that orders them
    shown: dict[int, Row] = field(default_factory=dict)
    images: dict[str, list[Row]] = field(default_factory=dict)  # by query_id, rows of top.parquet

    def places(self) -> set[Place]:
        return {(r["file"], r["row_index"]) for rows in self.images.values() for r in rows}


@dataclass
class Pairs:
    """Rows of pairs.parquet that get a card: mistakes first, the surest first."""

    total: int = 0
    shown: list[Row] = field(default_factory=list)

    def row_ids(self) -> set[str]:
        return {r[side] for r in self.shown for side in ("row_id_a", "row_id_b") if r.get(side) is not None}


@dataclass
class Items:
    """Rows of selection/ of the items that get a card, in stored order."""

    total: int = 0
    shown: dict[str, list[Row]] = field(default_factory=dict)

    def row_ids(self, most: int) -> set[str]:
        """Rows that become a tile: the others of a large item need no picture."""
        return {r["row_id"] for rows in self.shown.values() for part in selection.parts(rows) for r in part[:most]}


def choose_queries(store: Store, settings: ReportSettings, folder: str | None = None) -> Queries:
    """At most `max_queries` queries with at most `images_per_query` images of a kind; none without metrics.

    `folder`: of the aggregation (evaluation/place.py).
    """
    key, top = (layout.metrics_key(file, folder) for file in ("per_query.parquet", "top.parquet"))
    if not (store.exists(key) and store.exists(top)):
        return Queries()
    quality = gallery.quality_column(store.read_metadata(key)[0].names)
    extra = [quality] if quality else []
    values = _floats(store, key, ["first_rank", *extra])
    order = gallery.worst_first(values.get(quality or ""), values["first_rank"])
    position = {int(order[p]): int(p) for p in gallery.shown_positions(len(order), settings.max_queries)}
    wanted = ["query_id", "item_id", "text", "num_relevant", "first_rank", *extra]
    found = {position[i]: q for i, q in _take(batches(store, key, wanted), set(position))}
    shown = dict(sorted(found.items()))
    ids = pa.array([q["query_id"] for q in shown.values()], pa.string())
    images: dict[str, list[Row]] = {}
    for batch in batches(store, top):
        for row in table_rows(batch.filter(pc.is_in(batch["query_id"], value_set=ids))):
            images.setdefault(row["query_id"], []).append(row)
    images = {
        q: [r for part in gallery.parts(rows, settings.images_per_query) for r in part] for q, rows in images.items()
    }
    return Queries(len(order), quality, shown, images)


def choose_pairs(store: Store, settings: ReportSettings, folder: str | None = None) -> Pairs:
    """At most `max_queries` mistakes and an even sample of the pairs that were predicted rightly."""
    key = layout.metrics_key("pairs.parquet", folder)
    if not store.exists(key):
        return Pairs()
    table = store.read_table(key, ["correct", "margin"])
    correct = table["correct"].to_pylist()
    order = pairs.confidence_order(table["margin"].to_pylist(), correct)
    wrong = [i for i in order if not correct[i]][: settings.max_queries]
    right = [i for i in order if correct[i]]
    step = max(1, -(-len(right) // _SHOWN_RIGHT_PAIRS))
    position = {i: p for p, i in enumerate([*wrong, *right[::step]])}
    rows = {position[i]: r for i, r in _take(batches(store, key), set(position))}
    return Pairs(len(order), [r for _, r in sorted(rows.items())])


def choose_items(store: Store, settings: ReportSettings) -> Items:
    """The first `max_queries` items of the selection."""
    items: dict[str, list[Row]] = {}
    seen: set[str] = set()
    for entry in store.list(layout.SELECTION):
        if not entry.key.endswith(".parquet"):
            continue
        for batch in batches(store, entry.key):
            fresh = [i for i in dict.fromkeys(batch["item_id"].to_pylist()) if i not in seen]
            seen.update(fresh)
            items |= {i: [] for i in fresh[: max(0, settings.max_queries - len(items))]}
            shown = pa.array(list(items), pa.string())
            for row in table_rows(batch.filter(pc.is_in(batch["item_id"], value_set=shown))):
                items[row["item_id"]].append(row)
    return Items(len(seen), items)


def _take(parts: Iterable[pa.RecordBatch], wanted: set[int]) -> list[tuple[int, Row]]:
    """(row number, row) of the wanted row numbers, reading batch by batch."""
    start, found = 0, []
    numbers = np.array(sorted(wanted), np.int64)
    for batch in parts:
        inside = numbers[(numbers >= start) & (numbers < start + batch.num_rows)]
        found += list(zip(inside.tolist(), table_rows(batch.take(pa.array(inside - start))), strict=True))
        start += batch.num_rows
    return found


def _floats(store: Store, key: str, columns: list[str]) -> dict[str, np.ndarray]:
    table = store.read_table(key, columns)
    return {c: table[c].cast(pa.float64()).to_numpy().astype(np.float64) for c in columns}
