"""Which gallery rows are relevant for which queries: of the same item, or as a qrels file says.

The same structure says which rows are a query's own picture. Leaves out: the queries themselves
(queries.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from aistudio.errors import ConfigError, StoreError
from aistudio.places import split_place
from aistudio.store import Store, open_store


@dataclass(frozen=True)
class Relevance:
    """Which queries a gallery row belongs to, by the value of a column, graded."""

    columns: tuple[str, ...]  # of the scores; the first that is not null counts
    names: pa.Array  # distinct values
    start_I1: NDArray[np.int64]  # names[i] belongs to query_J[start[i]:start[i + 1]]
    query_J: NDArray[np.int64]
    gain_J: NDArray[np.float64]

    def pairs(self, values: Mapping[str, pa.Array]) -> tuple[NDArray[np.int64], ...]:
        """Rows, queries and gains of the pairs among rows with these column values: (P,) each."""
        own = pc.coalesce(*(values[c] for c in self.columns))
        known = pc.index_in(own, value_set=self.names).fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(known >= 0)
        start, end = self.start_I1[known[rows]], self.start_I1[known[rows] + 1]
        which = np.repeat(end - np.cumsum(end - start), end - start) + np.arange((end - start).sum())
        return np.repeat(rows, end - start), self.query_J[which], self.gain_J[which]

    def within(self, start: int, stop: int) -> "Relevance":
        """That of the queries start .. stop - 1 alone, which are numbered from 0 then."""
        kept = (self.query_J >= start) & (self.query_J < stop)
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self, start_I1=before[self.start_I1], query_J=self.query_J[kept] - start, gain_J=self.gain_J[kept]
        )


def relevance(columns: Sequence[str], names: Sequence[str], queries: ArrayLike, gains: ArrayLike = 1.0) -> Relevance:
    """From triples (value of the column, query, gain)."""
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    order = np.argsort(codes, kind="stable")
    start = np.searchsorted(codes[order], np.arange(len(distinct) + 1))
    gain = np.broadcast_to(np.asarray(gains, dtype=np.float64), len(codes))
    return Relevance(
        tuple(columns), pa.array(distinct.tolist(), pa.string()), start.astype(np.int64),
        np.asarray(queries, dtype=np.int64)[order], gain[order],
    )  # fmt: skip


def read_qrels(path: str, query_ids: Sequence[str], items: Sequence[str], store: Store) -> tuple[Relevance, list[str]]:
    """Relevance from a Parquet or TSV file with columns query, row_id and relevance (optional, default 1).

    Args:
        path: of the file, local or S3.
        query_ids: what `query` may name.
        items: item_id of each query, which stands for all queries of the item; empty: only query_ids count.
        store: whose settings open S3.

    Returns:
        The relevance, and notes about lines without a query.

    Raises:
        ConfigError: the file cannot be read or lacks a column.
    """
    frame = _read(path, store)
    of: dict[str, list[int]] = {}
    for q, item in enumerate(items):
        of.setdefault(item, []).append(q)
    of |= {name: [q] for q, name in enumerate(query_ids)}
    best: dict[tuple[str, int], float] = {}
    for name, row, gain in zip(frame["query"], frame["row_id"], frame["relevance"], strict=True):
        for q in of.get(name, ()):  # a query named by both of its names counts once
            best[row, q] = max(gain, best.get((row, q), 0.0))
    unknown = [name for name in frame["query"].unique() if name not in of]
    notes = [f"{len(unknown)} queries of {path} are not in this run, e.g. {unknown[0]}"] if unknown else []
    return relevance(["row_id"], [k[0] for k in best], [k[1] for k in best], list(best.values())), notes


def _read(path: str, store: Store) -> pd.DataFrame:
    folder, name = split_place(path)
    try:
        with open_store(folder, store.settings).open(name) as f:
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
    return frame.groupby(["query", "row_id"], sort=False)["relevance"].max().reset_index()
