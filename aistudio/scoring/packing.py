"""Decoded images of a shard as one Arrow row, and back: pixels are one contiguous uint8 tensor, no Python objects."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.schema import CROP_TYPE, Crop, Reused, Status
from aistudio.scoring.image_columns import NO_IMAGES, ImageColumns, image_values
from aistudio.scoring.image_source import ImageRow, storable_row

_FIELDS = {
    "number": pa.int64(),
    "status": pa.string(),
    "error": pa.string(),
    "http_status": pa.int32(),
    "num_bytes": pa.int64(),
    "final_url": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "content_hash": pa.string(),
    "thumbnail": pa.binary(),
    "decode_s": pa.float64(),
    "fetched": pa.bool_(),
    "used_fallback": pa.bool_(),
    "cache": pa.string(),
    "crops": pa.list_(CROP_TYPE),
    "etag": pa.string(),
    "last_modified": pa.string(),
    "reused": pa.string(),
    "given": pa.bool_(),
}


def pack_images(shard: str, images: Iterable[ImageRow]) -> pa.Table:
    """One row: the shard's name, a list column per field, and for each pixel format `pixels_<i>` with its `size_<i>`.

    The pixel columns hold the ok images that have pixels only, in the order of the field columns; the columns
    `vectors_<i>` with their `width_<i>` those that come from elsewhere (ImageRow.has_vectors).
    """
    rows = _of_one_shape([storable_row(image) for image in images])
    columns: dict[str, Any] = {"shard": pa.array([shard])}
    values = image_values(rows)
    values["crops"] = [[box and box._asdict() for box in boxes] for boxes in values["crops"]]
    for name, kind in _FIELDS.items():
        columns[name] = _one_row(pa.array(values[name], kind))
    for name, size, arrays in (
        ("pixels", "size", [r.pixels for r in rows if _has_pixels(r)]),
        ("vectors", "width", [r.vectors for r in rows if r.has_vectors]),
    ):
        for i in range(len(arrays[0]) if arrays else 0):
            stacked = np.stack([a[i] for a in arrays])
            columns[f"{name}_{i}"] = _one_row(pa.array(stacked.reshape(-1)))
            columns[f"{size}_{i}"] = pa.array([stacked.shape[1]])
    return pa.table(columns)


def with_taken(packed: pa.Table, taken: ImageColumns) -> pa.Table:
    """Add images that are columns already, whole."""
    if not taken:
        return packed
    return packed.append_column("taken", pa.array([taken.to_bytes()], pa.large_binary()))


def unpack_taken(packed: pa.Table) -> ImageColumns:
    """Return what `with_taken` added."""
    return ImageColumns.from_bytes(packed["taken"][0].as_buffer()) if "taken" in packed.column_names else NO_IMAGES


def _has_pixels(row: ImageRow) -> bool:
    return row.status == Status.OK and not row.has_vectors


def _of_one_shape(rows: list[ImageRow]) -> list[ImageRow]:
    """Rows whose pixels are not like those of the first ok row cannot share its tensors: they fail, alone."""
    shapes = [tuple(p.shape for p in r.pixels) if _has_pixels(r) else None for r in rows]
    wanted = next((s for s in shapes if s is not None), None)
    error = "internal error: pixels of another shape than those of the shard's other images; please report"
    return [
        r if s is None or s == wanted else r._replace(status=Status.MODEL_ERROR, error=error, pixels=())
        for r, s in zip(rows, shapes, strict=True)
    ]


def unpack_images(packed: pa.Table) -> tuple[str, Iterator[ImageRow]]:
    """Inverse of pack_images; pixels are views into the Arrow buffers (no copy)."""
    return packed["shard"][0].as_py(), _rows(packed)


def _rows(packed: pa.Table) -> Iterator[ImageRow]:
    fields = {name: packed[name].chunk(0).flatten().to_pylist() for name in _FIELDS}
    fields |= {name: list(map(kind, fields[name])) for name, kind in (("status", Status), ("reused", Reused))}
    fields["crops"] = [tuple(box and Crop(**box) for box in boxes) if boxes else () for boxes in fields["crops"]]
    pixels = [_tensor(packed, f"pixels_{i}").reshape(-1, s, s, 3) for i, s in _sizes(packed, "size")]
    vectors = [_tensor(packed, f"vectors_{i}").reshape(-1, w) for i, w in _sizes(packed, "width")]
    position = taken = 0
    fields |= dict.fromkeys(("pixels", "vectors"), [()] * len(fields["number"]))
    for image in map(ImageRow, *(fields[name] for name in ImageRow._fields)):
        if image.has_vectors:
            image, taken = image._replace(vectors=tuple(v[taken] for v in vectors)), taken + 1
        elif image.status == Status.OK:
            image, position = image._replace(pixels=tuple(t[position] for t in pixels)), position + 1
        yield image


def _sizes(packed: pa.Table, name: str) -> list[tuple[str, int]]:
    """Numbers of the tensors whose columns of sizes begin with `name`, and the sizes."""
    found = (n for n in packed.column_names if n.startswith(f"{name}_"))
    numbers = sorted((n.removeprefix(f"{name}_") for n in found), key=int)
    return [(number, packed[f"{name}_{number}"][0].as_py()) for number in numbers]


def _tensor(packed: pa.Table, column: str) -> np.ndarray:
    values: np.ndarray = packed[column].chunk(0).flatten().to_numpy()
    return values


def _one_row(values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)
