"""The rows that an export holds, with the vectors of one model as they are exported: whole, shorter, or as int8."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aistudio.errors import ConfigError, StoreError
from aistudio.exports.columns import plain, plain_type
from aistudio.index import unit_rows
from aistudio.index.int8 import quantised
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.schema import (
    EMBEDDING,
    ENCODER_PREFIX,
    RANK_EMBEDDING,
    THUMBNAIL_FIELD,
    encoder_column,
    is_vector_column,
    list_vector_schema,
    vector_matrix,
    vector_width,
)
from aistudio.search.held import Where
from aistudio.search.rows import rows_of
from aistudio.search.vectors import VectorColumn
from aistudio.store import Store

BATCH_ROWS = 4_096
ID = "row_id"


@dataclass(frozen=True)
class Wanted:
    """What of a run is exported, and how.

    Args:
        vectors: an encoder's name, `recall` or `ranking`; None: the recall model's, else the only encoder's.
        columns: beside row_id; None: all but vectors, and pictures only where the format holds them.
        where: column -> what a row must have there.
        truncate_dim: how many numbers of each vector to keep, at length one again (Matryoshka models).
        int8: one byte a number.
    """

    vectors: str | None = None
    columns: Sequence[str] | None = None
    where: Where = field(default_factory=dict)
    truncate_dim: int | None = None
    int8: bool = False


@dataclass
class Tally:
    """What went by: exported rows, and rows without a vector of finite numbers, exported or not."""

    rows: int = 0
    without_vector: int = 0


@dataclass(frozen=True)
class Batch:
    """N exported rows, the first of which is row `first` of the export.

    `stored_ND` float32 is what the run holds, `vectors_ND` what is exported (float32, or int8 with `step_N`, by which a
    row of codes is multiplied); rows without a vector are zeros there and false in `valid_N`. `table` starts with
    row_id; it holds nothing else where the columns were not asked for.
    """

    first: int
    table: pa.Table
    stored_ND: NDArray[np.float32]
    vectors_ND: NDArray[Any]
    valid_N: NDArray[np.bool_]
    step_N: NDArray[np.float32] | None = None

    @property
    def row_ids(self) -> list[str]:
        """The rows' ids."""
        found: list[str] = self.table[ID].to_pylist()
        return found


