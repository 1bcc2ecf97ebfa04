"""Reads a table of somebody else's scores or vectors for rows of a run, a batch of lines at a time.

CSV, TSV, JSON lines or Parquet. A line names a row by the columns of keyed.py and has a number (`score`), a vector
(`vector` or `embedding`), or a number for a query and a row (`query` beside `score`). In a table of vectors a line that
names no row and has a `text` is the vector of that text. A cell that is neither number nor vector is a fact about its
line; it ends nothing. Leaves out: which rows the keys mean (alignment.py).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aistudio.config import MetricsSettings, StoreSettings
from aistudio.errors import ConfigError
from aistudio.search.cells import nested, numbers, texts, vectors
from aistudio.search.keyed import SEPARATOR, key_columns
from aistudio.search.table_files import SUFFIXES, opened_table, read_records, table_kind
from aistudio.secrets import redact_credentials
from aistudio.store import Store

SETTING = "--scores"
SCORE, VECTORS, QUERY, TEXT = "score", ("vector", "embedding"), "query", "text"
LINES_AT_ONCE = 8_192
VECTOR_LINES_AT_ONCE = 1_024  # 4 MB of vectors of 512 numbers


class Lines(NamedTuple):
    """N lines of the table; of `scores` and `vectors` one is there."""

    number_N: NDArray[np.int64]  # from 1; of CSV and JSON lines the record's place, of Parquet the row's
    keys: list[str | None]  # None: the line names no row
    problems: dict[int, str]  # place in this batch -> why the line cannot be read
    queries: list[str | None] | None = None
    texts: list[str | None] | None = None
    scores_N: NDArray[np.float64] | None = None  # NaN: no finite number
    vectors: pa.ListArray | None = None  # of float64; null: no vector


@dataclass(frozen=True)
class GivenTable:
    """A table that is understood: which columns it has and what they are."""

    place: str
    kind: str  # of the file
    key: tuple[str, ...]
    value: str  # the column of scores or vectors
    is_vector: bool
    has_query: bool
    has_text: bool
    settings: StoreSettings

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        more = [QUERY] * self.has_query + [TEXT] * self.has_text
        return list(dict.fromkeys([*self.key, self.value, *more]))

    def __iter__(self) -> Iterator[Lines]:
        """Yield the lines. Raises ConfigError where the file cannot be read to its end."""
        size = VECTOR_LINES_AT_ONCE if self.is_vector else LINES_AT_ONCE
        first = 1
        with opened_table(self.place, SETTING, self.settings) as stream:
            if self.kind == "parquet":
                for batch in pq.ParquetFile(stream).iter_batches(size, columns=self.columns):
                    cells = {name: batch.column(name) for name in self.columns}
                    yield self._lines(first, batch.num_rows, cells, {})
                    first += batch.num_rows
                return
            records = read_records(stream, self.place, self.kind)
            while part := list(islice(records, size)):
                problems = {i: r for i, r in enumerate(part) if isinstance(r, str)}
                rows = [r if isinstance(r, dict) else {} for r in part]
                yield self._lines(first, len(part), {c: [r.get(c) for r in rows] for c in self.columns}, problems)
                first += len(part)

    def _lines(self, first: int, num: int, cells: dict[str, Any], problems: dict[int, str]) -> Lines:
        parts = [texts(cells[column]) for column in self.key]
        if "image_url" in self.key:  # as addresses are stored
            place = self.key.index("image_url")
            parts[place] = [None if url is None else redact_credentials(url) for url in parts[place]]
        keys = [None if None in key else SEPARATOR.join(map(str, key)) for key in zip(*parts, strict=True)]
        return Lines(
            np.arange(first, first + num), keys, problems,
            texts(cells[QUERY]) if self.has_query else None,
            texts(cells[TEXT]) if self.has_text else None,
            None if self.is_vector else numbers(cells[self.value]),
            vectors(cells[self.value]) if self.is_vector else None,
        )  # fmt: skip


def open_given(place: str, stored: Collection[str], settings: MetricsSettings, store: Store) -> GivenTable:
    """Look at a table's columns and say what it holds.

    Args:
        stored: columns of the score files.
        store: whose settings open S3.

    Raises:
        ConfigError: no such file, not a table, or columns that say neither which rows are meant nor what of them.
    """
    kind = table_kind(place)
    if kind is None:
        raise ConfigError(f"{SETTING} {place}: expected a file that ends in {', '.join(SUFFIXES)}")
    found = _columns(place, kind, store.settings)
    value = _value_column(place, list(found), settings)
    is_vector = value in VECTORS or (value != SCORE and found[value])
    has_query = QUERY in found and not is_vector
    has_text = TEXT in found and is_vector
    used = [value, *VECTORS, SCORE, *[QUERY] * has_query, *[TEXT] * has_text]
    key = key_columns(place, "metrics.scores", list(found), used, settings.scores_key, stored)
    return GivenTable(place, kind, key, value, is_vector, has_query, has_text, store.settings)


def _columns(place: str, kind: str, settings: StoreSettings) -> dict[str, bool]:
    """The table's columns, and whether what they hold looks like vectors."""
    with opened_table(place, SETTING, settings) as stream:
        if kind == "parquet":
            schema = pq.ParquetFile(stream).schema_arrow
            return {field.name: pa.types.is_nested(field.type) for field in schema}
        head = [r for r in islice(read_records(stream, place, kind), 1_000) if isinstance(r, dict)]
    found: dict[str, bool] = {}
    for record in head:
        for name, value in record.items():
            found[name] = found.get(name, False) or nested(value)
    return found


def _value_column(place: str, columns: Sequence[str], settings: MetricsSettings) -> str:
    if settings.scores_column is not None:
        if settings.scores_column in columns:
            return settings.scores_column
        raise ConfigError(
            f"metrics.scores_column: {place} has no column {settings.scores_column}; there: {', '.join(columns)}"
        )
    known = [c for c in (SCORE, *VECTORS) if c in columns]
    if len(known) == 1:
        return known[0]
    choose = (
        f"it has {' and '.join(known)}: say which" if known else f"found {', '.join(columns) or 'no lines'}; or say"
    )
    raise ConfigError(
        f"{SETTING} {place}: needs a column {SCORE} (a number) or {VECTORS[0]} (a list of numbers); {choose} with "
        "--set metrics.scores_column=NAME"
    )
