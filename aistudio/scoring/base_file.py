"""One score file of a base run, for a run that takes rows over: which of them may be, in the form that it stores."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import StoreError
from aistudio.images.validators import entity_tag, http_date
from aistudio.schema import (
    CANDIDATE_FIELDS,
    CROP_TYPE,
    DELTA_FIELDS,
    OUTCOME_FIELDS,
    THUMBNAIL_FIELD,
    Reused,
    Status,
    vector_matrix,
)
from aistudio.scoring.image_columns import NUMBER, ImageColumns, box_column, image_schema
from aistudio.scoring.image_source import MAX_URL
from aistudio.storable import storable_text

ADDRESS = ("image_url", "fallback_url")
TEXTS = ("text", "poi_names")
SCORES = ("recall_score", "rank_score")
OUTCOME = (
    "status", "http_status", "num_bytes", "final_url", "width", "height", "content_hash", "thumbnail", "etag",
    "last_modified",
)  # fmt: skip
_KINDS = {f.name: f.type for f in (*CANDIDATE_FIELDS, *OUTCOME_FIELDS, *DELTA_FIELDS, THUMBNAIL_FIELD)}
# Whatever a base's text columns hold, no other text than this run would store comes out of them (image_source.py).
# With it what stays as it is, for to look at each text in Python takes longer than all else.
_STORABLE: dict[str, tuple[Callable[[str], str | None], str | None]] = {
    "final_url": (lambda text: storable_text(text, MAX_URL), r"[!-~]{1,1000}"),
    "content_hash": (storable_text, r"[0-9a-f]{1,128}"),
    "etag": (entity_tag, r'(W/)?"[!#-~]{0,900}"'),
    "last_modified": (http_date, None),
}


class BaseFile:
    """The rows of a file. `whole`: (rows,) bool: those whose picture can be taken over, and would be taken now."""

    def __init__(
        self,
        table: pa.Table,
        vectors: Sequence[tuple[str, int]],
        boxes: Sequence[tuple[str, int]],
        num_formats: int,
        max_bytes: int,
    ) -> None:
        """Look at all rows of a file.

        Args:
            table: of a score file; columns that an earlier version did not have may be missing.
            vectors: for each of this run's vectors its column there and its width.
            boxes: for each of this run's columns of boxes its column there and its pixel format.
            num_formats: pixel formats of this run.
            max_bytes: of a picture, in this run.

        Raises:
            StoreError: a column is of another type than every version stores.
        """
        self.num_rows = table.num_rows
        self._num_formats = num_formats
        self.texts = {name: _column(table, name) for name in (*ADDRESS, *TEXTS)}
        self.scores = {name: _finite(_column(table, name)) for name in SCORES}
        columns = {name: _column(table, name) for name in OUTCOME}
        self.whole = _true(pc.equal(columns["status"], Status.OK.value))
        self.whole &= _true(pc.not_equal(columns["content_hash"], ""))
        self.whole &= _true(pc.less_equal(pc.fill_null(columns["num_bytes"], 0), max_bytes))
        self._vectors = [_Vectors(table, name, width) for name, width in vectors]
        for column in self._vectors:
            self.whole &= column.place >= 0
        for name, pixel_format in boxes:
            box = table[name].combine_chunks() if name in table.column_names else pa.nulls(self.num_rows)
            known = box.type == CROP_TYPE
            self.whole &= box.is_valid().to_numpy(zero_copy_only=False) & known
            columns[box_column(pixel_format)] = box if known else pa.nulls(self.num_rows, CROP_TYPE)
        columns |= {name: _changed(columns[name], *how) for name, how in _STORABLE.items()}
        columns["status"] = pa.repeat(pa.scalar(Status.OK.value), self.num_rows)
        columns["reused"] = pa.repeat(pa.scalar(Reused.NO.value), self.num_rows)
        columns["error"] = pa.nulls(self.num_rows, pa.string())
        schema = image_schema([pixel_format for _, pixel_format in boxes]).remove(0)
        self._images = pa.table([columns[f.name] for f in schema], schema=schema)

    def images(self, rows: np.ndarray, numbers: np.ndarray) -> ImageColumns:
        """Return the pictures of whole rows, as a shard's images of these numbers."""
        table = self._images.take(pa.array(rows)).add_column(0, NUMBER, pa.array(numbers, NUMBER.type))
        return ImageColumns(table, [column.of(rows) for column in self._vectors], self._num_formats)


class _Vectors:
    """A column of vectors. `place`: of each row's in the matrix; -1 where there is none that is finite."""

    def __init__(self, table: pa.Table, name: str, width: int) -> None:
        self.place = np.full(table.num_rows, -1)
        self._matrix = np.zeros((0, width), np.float32)
        if name not in table.column_names:
            return
        column = table[name].combine_chunks()
        try:
            matrix = vector_matrix(column)
        except ValueError:  # several widths, say: none of it is to be trusted
            return
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        if matrix.shape != (valid.sum(), width):
            return
        with np.errstate(over="ignore"):
            self._matrix = matrix.astype(np.float32, copy=False)
        self.place[valid] = np.where(np.isfinite(self._matrix).all(axis=1), np.arange(len(matrix)), -1)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows' vectors: (N, D) float32."""
        return np.asarray(self._matrix[self.place[rows]])


def _column(table: pa.Table, name: str) -> pa.Array:
    """Return a column as it is stored; nulls where there is none, or where it is no picture's thumbnail."""
    kind = _KINDS[name]
    column = table[name].combine_chunks() if name in table.column_names else pa.nulls(table.num_rows, kind)
    if column.type == kind:
        return column
    if name == THUMBNAIL_FIELD.name:  # a row may lack it
        return pa.nulls(table.num_rows, kind)
    raise StoreError(f"{name}: a column of {column.type}, where {kind} is stored")


def _changed(column: pa.Array, change: Callable[[str], str | None], unchanged: str | None) -> pa.Array:
    """Return what `change` makes of each text. `unchanged`: RE2 pattern of whole texts that it leaves as they are."""
    if column.null_count == len(column):
        return column
    if unchanged and pc.all(pc.match_substring_regex(column, rf"\A(?:{unchanged})\z")).as_py():
        return column
    texts = column.to_pylist()
    changed = [None if text is None else change(text) for text in texts]
    return column if changed == texts else pa.array(changed, column.type)


def _finite(column: pa.Array) -> np.ndarray:
    """Return scores (N,) float32, NaN where there is none that is finite."""
    values = np.array(column.to_numpy(zero_copy_only=False), np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def _true(mask: pa.Array) -> np.ndarray:
    """Return (N,) bool, false for null."""
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
