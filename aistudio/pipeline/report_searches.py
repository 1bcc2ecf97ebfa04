"""Which queries of a run's searches get a card in the report, and the rows that their cards show."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import ReportSettings
from aistudio.pipeline.report_rows import batches
from aistudio.reports import composed, gallery, searches
from aistudio.runs import layout
from aistudio.store import Store
from aistudio.values import table_rows

Row = dict[str, Any]
_COLUMNS = [
    "query_id", "kind", "status", "error", "text", "item_id", "row_id", "num_relevant", "first_rank", "quality",
    "change",
]  # fmt: skip
_LEFT_OUT = 6  # rows of a card


@dataclass
class Search:
    """A search and the queries of it that are shown, by position in worst-first order."""

    name: str
    summary: Row
    total: int
    own: bool  # its queries' rows are of this run
    shown: dict[int, Row] = field(default_factory=dict)
    results: dict[str, list[Row]] = field(default_factory=dict)  # by query_id
    left_out: dict[str, list[Row]] = field(default_factory=dict)
    composed: bool = False  # it has queries of a picture and a text: a page of their own
    curve: list[list[Any]] = field(default_factory=list)  # [K, share of queries with a right result by then]
    changes: list[Row] = field(default_factory=list)  # the same at some K by kind of change

    def row_ids(self) -> set[str]:
        """Rows whose pictures the cards show."""
        found = {r["row_id"] for rows in (*self.results.values(), *self.left_out.values()) for r in rows}
        return found | {q["row_id"] for q in self.shown.values() if self.own and q["row_id"] is not None}


def choose_searches(store: Store, settings: ReportSettings) -> list[Search]:
    """Return every complete search of the run with at most its share of `max_queries` queries."""
    found = {e.key.split("/")[1] for e in store.list(layout.SEARCHES) if e.key.count("/") == 2}
    names = sorted(n for n in found if store.exists(layout.search_key(n, "about.json")))
    return [_chosen(store, name, max(1, settings.max_queries // len(names)), settings) for name in names]


def _chosen(store: Store, name: str, most: int, settings: ReportSettings) -> Search:
    about = store.read_json(layout.search_key(name, "about.json"))
    key = layout.search_key(name, "metrics.json")
    metrics = store.read_json(key) if store.exists(key) else {}
    queries = store.read_table(layout.search_key(name, "queries.parquet"), _COLUMNS)
    quality, first = (queries[c].cast(pa.float64()).to_numpy().astype(np.float64) for c in ("quality", "first_rank"))
    order = gallery.worst_first(quality, first)
    if np.isnan(quality).all():  # nothing is judged: the order of the table
        order = np.arange(len(order))
    places = gallery.shown_positions(len(order), most)
    rows = queries.take(pa.array(order[places])).to_pylist()
    own = about.get("asked_from") in (None, store.root)
    search = Search(name, searches.summary(name, about, metrics), len(order), own)
    if composed.is_composed(about):
        search.composed = True
        search.curve, search.changes = composed.curve(about, queries), composed.rows(name, about, queries)
    search.shown = dict(zip(places.tolist(), rows, strict=True))
    ids = pa.array([row["query_id"] for row in rows], pa.string())
    search.results = _of_queries(store, name, "results.parquet", ids, settings.images_per_query)
    search.left_out = _of_queries(store, name, "left_out.parquet", ids, _LEFT_OUT)
    _add_thumbnails(store, search, ids)
    return search


def _of_queries(store: Store, name: str, file: str, ids: pa.Array, most: int) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for batch in batches(store, layout.search_key(name, file)):
        for row in table_rows(batch.filter(pc.is_in(batch["query_id"], value_set=ids))):
            rows = found.setdefault(row["query_id"], [])
            if len(rows) < most:
                rows.append(row)
    return found


def _add_thumbnails(store: Store, search: Search, ids: pa.Array) -> None:
    pictures: dict[str, bytes] = {}
    for batch in batches(store, layout.search_key(search.name, "queries.parquet"), ["query_id", "thumbnail"]):
        wanted = pc.and_(pc.is_in(batch["query_id"], value_set=ids), pc.is_valid(batch["thumbnail"]))
        pictures |= {row["query_id"]: row["thumbnail"] for row in batch.filter(wanted).to_pylist()}
    for query in search.shown.values():
        query["thumbnail"] = pictures.get(query["query_id"])
