"""More like this: the stored neighbours of a report's pictures, from an aggregation whose queries are images."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aistudio.evaluation import place
from aistudio.pipeline.report_rows import Place, batches
from aistudio.reports.cards import Tile
from aistudio.reports.page import number
from aistudio.reports.safe import script_data
from aistudio.runs import layout
from aistudio.store import Store

NEIGHBOURS = 6  # of a picture
PER_FILE = 50  # pictures whose neighbours lie in one data file
_SHOWN = ("row_id", "item_id", "text", "image_url", "recall_score", "rank_score")
_COLUMNS = ["query_id", "row_id", "file", "row_index", "rank", "score", "part"]


@dataclass
class Similar:
    """Pictures by row_id, each with its neighbours, the nearest first: (place, score, rank)."""

    aggregation: str = ""
    of: dict[str, list[tuple[Place, float, int]]] = field(default_factory=dict)

    def places(self) -> set[Place]:
        """Where the neighbours are stored."""
        return {place for found in self.of.values() for place, _, _ in found}


def image_aggregation(store: Store) -> str | None:
    """Return the name of the aggregation that holds each image's neighbours, None where there is none."""
    found = []
    for name in place.names(store):
        folder = place.folder_of(store, name)
        key = layout.metrics_key("about.json", folder)
        if store.exists(key) and store.read_json(key).get("query") == "image":
            found.append(name)
    return "image" if "image" in found else found[0] if found else None


def choose_similar(store: Store, asked: Iterable[str], most: int) -> Similar:
    """Neighbours of the first `most` pictures asked for, by row_id; none where no aggregation holds them."""
    name = image_aggregation(store) if most else None
    key = "" if name is None else layout.metrics_key("top.parquet", place.folder_of(store, name))
    if name is None or not store.exists(key):
        return Similar()
    ids = pa.array(list(dict.fromkeys(asked))[:most], pa.string())
    of: dict[str, list[tuple[Place, float, int]]] = {}
    for batch in batches(store, key, _COLUMNS):
        near = pc.and_(pc.equal(batch["part"], "top"), pc.less_equal(batch["rank"], NEIGHBOURS))
        for row in batch.filter(pc.and_(near, pc.is_in(batch["query_id"], value_set=ids))).to_pylist():
            entry = ((row["file"], row["row_index"]), row["score"], row["rank"])
            of.setdefault(row["query_id"], []).append(entry)
    return Similar(name, {q: sorted(found, key=lambda e: e[2]) for q, found in of.items()})


def similar_files(
    similar: Similar, thumbs: dict[Place, str], fields: dict[Place, dict[str, Any]]
) -> dict[str, bytes]:  # fmt: skip
    """Data files of the report: an index of the pictures and their neighbours, PER_FILE pictures a file.

    Args:
        thumbs: paths of pictures inside the report.
        fields: stored fields of the neighbours; a row that has none is gone (scored again since) and left out.
    """
    ids = list(similar.of)
    files = {"data/similar.js": script_data("similar", {"ids": ids, "perFile": PER_FILE})}
    for n, start in enumerate(range(0, len(ids), PER_FILE)):
        part = [
            [
                _tile(thumbs.get(where), fields[where], score, rank)
                for where, score, rank in similar.of[i]
                if where in fields
            ]
            for i in ids[start : start + PER_FILE]
        ]
        files[f"data/similar-{n:04d}.js"] = script_data(f"similar-{n:04d}", part)
    return files


def _tile(thumb: str | None, fields: dict[str, Any], score: float, rank: int) -> dict[str, Any]:
    shown = {"similarity": score} | {k: fields.get(k) for k in _SHOWN}
    return Tile(thumb, "", f"neighbour {rank}", str(rank), score, number(score), shown).as_data()
