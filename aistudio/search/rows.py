"""Stored rows as a stream of batches: Arrow, pandas or torch. Memory holds a few batches, whatever the run's size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.errors import ConfigError, StoreError
from aistudio.schema import with_list_vectors
from aistudio.search.alignment import whole
from aistudio.search.held import Range, Where, numbers_of
from aistudio.search.searched import passes, where_of
from aistudio.store import Store
from aistudio.values import column_values

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """Rows of a run in the order of its manifest. Nothing is read before one iterates, and each time from the start.

    `schema` is the Arrow schema of the batches. A batch has `batch_rows` rows, the last one perhaps fewer; there is
    no batch without a row.
    """

    schema: pa.Schema
    batch_rows: int
    _store: Store
    _keys: Sequence[str]
    _where: Where

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield Arrow record batches. Raises StoreError for a file that is missing or damaged; names it."""
        held: list[pa.Table] = []
        num_held = 0
        for part in self._parts():
            held.append(part)
            num_held += part.num_rows
            while num_held >= self.batch_rows:
                whole = pa.concat_tables(held)
                yield _batch(whole.slice(0, self.batch_rows))
                held = [whole.slice(self.batch_rows)]
                num_held -= self.batch_rows
        if num_held:
            yield _batch(pa.concat_tables(held))

    def pandas(self) -> Iterator["pd.DataFrame"]:
        """Yield pandas data frames; values that pandas cannot hold (a date after 2262, ...) come as Python's or text.

        Raises as iterating does.
        """
        for batch in self:
            yield to_frame(batch)

    def torch(self) -> Iterator[dict[str, Any]]:
        """Yield batches of N rows as a mapping from column to values.

        Vectors are tensors (N, D) of the stored dtype, NaN where a row has none; numbers and booleans tensors (N,) of
        their own dtype, where any is null float64 with NaN; everything else (texts, bytes, dates) lists of N values,
        None where they are null.

        Raises as iterating does, and StoreError for vectors of several widths in one batch.
        """
        from aistudio.search.tensors import to_tensors  # loads torch

        for batch in self:
            yield to_tensors(batch)

    def table(self) -> pa.Table:
        """Return all rows as one Arrow table, in memory. Raises as iterating does."""
        return pa.Table.from_batches(list(self), self.schema)

    def _parts(self) -> Iterator[pa.Table]:
        """Yield the wanted rows of one Parquet batch after the other, with the columns of `schema`."""
        columns = list(dict.fromkeys([*self.schema.names, *self._where]))
        for key in self._keys:
            with self._store.open(key) as f:
                try:
                    file = pq.ParquetFile(f, page_checksum_verification=True)
                    here = [c for c in columns if c in file.schema_arrow.names]
                    for batch in file.iter_batches(self.batch_rows, columns=here):
                        # Arrow gives `status.x` too when asked for `status`
                        part = with_list_vectors(pa.Table.from_batches([batch]).select(here))
                        kept = self._kept(part)
                        if kept.num_rows:
                            yield self._aligned(kept)
                except (pa.ArrowException, OSError) as e:
                    raise StoreError(f"{self._store.path(key)}: damaged or not a score file: {e}") from None

    def _kept(self, part: pa.Table) -> pa.Table:
        for column, wanted in self._where.items():
            if column not in part.column_names:
                return part.slice(0, 0)
            values = part[column]
            if isinstance(wanted, Range):
                part = part.filter(_within(values, wanted))
            else:
                constants = where_of({column: list(wanted) if isinstance(wanted, list | tuple) else wanted})
                part = part.filter(pa.array(passes({column: whole(values)}, constants, len(values))))
        return part

    def _aligned(self, part: pa.Table) -> pa.Table:
        """Give a part the schema of the stream: files of different attempts may differ in it."""
        columns = []
        for field in self.schema:
            if field.name not in part.column_names:
                columns.append(pa.chunked_array([pa.nulls(part.num_rows, field.type)]))
            else:
                column = part[field.name]
                columns.append(column if column.type == field.type else column.cast(field.type))
        return pa.Table.from_arrays(columns, schema=self.schema)


def rows_of(
    store: Store, keys: Sequence[str], schema: pa.Schema, columns: Sequence[str] | None, where: Where | None,
    batch_rows: int,
) -> Rows:  # fmt: skip
    """Make a stream of rows. Raises ConfigError for a column that is not stored, and for batches of no row."""
    if isinstance(columns, str):
        raise ConfigError(f"columns: expected a list of names, found the text {columns!r}")
    if batch_rows < 1:
        raise ConfigError(f"batch_rows: expected 1 or more, found {batch_rows}")
    wanted = schema.names if columns is None else list(dict.fromkeys(columns))
    for name, given in (("columns", wanted), ("where", list(where or {}))):
        for column in given:
            if column not in schema.names:
                raise ConfigError(f"{name}: {column!r} is not a column of the rows; there: {', '.join(schema.names)}")
    for column, condition in (where or {}).items():
        if isinstance(condition, Range) and not _may_hold_numbers(schema.field(column).type):
            raise ConfigError(f"where: {column} holds no numbers, so it has no range")
    chosen = pa.schema([schema.field(column) for column in wanted])
    return Rows(chosen, batch_rows, store, tuple(keys), dict(where or {}))


def to_frame(batch: pa.RecordBatch) -> "pd.DataFrame":
    """Return a batch as a data frame, whatever the types of its columns."""
    import pandas as pd

    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column.to_pandas()
        except (pa.ArrowException, ValueError, OverflowError, TypeError):
            columns[name] = pd.Series(column_values(column), dtype=object)
    return pd.DataFrame(columns)


def _may_hold_numbers(kind: pa.DataType) -> bool:
    t = pa.types
    return any(test(kind) for test in (t.is_integer, t.is_floating, t.is_decimal, t.is_string, t.is_large_string))


def _within(column: pa.ChunkedArray, wanted: Range) -> pa.ChunkedArray | pa.Scalar:
    """Which values are numbers of the range; texts that are written as numbers count, as in a search."""
    numbers = numbers_of(column)
    if numbers is None:  # texts without a number among them
        return pa.array([False] * len(column))
    kept = pc.fill_null(pc.is_finite(numbers), False)
    for limit, compare in ((wanted.low, pc.greater_equal), (wanted.high, pc.less_equal)):
        if limit is not None:
            kept = pc.and_(kept, pc.fill_null(compare(numbers, float(limit)), False))
    return kept


def _batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0]
