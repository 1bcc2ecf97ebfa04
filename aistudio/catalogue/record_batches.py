"""Record batches, of Parquet files or databases, become candidate tables with Arrow's own operations.

Passthrough columns keep their types where every reader of Parquet takes them; kept.py says what becomes of the others.
A record is never refused for a column that is only kept. A column of lists of texts that image_url is mapped to becomes
a row per entry. Ids that are whole floats are the integers that they stand for; NaN is a missing one.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.catalogue.arrow_types import bare_type, id_texts, is_binary, is_list, is_nested, is_string, plain
from aistudio.catalogue.columns import SAME_NAMES, resolve, without_fallback
from aistudio.catalogue.images import Images, cells_of, image_list
from aistudio.catalogue.inline import holds_pictures, is_picture_type
from aistudio.catalogue.jsonl import json_text
from aistudio.catalogue.kept import plain_array, stored_array, stored_type, text_array
from aistudio.catalogue.table import Batch, Columns, Reading, Reject, rejected_table, repeated, row_ids_of
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.schema import CANDIDATE_COLUMNS
from aistudio.values import plain_value

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def columns_of_schema(schema: pa.Schema, settings: ManifestSettings, file: str, inline: str = "") -> Columns:
    """Columns of a table of this schema; `inline`: its column of pictures. Raises as `inspect_parquet`."""
    types = {field.name: stored_type(field.type) for field in schema}
    if inline:
        defaults = {**SAME_NAMES, "image_url": inline}
        columns = resolve(schema.names, types, settings, file, defaults=defaults, optional=("item_id",))
        columns = replace(columns, inline=inline)
    else:
        columns = resolve(schema.names, types, settings, file)
    if settings.passthrough == "all":  # other pictures, which nobody asked for, are not stored as text
        kept = tuple((n, f) for n, f in columns.passthrough if not holds_pictures(schema.field(n).type))
        columns = replace(columns, passthrough=kept)
    check_types(schema, columns, file)
    if not inline and _lists(schema, columns):
        columns = without_fallback(columns, settings, file)
    return columns


def records_batch(
    table: pa.RecordBatch, columns: Columns, file: str, settings: ManifestSettings, record: int, id_prefix: str,
    picture: Callable[[int], str] | None = None,
) -> Batch:  # fmt: skip
    """Return the batch that records become, of which the first has number `record`.

    Args:
        picture: gives the address of the picture of the record with a number; of a manifest that holds the pictures
            themselves.
    """
    return _Records(table, columns, file, settings.image_separator, picture).batch(record, id_prefix)


class _Records:
    """One record batch on its way to a Batch: converts columns and notes why records are refused."""

    def __init__(
        self,
        table: pa.RecordBatch,
        columns: Columns,
        file: str,
        separator: str | None,
        picture: Callable[[int], str] | None = None,
    ) -> None:
        self._picture = picture
        self._table, self._columns, self._file, self._separator = table, columns, file, separator
        self._reasons: list[str | None] = [None] * table.num_rows

    def batch(self, record: int, id_prefix: str) -> Batch:
        """The batch of records that begin with number `record`."""
        inline = self._columns.inline
        listed = not inline and (
            bool(self._columns.images or self._separator) or _lists(self._table.schema, self._columns)
        )
        columns = [c for c in CANDIDATE_COLUMNS if not ((listed or inline) and c == "image_url")]
        arrays = {c: a for c in columns if (a := self._candidate(c)) is not None}
        images = self._image_lists() if listed else None
        kept = [self._passthrough(name, field) for name, field in self._columns.passthrough]
        ok = [i for i, reason in enumerate(self._reasons) if reason is None]
        taken = ok if images is None else [i for i in ok for _ in images[i]]
        rows, mask = pa.array(taken, pa.int64()), pa.array([reason is None for reason in self._reasons], pa.bool_())

        def choose(array: pa.Array) -> pa.Array:
            return array.filter(mask) if images is None else array.take(rows)

        arrays = {c: choose(a) for c, a in arrays.items()}
        positions = pa.nulls(len(taken), pa.int32())
        if images is not None:
            positions = pa.array([position for i in ok for position, _ in images[i]], pa.int32())
            arrays["image_url"] = pa.array([url for i in ok for _, url in images[i]], pa.string())
        lines = pa.array([record + i for i in taken], pa.int64())
        if inline:
            assert self._picture is not None
            arrays["image_url"] = pa.array([self._picture(record + i) for i in taken], pa.string())
        self._add_missing(arrays, row_ids_of(id_prefix, lines, positions), positions)
        source = [repeated(self._file, len(taken)), lines, positions]
        ordered = [arrays[c] for c in CANDIDATE_COLUMNS] + source + [choose(array) for array in kept]
        rejects = [
            Reject(record + i, self._raw(i), reason) for i, reason in enumerate(self._reasons) if reason is not None
        ]
        table = pa.Table.from_arrays(ordered, schema=self._columns.schema)
        return Batch(table, rejected_table(rejects, self._file), Reading(len(self._reasons), len(ok), len(rejects)))

    def _add_missing(self, arrays: dict[str, pa.Array], row_ids: pa.Array, positions: pa.Array) -> None:
        num = len(row_ids)
        if "row_id" in arrays and positions.null_count < num:
            arrays["row_id"] = pc.binary_join_element_wise(arrays["row_id"], positions.cast(pa.string()), ":")
        arrays.setdefault("row_id", row_ids)
        arrays.setdefault("item_id", arrays["row_id"])  # of pictures without one: each is an item
        arrays.setdefault("text", pa.array([""] * num, pa.string()))
        for column in ("fallback_url", "poi_names"):
            arrays.setdefault(column, pa.nulls(num, pa.string()))

    def _image_lists(self) -> list[Images]:
        """Each record's images; a record without any is refused."""
        names = self._columns.images or (self._columns.mapping["image_url"],)
        found: list[Images] = []
        for i, values in enumerate(zip(*(self._values(name) for name in names), strict=True)):
            cells = cells_of(values)
            images = [] if isinstance(cells, str) else image_list(cells, self._separator)
            reason = cells if isinstance(cells, str) else None if images else "empty image_url"
            if any("\0" in url for _, url in images):
                reason = "holds NUL: image_url"
            self._reasons[i] = self._reasons[i] or reason
            found.append(images)
        return found

    def _values(self, name: str) -> list[Any]:
        """A column of texts, or of lists of texts, as Python values."""
        array = plain(self._table.column(name))
        if not is_list(array.type):
            return list(self._text(array, name).to_pylist())
        try:
            return list(array.to_pylist())
        except (UnicodeDecodeError, ValueError, OverflowError):  # one bad entry: look at each record for itself
            return [self._value(array, i, name) for i in range(len(array))]

    def _value(self, array: pa.Array, i: int, name: str) -> Any:
        try:
            return array[i].as_py()
        except (UnicodeDecodeError, ValueError, OverflowError):
            self._reasons[i] = self._reasons[i] or f"not decodable as utf-8: column {name!r}"
            return None

    def _refuse(self, bad: Mask, reason: str) -> None:
        for i in np.flatnonzero(bad):
            self._reasons[i] = self._reasons[i] or reason

    def _candidate(self, column: str) -> pa.Array | None:
        if column not in self._columns.mapping:
            return None
        name = self._columns.mapping[column]
        array = plain(self._table.column(name))
        text = self._text(id_texts(array) if column.endswith("_id") else array, name)
        self._refuse(_true(pc.match_substring(text, "\0")), f"holds NUL: column {name!r}")
        if column.endswith("_url"):
            text = pc.utf8_trim_whitespace(text)
        blank = pc.equal(pc.utf8_trim_whitespace(text), "")
        if column in ("row_id", "item_id", "image_url"):
            self._refuse(_true(pc.fill_null(blank, True)), f"empty {column}")
        elif column == "text":
            return pc.if_else(pc.fill_null(blank, True), "", text)
        else:
            return pc.if_else(blank, pa.scalar(None, pa.string()), text)
        return text

    def _passthrough(self, name: str, field: pa.Field) -> pa.Array:
        array = stored_array(self._table.column(name))
        try:
            return array.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise ManifestError(
                f"{self._file}: column {name!r} is {array.type}, the manifest's first file has {field.type}: {e}"
            ) from None

    def _text(self, array: pa.Array, name: str) -> pa.Array:
        """The column as string; records whose bytes are not UTF-8 are refused (Parquet readers don't check)."""
        array = plain_array(array)
        if not (is_string(array.type) or is_binary(array.type)):
            return text_array(array)
        data = array.cast(pa.binary())
        try:
            return data.cast(pa.string())
        except pa.ArrowInvalid:
            values = data.to_pylist()
            bad = np.array([v is not None and not _is_utf8(v) for v in values], dtype=bool)
            self._refuse(bad, f"not decodable as utf-8: column {name!r}")
            return pa.array([None if v is None else v.decode("utf-8", "backslashreplace") for v in values], pa.string())

    def _raw(self, i: int) -> str:
        row: dict[str, Any] = {}
        for name in self._table.schema.names:
            row[name] = plain_value(self._table.column(name), i)
        return json_text(row)


