"""What `aggregate` reads of a run folder beside image vectors: rows, queries with their vectors, relevance.

Leaves out: image vectors (_aggregate_gallery.py), the search (_aggregate_search.py), pairs (_aggregate_pairs.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from aistudio.errors import ConfigError, StoreError
from aistudio.pipeline._aggregate_gallery import ID_STEP, File, matrix
from aistudio.schema import Status
from aistudio.store import Store, open_store

MIXED = "(mixed)"
PAIR_COLUMNS = ("pair_id", "side", "ctr")
_NUMERIC = (pa.types.is_integer, pa.types.is_floating)


@dataclass
class Scan:
    """What the cheap columns of some score files hold."""

    status: Counter[str]
    queries: pd.DataFrame  # a row per (item_id, text), in manifest order; see `merge_queries`
    pairs: pd.DataFrame | None  # rows that belong to an A/B pair


def score_files(store: Store) -> list[File]:
    """Raises StoreError when the run has no scores."""
    keys = [e.key for e in store.list("scores/") if e.key.endswith(".parquet")]
    if not keys:
        raise StoreError(f"{store.root}: no scores/*.parquet: not a run folder, or nothing has been scored yet")
    return list(enumerate(keys))


def scan_files(files: Sequence[File], store: Store, slices: Sequence[str]) -> Scan:
    """Read everything but vectors and thumbnails of some files."""
    status: Counter[str] = Counter()
    queries, pairs = [], []
    for number, key in files:
        wanted = ["row_id", "item_id", "text", "status", "rank_score", "recall_score", *PAIR_COLUMNS, *slices]
        table = store.read_table(key, list(dict.fromkeys(wanted)))
        missing = [c for c in slices if c not in table.column_names]
        if missing:
            known = ", ".join(c for c in store.read_metadata(key)[0].names if c not in ("embedding", "thumbnail"))
            raise ConfigError(f"metrics.slices: {missing[0]} is not a column of {store.path(key)}; known: {known}")
        numeric = {c: any(test(table.schema.field(c).type) for test in _NUMERIC) for c in slices}
        frame = table.to_pandas()
        status.update(frame["status"].tolist())
        queries.append(_by_query(frame, numeric))
        if set(PAIR_COLUMNS) <= set(frame.columns):
            frame["id"] = number * ID_STEP + np.arange(len(frame))
            pairs.append(frame[frame["pair_id"].notna()])
    return Scan(status, merge_queries(queries, slices), pd.concat(pairs, ignore_index=True) if pairs else None)


def _by_query(frame: pd.DataFrame, numeric: dict[str, bool]) -> pd.DataFrame:
    """Rows per query: counts, and for each slice column sum and count, or the value and whether there are others."""
    groups = frame.groupby(["item_id", "text"], sort=False, dropna=False)
    out = groups.size().to_frame("num_rows")
    out["num_ok"] = (frame["status"] == Status.OK.value).groupby([frame["item_id"], frame["text"]], sort=False).sum()
    for column, is_number in numeric.items():
        if is_number:
            out[f"{column}:sum"], out[f"{column}:count"] = groups[column].sum(), groups[column].count()
        else:
            text = frame[column].map(lambda v: None if v is None else str(v)).astype(object)
            by = text.groupby([frame["item_id"], frame["text"]], sort=False)
            out[f"{column}:first"], out[f"{column}:other"] = by.first(), by.nunique(dropna=False) > 1
    return out.reset_index()


def merge_queries(frames: Sequence[pd.DataFrame], slices: Sequence[str]) -> pd.DataFrame:
    """The same for several files: item_id, text, num_rows, num_ok and the slice columns' parts."""
    whole = pd.concat(frames, ignore_index=True)
    groups = whole.groupby(["item_id", "text"], sort=False)
    out = groups[[c for c in whole if c in ("num_rows", "num_ok") or str(c).endswith((":sum", ":count"))]].sum()
    for column in slices:
        if f"{column}:first" in whole:
            first = groups[f"{column}:first"]
            out[f"{column}:first"] = first.first()
            out[f"{column}:other"] = groups[f"{column}:other"].any() | (first.nunique(dropna=False) > 1)
    return out.reset_index()


