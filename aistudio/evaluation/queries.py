"""The queries of `aggregate`: texts of items, or images; which of them, their vectors, what is relevant to each.

Leaves out: reading whole score files (scan.py) and the search (search/exact.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.evaluation.scan import draw, hashes
from aistudio.runs import layout
from aistudio.runs.mapper import Mapper
from aistudio.schema import has_text
from aistudio.search.exact import Gallery
from aistudio.search.gallery import File, matrix
from aistudio.search.lookup import rows_at
from aistudio.search.qrels import Judgements, count_unknown_rows, read_qrels, relevance
from aistudio.search.queries import Queries
from aistudio.store import Store
from aistudio.values import column_values

MIXED = "(mixed)"
PICTURE = ("content_hash", "row_id")  # rows of one picture: the same bytes, or else the row itself


def say_nothing(merged: pd.DataFrame) -> str | None:
    """Say why these texts cannot be asked with, None where they can: all are empty, or all are the same."""
    instead = "text queries mean nothing here; metrics.query=image asks with the images"
    with_text = merged[has_text(pa.array(merged["text"], pa.string())).to_numpy(zero_copy_only=False)]
    if not len(with_text):
        return f"no row has a text: {instead}"
    if merged["item_id"].nunique() > 1 and with_text["text"].nunique() == 1 and len(with_text) > 1:
        return f"all {len(with_text):,} items have the same text {with_text['text'].iloc[0][:60]!r}: {instead}"
    return None


TextVectors = Callable[[Store, Sequence[str]], tuple[NDArray[np.bool_], NDArray[np.float32]]]


def text_queries(
    store: Store, files: Sequence[File], merged: pd.DataFrame, settings: MetricsSettings, mapper: Mapper,
    vectors_of: TextVectors | None = None,
) -> tuple[Queries, Judgements | None]:  # fmt: skip
    """A query for each distinct (item, text) that has a text and a vector of it, and the judgements if there are any.

    Args:
        vectors_of: finds the texts' vectors; None: in texts/, as `text_vectors`.

    Raises:
        ConfigError: the qrels file cannot be used.
        StoreError: damaged text vectors.
    """
    frame, notes = _with_text(merged.assign(query_id=name_queries(merged)), by_item=settings.qrels is None)
    has, vectors = (vectors_of or text_vectors)(store, frame["text"].tolist())
    if not has.all():
        where = layout.TEXTS if vectors_of is None else "the given table"
        notes.append(f"{(~has).sum()} of {len(has)} queries have no text vector in {where} and are left out")
    chosen = draw(hashes(frame["query_id"][has], settings.seed), settings.max_queries)
    vectors = vectors[chosen]
    frame = frame[has].iloc[chosen].reset_index(drop=True)
    items = frame["item_id"].tolist()
    same_item = relevance(["item_id"], items, np.arange(len(items)))
    queries = Queries(frame, lambda part: vectors[part], same_item, (), int(has.sum()), notes)
    return _judged(queries, names_of(frame, ["item_id", "query_id"]), store, files, settings, mapper)


def _with_text(frame: pd.DataFrame, *, by_item: bool) -> tuple[pd.DataFrame, list[str]]:
    """The queries that have a text, and notes on those that have none or share theirs."""
    says = has_text(pa.array(frame["text"], pa.string())).to_numpy(zero_copy_only=False)
    notes = []
    if not says.all():
        rows = int(frame["num_rows"][~says].sum())
        notes.append(
            f"{rows:,} rows of {frame['item_id'][~says].nunique():,} items have no text: they are no query and have no "
            "recall_score; their images stay in the gallery"
        )
    kept = frame[says].reset_index(drop=True)
    shared = int(kept["text"].duplicated(keep=False).sum())
    if by_item and shared > 0.5 * len(kept):
        notes.append(
            f"{shared:,} of {len(kept):,} queries have a text that another item has too: no model can tell their "
            "images apart by it, so their numbers say more about the texts than about the model"
        )
    return kept, notes


def names_of(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[int]]:
    """Return what a user's table may call the queries; a later column's names go before an earlier one's."""
    names: dict[str, list[int]] = {}
    for column in columns:
        own: dict[str, list[int]] = {}
        for q, name in enumerate(frame[column]):
            own.setdefault(name, []).append(q)
        names |= own
    return names


def _judged(
    queries: Queries, names: dict[str, list[int]], store: Store, files: Sequence[File], settings: MetricsSettings,
    mapper: Mapper,
) -> tuple[Queries, Judgements | None]:  # fmt: skip
    """The queries with the relevance of metrics.qrels, if that is set. Raises ConfigError when it fits no row."""
    if settings.qrels is None:
        return queries, None
    stored = store.read_metadata(files[0][1])[0].names
    judged = read_qrels(settings, names, stored, store)
    notes = [*queries.notes, *judged.notes]
    lost, some = count_unknown_rows(judged.relevance, files, store, mapper)
    num_named = len(judged.relevance.names)
    if num_named and lost == num_named:
        key = " and ".join(judged.relevance.columns)
        raise ConfigError(
            f"metrics.qrels: {settings.qrels}: none of its {num_named:,} images is in this run, by {key}; it names "
            f"{', '.join(some)}"
        )
    if lost:
        notes.append(
            f"{lost:,} of {num_named:,} images that {settings.qrels} names are not in this run, e.g. {some[0]}"
        )
    left_out = (*queries.left_out, judged.ignored) if judged.ignored else queries.left_out
    return replace(queries, relevance=judged.relevance, left_out=left_out, notes=notes), judged


def image_queries(
    gallery: Gallery, ids: NDArray[np.int64], num_all: int, settings: MetricsSettings, mapper: Mapper
) -> tuple[Queries, Judgements | None]:
    """A query for each of the ok rows `ids`; what is relevant are the other images of its item, or its qrels.

    Vectors are read when they are asked for, so that memory holds those of one chunk of queries.

    Raises:
        ConfigError: the qrels file cannot be used.
        StoreError: a file is damaged.
    """
    store, files = gallery.store, gallery.files
    columns = ["row_id", "item_id", "text", "image_url", "content_hash"]
    table = rows_at(store, files, ids, list(dict.fromkeys([*columns, *settings.slices])), mapper)
    fixed = {"query_id" if c == "row_id" else c: table[c].to_pylist() for c in columns if c != "content_hash"}
    frame = pd.DataFrame(fixed, dtype=object)
    for column in settings.slices:
        frame[f"{column}:value"] = pd.Series(column_values(table[column]), dtype=object)
    places = np.arange(len(frame))
    own = relevance(PICTURE, pc.coalesce(*(table[c] for c in PICTURE)).to_pylist(), places)
    wanted = relevance(["item_id"], frame["item_id"].tolist(), places)
    queries = Queries(frame, lambda part: gallery.vectors_at(ids[part], mapper), wanted, (own,), num_all)
    return _judged(queries, names_of(frame, ["image_url", "query_id"]), store, files, settings, mapper)


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
