"""Which gallery rows are relevant for which queries: of the same item, or as a qrels file says.

The same structure says which rows are a query's own picture. Leaves out: the queries themselves
(queries.py).
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.runs.mapper import Mapper
from aistudio.search.gallery import File
from aistudio.search.keyed import read_keyed, row_keys
from aistudio.store import Store

IGNORE = "ignore"  # in the column relevance: the row is taken out of this query's ranking
_NAMED = 3  # of what is not found, in messages


@dataclass(frozen=True)
class Relevance:
    """Which queries a gallery row belongs to, by the value of a column, graded."""

    columns: tuple[str, ...]  # of the scores; the first that is not null counts, or all of them make the key
    names: pa.Array  # distinct values
    start_I1: NDArray[np.int64]  # names[i] belongs to query_J[start[i]:start[i + 1]]
    query_J: NDArray[np.int64]
    gain_J: NDArray[np.float64]
    is_key: bool = False  # all columns together name a row

    def pairs(self, values: Mapping[str, pa.Array]) -> tuple[NDArray[np.int64], ...]:
        """Rows, queries and gains of the pairs among rows with these column values: (P,) each."""
        own = self.values_of(values)
        known = pc.index_in(own, value_set=self.names).fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(known >= 0)
        start, end = self.start_I1[known[rows]], self.start_I1[known[rows] + 1]
        which = np.repeat(end - np.cumsum(end - start), end - start) + np.arange((end - start).sum())
        return np.repeat(rows, end - start), self.query_J[which], self.gain_J[which]

    def values_of(self, values: Mapping[str, pa.Array]) -> pa.Array:
        """Return what is looked up of each row, as text."""
        columns = {c: values[c] for c in self.columns}
        return row_keys(columns, self.columns) if self.is_key else pc.coalesce(*columns.values())

    def within(self, start: int, stop: int) -> "Relevance":
        """Return the relevance of queries `start` to `stop - 1` only, renumbered from 0."""
        kept = (self.query_J >= start) & (self.query_J < stop)
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self, start_I1=before[self.start_I1], query_J=self.query_J[kept] - start, gain_J=self.gain_J[kept]
        )


def relevance(
    columns: Sequence[str], names: Sequence[str], queries: ArrayLike, gains: ArrayLike = 1.0, *, is_key: bool = False
) -> Relevance:
    """Make it from triples (value of the column or key, query, gain)."""
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    order = np.argsort(codes, kind="stable")
    start = np.searchsorted(codes[order], np.arange(len(distinct) + 1))
    gain = np.broadcast_to(np.asarray(gains, dtype=np.float64), len(codes))
    return Relevance(
        tuple(columns), pa.array(distinct.tolist(), pa.string()), start.astype(np.int64),
        np.asarray(queries, dtype=np.int64)[order], gain[order], is_key,
    )  # fmt: skip


@dataclass(frozen=True)
class Judgements:
    """A qrels file, read: which rows are relevant to which queries of this run, and which are to be ignored."""

    relevance: Relevance
    ignored: Relevance | None
    sha256: str  # of the judgements, whatever their order and the file's format
    num_lines: int
    notes: list[str]


def read_qrels(
    settings: MetricsSettings, names: Mapping[str, Sequence[int]], stored: Collection[str], store: Store
) -> Judgements:
    """Read the file of `metrics.qrels`: columns query, the key of a row (see keyed.py) and relevance (default 1).

    Args:
        names: what `query` may say -> numbers of the queries that it stands for.
        stored: columns of the score files.
        store: whose settings open S3.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or holds a relevance that is neither number nor `ignore`.
    """
    path = str(settings.qrels)
    table = read_keyed(path, "metrics.qrels", ["query"], ["relevance"], settings.qrels_key, stored, store)
    frame = _graded(table.frame, path)
    sha256 = _digest(frame, table.columns)
    best: dict[tuple[str, int], float] = {}
    ignored: set[tuple[str, int]] = set()
    for name, key, gain in zip(frame["query"], frame["key"], frame["gain"], strict=True):
        for q in names.get(name, ()):  # a query named by both of its names counts once
            if np.isnan(gain):
                ignored.add((key, q))
            elif gain > 0:
                best[key, q] = max(gain, best.get((key, q), 0.0))
    ignored -= best.keys()
    unknown = [name for name in frame["query"].unique() if name not in names]
    notes = [f"{len(unknown):,} queries of {path} are not in this run, e.g. {unknown[0]}"] if unknown else []
    return Judgements(
        relevance(table.columns, [k for k, _ in best], [q for _, q in best], list(best.values()), is_key=True),
        relevance(table.columns, [k for k, _ in ignored], [q for _, q in ignored], is_key=True) if ignored else None,
        sha256, len(frame), notes,
    )  # fmt: skip


def count_unknown_rows(wanted: Relevance, files: Sequence[File], store: Store, mapper: Mapper) -> tuple[int, list[str]]:
    """Return how many of the named rows no score file has, failed rows included, and some of their names."""
    seen = np.zeros(len(wanted.names), dtype=bool)
    for part in mapper.map(_names_in, mapper.groups(files), store, wanted):
        seen |= part
    unknown = wanted.names.filter(pa.array(~seen))
    return len(unknown), [str(n).replace("\x1f", " ") for n in unknown.slice(0, _NAMED).to_pylist()]


def _names_in(files: Sequence[File], store: Store, wanted: Relevance) -> NDArray[np.bool_]:
    seen = np.zeros(len(wanted.names), dtype=bool)
    for _, key in files:
        table = store.read_table(key, list(wanted.columns)).combine_chunks()
        values = {c: table[c].combine_chunks() for c in wanted.columns}
        seen |= pc.is_in(wanted.names, value_set=wanted.values_of(values)).to_numpy(zero_copy_only=False)
    return seen


def _graded(frame: pd.DataFrame, path: str) -> pd.DataFrame:
    """The lines with their gain as a number; NaN stands for `ignore`."""
    words = frame["relevance"].str.strip().str.lower() if "relevance" in frame else pd.Series("1", frame.index)
    gain = pd.to_numeric(words, errors="coerce")
    wrong = (gain.isna() | np.isinf(gain)) & (words != IGNORE)
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"metrics.qrels: {path}: relevance must be a number or `{IGNORE}` on every line; "
            f"record {line + 1} has {frame['relevance'].iloc[line]!r}"
        )
    return frame.assign(gain=gain.astype(float))


def _digest(frame: pd.DataFrame, columns: Sequence[str]) -> str:
    lines = sorted({f"{q}\t{k}\t{g:g}" for q, k, g in zip(frame["query"], frame["key"], frame["gain"], strict=True)})
    return hashlib.sha256("\n".join([" ".join(columns), *lines]).encode("utf-8", "surrogatepass")).hexdigest()
