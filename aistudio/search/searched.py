"""The rows that a search looks at: the ok rows of a run that pass its constant filters, with their vectors.

Values of columns are compared as texts, so that a filter from a command line or a CSV file means what it says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.search.gallery import File, Vectors, vector_blocks
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store
from aistudio.values import value_text

Where = tuple[tuple[str, pa.Array], ...]  # column, the texts that it may have


class Searchable(Protocol):
    """What a search streams over."""

    @property
    def store(self) -> Store:
        """The run's folder."""

    @property
    def files(self) -> Sequence[File]:
        """The run's score files."""

    @property
    def vectors(self) -> VectorColumn:
        """The column that is searched."""

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield the vectors of some of the files with the values of some columns, ids ascending."""


@dataclass(frozen=True)
class Searched:
    """The gallery of a search, read from score files when it is needed."""

    store: Store
    files: Sequence[File]
    vectors: VectorColumn
    where: Where = ()

    def blocks(self, files: Sequence[File], block_rows: int, columns: Sequence[str]) -> Iterator[Vectors]:
        """Yield blocks of about `block_rows` rows. Raises StoreError for a damaged file."""
        needed = list(dict.fromkeys([*columns, *(column for column, _ in self.where)]))
        for block in vector_blocks(self.store, files, block_rows, needed, self.vectors):
            kept = passes(block.values, self.where, len(block.ids_N))
            if kept.all():
                yield block
            elif kept.any():
                values = {c: v.filter(pa.array(kept)) for c, v in block.values.items()}
                yield Vectors(block.rows_ND[kept], block.ids_N[kept], values)


def passes(values: Mapping[str, pa.Array], where: Where, num_rows: int) -> NDArray[np.bool_]:
    """Say of each row whether its columns have one of the wanted values: (N,) bool."""
    kept = np.ones(num_rows, dtype=bool)
    for column, wanted in where:
        kept &= pc.is_in(texts_of(values[column]), value_set=wanted).to_numpy(zero_copy_only=False)
    return kept


def texts_of(column: pa.Array) -> pa.Array:
    """Return a column's values as texts (3.0 is "3", true is "true"), null where they are null."""
    kind = column.type
    try:
        plain = column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column
        return plain if pa.types.is_string(plain.type) else plain.cast(pa.string())
    except pa.ArrowException:  # nested, an unknown zone, bytes that are no text
        return pa.array([value_text(column, i) for i in range(len(column))], pa.string())


def text_of(value: object) -> str | None:
    """Return one value as `texts_of` gives it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(pa.scalar(value).cast(pa.string()).as_py())
    return str(value)


def where_of(settings: Mapping[str, object]) -> Where:
    """Make the constant filters from `search.where`."""
    found = []
    for column, value in settings.items():
        values = value if isinstance(value, list) else [value]
        found.append((column, pa.array([text_of(v) for v in values], pa.string())))
    return tuple(found)