def slice_values(queries: pd.DataFrame, column: str) -> list[Any]:
    """A query's value of a column: the mean over its rows of a number, else the value, "(mixed)" if they differ."""
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
    for entry in store.list("texts/"):
        table = store.read_table(entry.key, ["text", "embedding"])
        table = table.filter(pc.is_valid(table["embedding"]))
        rows_ND = matrix(table["embedding"], store.path(entry.key))
        for row, text in enumerate(table["text"].to_pylist()):
            if text in place and place[text] not in vectors:
                vectors[place[text]] = rows_ND[row]
    has = np.array([place[text] in vectors for text in texts], dtype=bool)
    rows = [vectors[place[text]] for text, found in zip(texts, has, strict=True) if found]
    return has, np.stack(rows) if rows else np.empty((0, 1), dtype=np.float32)


@dataclass(frozen=True)
class Relevance:
    """Which queries a gallery row is relevant for: by the value of one of its columns, graded."""

    column: str  # item_id, or row_id of a qrels file
    names: pa.Array  # distinct values
    start_I1: NDArray[np.int64]  # names[i] is relevant for query_J[start[i]:start[i + 1]]
    query_J: NDArray[np.int64]
    gain_J: NDArray[np.float64]

    def pairs(self, values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Rows, queries and gains of the relevant pairs among rows with these column values: (P,) each."""
        known = pc.index_in(values, value_set=self.names).fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(known >= 0)
        start, end = self.start_I1[known[rows]], self.start_I1[known[rows] + 1]
        which = np.repeat(end - np.cumsum(end - start), end - start) + np.arange((end - start).sum())
        return np.repeat(rows, end - start), self.query_J[which], self.gain_J[which]


def relevance(column: str, names: Sequence[str], queries: Sequence[int], gains: ArrayLike) -> Relevance:
    """From triples (value of the column, query, gain)."""
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    order = np.argsort(codes, kind="stable")
    start = np.searchsorted(codes[order], np.arange(len(distinct) + 1))
    return Relevance(
        column, pa.array(distinct.tolist(), pa.string()), start.astype(np.int64),
        np.asarray(queries, dtype=np.int64)[order], np.asarray(gains, dtype=np.float64)[order],
    )  # fmt: skip


def read_qrels(path: str, query_ids: Sequence[str], items: Sequence[str], store: Store) -> tuple[Relevance, list[str]]:
    """Relevance from a Parquet or TSV file with columns query, row_id and relevance (optional, default 1).

    `query` is a query_id, or an item_id, which stands for all its texts. Returns notes about lines without a query.

    Raises:
        ConfigError: the file cannot be read or lacks a column.
    """
    folder, _, name = path.rpartition("/")
    try:
        with open_store(folder or ".", store.settings).open(name) as f:
            frame = (
                pd.read_parquet(f)
                if name.endswith(".parquet")
                else pd.read_csv(f, sep="\t", dtype=str, keep_default_na=False)
            )
    except (StoreError, OSError, ValueError, pa.ArrowException) as e:
        raise ConfigError(f"metrics.qrels: {path}: cannot be read: {e}") from None
    if not {"query", "row_id"} <= set(frame.columns):
        raise ConfigError(f"metrics.qrels: {path}: needs columns query, row_id, relevance; found {list(frame.columns)}")
    frame["relevance"] = pd.to_numeric(frame.get("relevance", pd.Series(1.0, frame.index)), errors="coerce")
    if frame["relevance"].isna().any():
        raise ConfigError(f"metrics.qrels: {path}: relevance must be a number on every line")
    frame = frame[frame["relevance"] > 0].astype({"query": str, "row_id": str})
    frame = frame.groupby(["query", "row_id"], sort=False)["relevance"].max().reset_index()
    of: dict[str, list[int]] = {}
    for q, item in enumerate(items):
        of.setdefault(item, []).append(q)
    of |= {name: [q] for q, name in enumerate(query_ids)}
    triples = [
        (row, q, gain)
        for name, row, gain in zip(frame["query"], frame["row_id"], frame["relevance"], strict=True)
        for q in of.get(name, ())
    ]
    unknown = [name for name in frame["query"].unique() if name not in of]
    notes = [f"{len(unknown)} queries of {path} are not in this run, e.g. {unknown[0]}"] if unknown else []
    best: dict[tuple[str, int], float] = {}
    for row, q, gain in triples:  # a query named by both of its names counts once
        best[row, q] = max(gain, best.get((row, q), 0.0))
    return relevance("row_id", [k[0] for k in best], [k[1] for k in best], list(best.values())), notes
