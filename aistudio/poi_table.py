"""What the ranking model knows about points of interest: mean picture vector, name vector and picture counts.

`PoiTable` serves look-ups from an Arrow table (schema.poi_table_schema), `convert_published` makes that table of the
published .npy files, `build_table` of a catalogue's own scores. Reading and writing Parquet is the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from aistudio.errors import ConfigError, WeightsError
from aistudio.schema import is_vector, poi_table_schema, vector_array, vector_matrix, vector_width
from aistudio.weights.npy import read_dict

MAX_POIS = 5  # POIs of one item that the model looks at
COUNT_WEIGHTS = (1, 5, 3)  # order of an item's POIs: n0 + 5 n1 + 3 n2, as the published data set class has it
BEST_IMAGES = 10  # per POI, in the mean picture vector

Counts = tuple[int, int, int]
_VECTORS = ("image_vector", "name_vector")


class PoiTable:
    """POI name -> counts, picture vector, name vector. Names are compared exactly."""

    def __init__(
        self,
        dim: int,
        counts: Mapping[str, Counts],
        pictures: Mapping[str, np.ndarray],
        names: Mapping[str, np.ndarray],
    ) -> None:
        """Vectors are (dim,) float32."""
        self.dim = dim
        self.counts, self.pictures, self.names = counts, pictures, names

    @classmethod
    def empty(cls, dim: int) -> "PoiTable":
        """A table that knows no POI: every look-up gives zeros."""
        return cls(dim, {}, {}, {})

    @classmethod
    def from_arrow(cls, table: pa.Table) -> "PoiTable":
        """From a table of schema.poi_table_schema; columns beyond those are ignored.

        Raises:
            ConfigError: a column is missing or of another type, vectors differ in width or lack numbers, or a name
                occurs twice.
        """
        try:
            dim = _dim_of(table)
        except ValueError as e:
            raise ConfigError(f"POI table: {e}") from None
        keys = table["name"].to_pylist()
        if len(set(keys)) != len(keys):
            raise ConfigError("POI table: a name occurs more than once")
        known = [(name, c) for name, c in zip(keys, table["counts"].to_pylist(), strict=True) if c is not None]
        if wrong := [name for name, c in known if len(c) != 3 or None in c]:
            raise ConfigError(f"POI table: expected three counts for each name, not so for {wrong[0]!r}")
        counts = {name: (c[0], c[1], c[2]) for name, c in known}
        pictures, names = (_vectors(table, column, keys) for column in _VECTORS)
        return cls(dim, counts, pictures, names)

    def require_dim(self, dim: int) -> None:
        """Raises ConfigError when the vectors are not `dim` wide."""
        if self.dim != dim:
            raise ConfigError(f"POI table: vectors are {self.dim} wide, but the ranking model works with {dim}")


def _dim_of(table: pa.Table) -> int:
    """Width of the vectors. Tables of older versions hold fixed-size lists, those of others may say no width."""
    _check_columns(table)
    fields = [table.schema.field(name) for name in _VECTORS]
    known = {w for w in map(vector_width, fields) if w is not None}
    known |= {m.shape[1] for m in map(vector_matrix, (table[name] for name in _VECTORS)) if len(m)}
    if len(known) > 1:
        raise ConfigError(f"POI table: vectors of several widths: {sorted(known)}")
    return known.pop() if known else 0


def _check_columns(table: pa.Table) -> None:
    for field in poi_table_schema(0):
        if field.name not in table.column_names:
            raise ConfigError(f"POI table: column {field.name} is missing, expected {field.type}")
        found = table.schema.field(field.name).type
        if field.name in _VECTORS:
            good = is_vector(found) and pa.types.is_float32(found.value_type)
        elif field.name == "counts":
            good = pa.types.is_nested(found) and getattr(found, "value_type", None) == pa.int64()
        else:
            good = found == field.type
        if not good:
            raise ConfigError(f"POI table: column {field.name} is {found}, expected {field.type}")


def _vectors(table: pa.Table, column: str, keys: list[str]) -> dict[str, np.ndarray]:
    known = np.flatnonzero(table[column].is_valid().to_numpy())
    return {keys[i]: row for i, row in zip(known, vector_matrix(table[column]), strict=True)}


@dataclass(frozen=True)
class ItemPois:
    """One item's POIs as the head wants them: (MAX_POIS, dim) float32 each, zeros where unknown or beyond `count`."""

    pictures: np.ndarray
    names: np.ndarray
    count: int


def query_text(poi_names: str, title: str) -> str:
    """The text that stands for the item: its POI names as written, or its title when there are none.

    Blanks at the end of the POI names are lost and those at the start kept, as in the published data reader.
    """
    return poi_names.rstrip() if poi_names.strip() else title


