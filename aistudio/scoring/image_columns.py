"""What came of a shard's distinct images as Arrow columns, whole shards at once: a Python object for each costs more.

Images that arrive one by one become columns with `image_table`. Those that a base run has (base_rows.py) are columns
from the start (`ImageColumns`), and become an ImageRow only where somebody looks at one of them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.schema import (
    CROP_TYPE,
    DELTA_FIELDS,
    OUTCOME_FIELDS,
    THUMBNAIL_FIELD,
    Crop,
    Reused,
    Status,
    vector_array,
    vector_matrix,
)
from aistudio.scoring.image_source import ImageRow

NUMBER = pa.field("number", pa.int64(), nullable=False)  # among the shard's distinct images
FIELDS: tuple[pa.Field, ...] = tuple(
    f for f in (*OUTCOME_FIELDS, *DELTA_FIELDS, THUMBNAIL_FIELD) if f.name not in ("recall_score", "rank_score")
)


def box_column(pixel_format: int) -> str:
    """Return the column that says where images were cropped to for a pixel format (schema.CROP_TYPE)."""
    return f"box_{pixel_format}"


def image_schema(cropped: Collection[int]) -> pa.Schema:
    """Schema of a table of images. `cropped`: the pixel formats that have boxes."""
    return pa.schema([NUMBER, *FIELDS, *(pa.field(box_column(n), CROP_TYPE) for n in sorted(set(cropped)))])


def image_values(images: Sequence[ImageRow]) -> dict[str, Sequence[Any]]:
    """Return the fields of images by name, enumerations as their texts."""
    if not images:
        return dict.fromkeys(ImageRow._fields, ())
    values: dict[str, Sequence[Any]] = dict(zip(ImageRow._fields, zip(*images, strict=True), strict=True))
    return values | {name: list(map(str, values[name])) for name in ("status", "reused")}


def image_table(images: Sequence[ImageRow], cropped: Collection[int]) -> pa.Table:
    """Return images as columns (image_schema), without their pixels and vectors."""
    schema = image_schema(cropped)
    values = image_values(images)
    values |= {box_column(n): [_box(image, n) for image in images] for n in cropped}
    return pa.table([pa.array(values[f.name], f.type) for f in schema], schema=schema)


def _box(image: ImageRow, pixel_format: int) -> dict[str, Any] | None:
    box = image.crops[pixel_format] if len(image.crops) > pixel_format else None
    return box and box._asdict()


class ImageColumns(Mapping[int, ImageRow]):
    """Images with their vectors; as a mapping, each by its number among the shard's distinct images."""

    def __init__(self, table: pa.Table, vectors: Sequence[np.ndarray] = (), num_formats: int = 0) -> None:
        """Take columns.

        Args:
            table: as image_schema.
            vectors: (N, D) float32 each, a row for each image.
            num_formats: pixel formats of the run; boxes of those that have none are None.
        """
        self.table, self.vectors, self._num_formats = table, tuple(vectors), num_formats

    @property
    def numbers(self) -> np.ndarray:
        """Number of each image: (N,) int64."""
        return np.asarray(self.table["number"].to_numpy())

    def without(self, numbers: Collection[int] | np.ndarray) -> "ImageColumns":
        """Return the images but some."""
        kept = ~np.isin(self.numbers, np.fromiter(numbers, np.int64, len(numbers)))
        if kept.all():
            return self
        vectors = [matrix[kept] for matrix in self.vectors]
        return ImageColumns(self.table.filter(pa.array(kept)), vectors, self._num_formats)

    def taken_by(self, how: Reused) -> "ImageColumns":
        """Return the images, each taken over because of the same thing."""
        place = self.table.schema.get_field_index("reused")
        column = pa.repeat(pa.scalar(how.value), len(self))
        table = self.table.set_column(place, self.table.schema.field(place), column)
        return ImageColumns(table, self.vectors, self._num_formats)

    def to_bytes(self) -> bytes:
        """Return all as Arrow's IPC stream."""
        table = self.table.replace_schema_metadata({"num_formats": str(self._num_formats)})
        for i, matrix in enumerate(self.vectors):
            table = table.append_column(f"vectors_{i}", vector_array(matrix))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> "ImageColumns":
        """Read what `to_bytes` made."""
        table = pa.ipc.open_stream(data).read_all()
        names = [name for name in table.column_names if name.startswith("vectors_")]
        num_formats = int((table.schema.metadata or {}).get(b"num_formats", b"0"))
        images = table.drop_columns(names).replace_schema_metadata(None)
        return cls(images, [vector_matrix(table[name]) for name in names], num_formats)

    def __getitem__(self, number: int) -> ImageRow:
        return self._rows[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers.tolist())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def _rows(self) -> dict[int, ImageRow]:
        names = ["number", *(f.name for f in FIELDS)]
        columns = {name: self.table[name].to_pylist() for name in names}
        columns["status"] = [Status(value) for value in columns["status"]]
        columns["reused"] = [Reused(value) for value in columns["reused"]]
        columns["vectors"] = list(zip(*self.vectors, strict=True)) if self.vectors else [()] * len(self)
        columns["crops"] = list(zip(*(self._boxes(n) for n in range(self._num_formats)), strict=True))
        if not self._num_formats:
            columns["crops"] = [()] * len(self)
        rows = (ImageRow(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True))
        return {row.number: row for row in rows}

    def _boxes(self, pixel_format: int) -> list[Crop | None]:
        if box_column(pixel_format) not in self.table.column_names:
            return [None] * len(self)
        return [box and Crop(**box) for box in self.table[box_column(pixel_format)].to_pylist()]


NO_IMAGES = ImageColumns(image_schema(()).empty_table())


def together(parts: Sequence[ImageColumns]) -> ImageColumns:
    """Return the images of several files of one run."""
    if len(parts) <= 1:
        return parts[0] if parts else NO_IMAGES
    table = pa.concat_tables([part.table for part in parts]).combine_chunks()
    vectors = [np.concatenate(matrices) for matrices in zip(*(part.vectors for part in parts), strict=True)]
    return ImageColumns(table, vectors, parts[0]._num_formats)
