"""The queries of `aggregate`: texts of items, or images; which of them, their vectors, what is relevant to each.

Leaves out: reading whole score files (scan.py) and the search (search/exact.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import StoreError
from aistudio.evaluation.scan import draw, hashes
from aistudio.runs import layout
from aistudio.runs.mapper import Mapper
from aistudio.search.gallery import File, matrix
from aistudio.search.lookup import rows_at
from aistudio.search.qrels import read_qrels, relevance
from aistudio.search.queries import Queries
from aistudio.store import Store
from aistudio.values import column_values

MIXED = "(mixed)"
PICTURE = ("content_hash", "row_id")  # rows of one picture: the same bytes, or else the row itself


def text_queries(store: Store, merged: pd.DataFrame, settings: MetricsSettings) -> Queries:
    """A query for each distinct (item, text) that has a text vector.

    Raises:
        ConfigError: the qrels file cannot be used.
        StoreError: damaged text vectors.
    """
    frame = merged.assign(query_id=name_queries(merged))
    has, vectors = text_vectors(store, frame["text"].tolist())
    notes = (
        [] if has.all() else [f"{(~has).sum()} of {len(has)} queries have no text vector in texts/ and are left out"]
    )
    chosen = draw(hashes(frame["query_id"][has], settings.seed), settings.max_queries)
    vectors = vectors[chosen]
    frame = frame[has].iloc[chosen].reset_index(drop=True)
    items = frame["item_id"].tolist()
    same_item = relevance(["item_id"], items, np.arange(len(items)))
    if settings.qrels:
        same_item, more = read_qrels(settings.qrels, frame["query_id"].tolist(), items, store)
        notes += more
    return Queries(frame, lambda part: vectors[part], same_item, None, int(has.sum()), notes)


def image_queries(
    store: Store, files: Sequence[File], ids: NDArray[np.int64], num_all: int, settings: MetricsSettings, mapper: Mapper
) -> Queries:
    """A query for each of the ok rows `ids`; what is relevant are the other images of its item, or its qrels.

    Vectors are read when they are asked for, so that memory holds those of one chunk of queries.

    Raises:
        ConfigError: the qrels file cannot be used.
        StoreError: a file is damaged.
    """
    columns = ["row_id", "item_id", "text", "image_url", "content_hash"]
    table = rows_at(store, files, ids, list(dict.fromkeys([*columns, *settings.slices])), mapper)
    fixed = {"query_id" if c == "row_id" else c: table[c].to_pylist() for c in columns if c != "content_hash"}
    frame = pd.DataFrame(fixed, dtype=object)
    for column in settings.slices:
        frame[f"{column}:value"] = pd.Series(column_values(table[column]), dtype=object)
    places = np.arange(len(frame))
    own = relevance(PICTURE, pc.coalesce(*(table[c] for c in PICTURE)).to_pylist(), places)
    wanted, notes = relevance(["item_id"], frame["item_id"].tolist(), places), list[str]()
    if settings.qrels:
        wanted, notes = read_qrels(settings.qrels, frame["query_id"].tolist(), [], store)
    return Queries(frame, lambda part: _image_vectors(store, files, ids[part], mapper), wanted, own, num_all, notes)


def _image_vectors(store: Store, files: Sequence[File], ids: NDArray[np.int64], mapper: Mapper) -> NDArray[np.float32]:
    column = rows_at(store, files, ids, ["embedding"], mapper)["embedding"]
    if column.null_count:
        raise StoreError(f"{store.root}: {column.null_count} rows of scores/ are ok and have no embedding")
    return matrix(column, store.path(layout.SCORES)) if len(ids) else np.empty((0, 1), dtype=np.float32)


def slice_values(queries: pd.DataFrame, column: str) -> list[Any]:
    """A query's value of a column: for images its own; for texts the mean over its rows of a number, else the value,
    "(mixed)" if they differ."""
    if f"{column}:value" in queries:
        return queries[f"{column}:value"].tolist()
    if f"{column}:sum" in queries:
        count = queries[f"{column}:count"]
        return (queries[f"{column}:sum"] / count.where(count > 0)).tolist()
    return queries[f"{column}:first"].where(~queries[f"{column}:other"].astype(bool), MIXED).tolist()


def name_queries(queries: pd.DataFrame) -> list[str]:
    """query_id: the item_id, or `<item_id>#<j>` (from 1) for an item with several texts; unique in any case."""
    several = queries["item_id"].map(queries["item_id"].value_counts()) > 1
    place = queries.groupby("item_id", sort=False).cumcount() + 1
    taken = set(queries["item_id"][~several])
    names = []
    for item, j, many in zip(queries["item_id"], place, several, strict=True):
        name = f"{item}#{j}" if many else item
        while many and name in taken:
            name += "'"
        taken.add(name)
        names.append(name)
    return names


def text_vectors(store: Store, texts: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which texts have a vector in texts/*.parquet, and the vectors of those, (found, D) float32.

    A text that is in several files has equal vectors up to rounding: the first file's is taken.
    """
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    vectors: dict[int, NDArray[np.float32]] = {}
    for entry in store.list(layout.TEXTS):
        table = store.read_table(entry.key, ["text", "embedding"], verify=True)
        table = table.filter(pc.is_valid(table["embedding"]))
        rows_ND = matrix(table["embedding"], store.path(entry.key))
        for row, text in enumerate(table["text"].to_pylist()):
            if text in place and place[text] not in vectors:
                vectors[place[text]] = rows_ND[row]
    has = np.array([place[text] in vectors for text in texts], dtype=bool)
    rows = [vectors[place[text]] for text, found in zip(texts, has, strict=True) if found]
    return has, np.stack(rows) if rows else np.empty((0, 1), dtype=np.float32)