@dataclass(frozen=True)
class Source:
    """An export's rows; they can be read any number of times. Raises StoreError for damaged files while it is read."""

    store: Store
    keys: Sequence[str]
    stored_schema: pa.Schema
    vectors: VectorColumn
    columns: Sequence[str]
    where: Where
    width: int  # of the stored vectors
    truncate_dim: int | None = None
    codes: bool = False  # int8, in our code
    own_codes: bool = False  # in the library's code of one byte a number; vectors are float32 here
    unit: bool = False
    missing: bool = False

    @property
    def dim(self) -> int:
        """How many numbers an exported vector has."""
        return self.truncate_dim or self.width

    @property
    def name(self) -> str:
        """The column of the exported vectors."""
        return self.vectors.name

    @property
    def step_name(self) -> str:
        """The column of the steps of int8 vectors."""
        return f"{self.name}_step"

    @cached_property
    def table_schema(self) -> pa.Schema:
        """The exported columns without the vectors, row_id first."""
        fields = [pa.field(c, plain_type(self.stored_schema.field(c).type)) for c in (ID, *self.columns)]
        return pa.schema([*fields, *([pa.field(self.step_name, pa.float32())] if self.codes else [])])

    @property
    def told_as_text(self) -> list[str]:
        """Exported columns whose type becomes text."""
        t = pa.types
        kinds = {c: self.stored_schema.field(c).type for c in self.columns}
        texts = (t.is_string, t.is_large_string, t.is_string_view)
        return [c for c, k in kinds.items() if t.is_string(plain_type(k)) and not any(test(k) for test in texts)]

    def batches(self, *, with_columns: bool = True, tally: Tally | None = None) -> Iterator[Batch]:
        """Yield the rows in the run's order; `tally` counts them. Raises StoreError for vectors of several widths."""
        columns = [ID, *(self.columns if with_columns else ())]
        wanted = list(dict.fromkeys([*columns, self.name]))
        first = 0
        for rows in rows_of(self.store, self.keys, self.stored_schema, wanted, self.where, BATCH_ROWS):
            valid_N, stored_ND = self._matrix(rows.column(self.name))
            if tally is not None:
                tally.without_vector += int((~valid_N).sum())
            arrays = [plain(rows.column(c), self.table_schema.field(c).type) for c in columns]
            if not self.missing and not valid_N.all():
                kept = pa.array(valid_N)
                arrays, stored_ND, valid_N = [a.filter(kept) for a in arrays], stored_ND[valid_N], valid_N[valid_N]
            if len(valid_N):
                if tally is not None:
                    tally.rows += len(valid_N)
                yield self._batch(first, dict(zip(columns, arrays, strict=True)), stored_ND, valid_N, with_columns)
                first += len(valid_N)

    def _matrix(self, column: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Say which rows have a vector of finite numbers, and return all, zeros for those without."""
        try:
            found_MD = np.asarray(vector_matrix(column), dtype=np.float32)
        except ValueError as e:
            raise StoreError(f"{self.name}: {e}") from None
        if len(found_MD) and found_MD.shape[1] != self.width:
            raise StoreError(f"{self.name}: a vector of {found_MD.shape[1]} numbers among vectors of {self.width}")
        valid_N = pc.is_valid(column).to_numpy(zero_copy_only=False)
        stored_ND = np.zeros((len(column), self.width), np.float32)
        stored_ND[valid_N] = found_MD.reshape(-1, self.width)
        finite_N = np.isfinite(stored_ND).all(axis=1)
        stored_ND[~finite_N] = 0
        return valid_N & finite_N, stored_ND

    def _batch(
        self, first: int, columns: dict[str, pa.Array], stored_ND: NDArray[np.float32], valid_N: NDArray[np.bool_],
        with_columns: bool,
    ) -> Batch:  # fmt: skip
        vectors_ND: NDArray[Any] = stored_ND[:, : self.dim]
        if self.truncate_dim or (self.unit and not self.vectors.normalised):
            vectors_ND = unit_rows(vectors_ND)
        step_N = None
        if self.codes:
            held = quantised(vectors_ND)
            vectors_ND, step_N = held.codes_NP[:, : self.dim], held.step_N
        if step_N is not None and with_columns:
            columns[self.step_name] = pa.array(step_N, pa.float32(), mask=~valid_N)
        schema = pa.schema([self.table_schema.field(c) for c in columns])
        table = pa.Table.from_arrays([*columns.values()], schema=schema)
        return Batch(first, table, stored_ND, np.ascontiguousarray(vectors_ND), valid_N, step_N)


def source_of(store: Store, wanted: Wanted, *, unit: bool, missing: bool, pictures: bool, own_codes: bool) -> Source:
    """Look at what is stored and return what is to be exported.

    Args:
        unit, missing, pictures: as the format has them.
        own_codes: its int8 is the library's.

    Raises:
        ConfigError: vectors, a column or a length that the run does not have.
        StoreError: nothing is stored there yet; a file is damaged.
    """
    keys = layout.score_keys(store)
    if not keys:
        raise StoreError(f"{store.root}: no stored scores there yet; run jobs.score first")
    schema = list_vector_schema(store.read_metadata(keys[0])[0])
    vectors = _vector_column(store, schema.names, wanted.vectors)
    left_out = () if pictures else (THUMBNAIL_FIELD.name,)
    usual = [c for c in schema.names if not is_vector_column(c) and c not in left_out]
    columns = _columns(usual if wanted.columns is None else wanted.columns, schema, pictures)
    rows_of(store, keys, schema, [ID], wanted.where, BATCH_ROWS)  # refuses what it cannot filter by
    width = vector_width(schema.field(vectors.name)) or _first_width(store, keys, schema, vectors.name)
    dim = wanted.truncate_dim
    if dim is not None and not 0 < dim < width:
        raise ConfigError(f"--truncate-dim {dim}: expected 1 to {width - 1}, the vectors have {width} numbers")
    codes = wanted.int8 and not own_codes
    return Source(
        store, keys, schema, vectors, columns, wanted.where, width, dim, codes, wanted.int8 and own_codes, unit, missing
    )


def _vector_column(store: Store, names: Sequence[str], wanted: str | None) -> VectorColumn:
    encoders = [name.removeprefix(ENCODER_PREFIX) for name in names if name.startswith(ENCODER_PREFIX)]
    own = {"recall": EMBEDDING, "ranking": RANK_EMBEDDING}
    known = [*(name for name, column in own.items() if column in names), *encoders]
    if wanted is None and "recall" not in known and len(encoders) != 1 and known:
        raise ConfigError(f"--vectors: say which of {', '.join(known)}")
    name = wanted or ("recall" if "recall" in known or not encoders else encoders[0])
    if name not in known:
        raise ConfigError(f"--vectors {name}: {store.root} has none of it; it has {', '.join(known) or 'no vectors'}")
    if name in encoders:
        model = recorded(store).models.get(f"encoders.{name}")
        return VectorColumn(encoder_column(name), model.normalised if model else True)
    return VectorColumn(own[name], name == "recall")


def _columns(wanted: Sequence[str], schema: pa.Schema, pictures: bool) -> list[str]:
    for column in wanted:
        if column not in schema.names:
            raise ConfigError(f"--columns: {column!r} is not a column of the rows; there: {', '.join(schema.names)}")
        if is_vector_column(column):
            raise ConfigError(f"--columns: {column} holds vectors; --vectors says which vectors are exported")
        if column == THUMBNAIL_FIELD.name and not pictures:
            raise ConfigError("--columns: this format holds no pictures, so not the column thumbnail either")
    return [c for c in dict.fromkeys(wanted) if c != ID]


def _first_width(store: Store, keys: Sequence[str], schema: pa.Schema, column: str) -> int:
    """Width of the first vector of a run that does not say it; 0 where there is none."""
    for batch in rows_of(store, keys, schema, [column], None, BATCH_ROWS):
        lengths: Mapping[str, Any] = pc.min_max(pc.list_value_length(batch.column(column))).as_py()
        if lengths["max"]:
            return int(lengths["max"])
    return 0