def kept_pois(poi_names: str, counts: Mapping[str, Counts]) -> list[str]:
    """The names (unstripped) of at most MAX_POIS POIs, most pictured first; ties stay in their order.

    A name of one character counts as none. Unknown, empty and repeated names are kept: they are not neutral.
    """
    poi_names = poi_names.rstrip()
    if len(poi_names.strip()) <= 1:
        return []

    def weight(name: str) -> int:
        return sum(w * n for w, n in zip(COUNT_WEIGHTS, counts.get(name.strip(), (0, 0, 0)), strict=True))

    return sorted(poi_names.split(","), key=weight, reverse=True)[:MAX_POIS]


def item_pois(poi_names: str, table: PoiTable) -> ItemPois:
    """Look one item's comma-joined POI names up. Counts go by the stripped name, vectors by the name as written."""
    kept = kept_pois(poi_names, table.counts)
    pictures, names = np.zeros((2, MAX_POIS, table.dim), np.float32)
    for i, name in enumerate(kept):
        pictures[i] = table.pictures.get(name, 0.0)
        names[i] = table.names.get(name, 0.0)
    return ItemPois(pictures, names, len(kept))


def convert_published(
    counts_path: str | Path, image_vectors_path: str | Path | None = None, name_vectors_path: str | Path | None = None
) -> pa.Table:
    """The published tables (.npy files that hold a pickled dict) as one Arrow table, names sorted.

    Args:
        counts_path: name -> [n0, n1, n2].
        image_vectors_path, name_vectors_path: name -> vector; None: unknown for every POI.

    Raises:
        WeightsError: a file is missing, damaged, of another content, or asks for more than plain data.
    """
    counts = {name: _counts(value, name, counts_path) for name, value in read_dict(counts_path).items()}
    pictures = _vector_dict(image_vectors_path)
    names = _vector_dict(name_vectors_path)
    dims = {len(v) for d in (pictures, names) for v in d.values()}
    if len(dims) > 1:
        raise WeightsError(f"POI vectors of different widths: {sorted(dims)}; the files do not belong together")
    return to_arrow(counts, pictures, names, dims.pop() if dims else 512)


def _counts(value: object, name: str, path: str | Path) -> Counts:
    numbers = np.asarray(value)
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise WeightsError(f"{path}: {name}: expected three counts, found {value!r}")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def _vector_dict(path: str | Path | None) -> dict[str, np.ndarray]:
    if path is None:
        return {}
    vectors = {}
    for name, value in read_dict(path).items():
        row = np.asarray(value)
        if row.dtype.kind != "f" or row.size == 0 or row.size != row.shape[-1]:
            raise WeightsError(f"{path}: {name}: expected a vector, found {row.dtype} of shape {row.shape}")
        vectors[name] = row.reshape(-1).astype(np.float32)
    return vectors


def to_arrow(
    counts: Mapping[str, Counts], pictures: Mapping[str, np.ndarray], names: Mapping[str, np.ndarray], dim: int
) -> pa.Table:
    """One row per name that occurs anywhere, sorted; vectors null and counts zero where unknown."""
    keys = sorted({*counts, *pictures, *names})
    schema = poi_table_schema(dim)
    columns = [
        pa.array(keys, pa.string()),
        _vector_column([pictures.get(k) for k in keys], dim),
        _vector_column([names.get(k) for k in keys], dim),
        pa.array([list(counts.get(k, (0, 0, 0))) for k in keys], schema.field("counts").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _vector_column(rows: Sequence[np.ndarray | None], dim: int) -> pa.Array:
    values = np.zeros((len(rows), dim), np.float32)
    for i, row in enumerate(rows):
        if row is not None:
            values[i] = row
    return vector_array(values, np.array([row is not None for row in rows], bool))


def build_table(
    poi_of_image: Sequence[str],
    image_scores: np.ndarray,
    image_vectors: np.ndarray,
    name_vectors: Mapping[str, np.ndarray],
    counts: Mapping[str, Counts] | None = None,
) -> pa.Table:
    """A POI table of a catalogue's own images.

    Per POI: the plain mean of the vectors of its BEST_IMAGES best-scored images (ties: first come, first kept), not
    normalised again; its name's vector; its counts, by default (number of images, 0, 0).

    Args:
        poi_of_image: N POI names.
        image_scores: (N,) recall scores; NaN counts as worst.
        image_vectors: (N,D) unit rows of the ranking model's image tower.
        name_vectors: name -> (D,).
    """
    scores, vectors = np.asarray(image_scores, np.float64), np.asarray(image_vectors, np.float32)
    if not (len(poi_of_image) == len(scores) == len(vectors)):
        raise ValueError(f"{len(poi_of_image)} names, {len(scores)} scores and {len(vectors)} vectors")
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(poi_of_image):
        rows.setdefault(name, []).append(i)
    order_key = np.where(np.isnan(scores), -np.inf, scores)
    pictures = {}
    for name, mine in rows.items():
        best = sorted(mine, key=lambda i: -order_key[i])[:BEST_IMAGES]
        pictures[name] = vectors[best].astype(np.float64).mean(axis=0).astype(np.float32)
    own: dict[str, Counts] = {name: (len(mine), 0, 0) for name, mine in rows.items()}
    return to_arrow(own | dict(counts or {}), pictures, name_vectors, vectors.shape[1])