def wanted_columns(schema: pa.Schema, columns: Columns, file: str) -> list[str]:
    """Return the columns of a file that are read: all that are mapped or kept but pictures.

    Raises:
        ManifestError: one is missing, or cannot be what it is mapped to.
    """
    kept = [name for name, _ in columns.passthrough]
    mapped = [name for column, name in columns.mapping.items() if not (columns.inline and column == "image_url")]
    wanted = list(dict.fromkeys([*mapped, *columns.images, *kept]))
    for name in [*wanted, *([columns.inline] if columns.inline else [])]:
        if schema.names.count(name) != 1:
            raise ManifestError(
                f"{file}: column {name!r} is missing here, though the manifest's first file has it; "
                f"columns found: {', '.join(schema.names)}"
            )
    check_types(schema, columns, file)
    return wanted


def check_types(schema: pa.Schema, columns: Columns, file: str) -> None:
    """Raises ManifestError where a column cannot be what it is mapped to."""
    named = [*columns.mapping.items(), *(("image_url", name) for name in columns.images)]
    for column, name in named:
        kind = bare_type(schema.field(name).type)
        if column == "image_url" and columns.inline:
            if not is_picture_type(kind):
                first = "the manifest's first file holds pictures there"
                raise ManifestError(f"{file}: column {name!r} is {kind}, {first}")
            continue
        lists = column == "image_url" and is_list(kind) and not is_nested(bare_type(kind.value_type))
        if is_nested(kind) and not lists:
            more = " or of lists of them" if column == "image_url" else ""
            raise ManifestError(f"{file}: column {name!r} is {kind}; {column} needs a column of plain values{more}")


def _lists(schema: pa.Schema, columns: Columns) -> bool:
    """Whether image_url is a column of lists."""
    return is_list(bare_type(schema.field(columns.mapping["image_url"]).type))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _true(mask: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), dtype=bool)
