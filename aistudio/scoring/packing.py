"""Decoded images of a shard as one Arrow row, and back: pixels are one contiguous uint8 tensor, no Python objects."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.schema import CROP_TYPE, Crop, Status
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
    "crops": pa.list_(CROP_TYPE),
}


def pack_images(shard: str, images: Iterable[ImageRow]) -> pa.Table:
    """One row: the shard's name, a list column per field, and for each pixel format `pixels_<i>` with its `size_<i>`.

    The pixel columns hold the ok images only, in the order of the field columns.
    """
    rows = _of_one_shape([storable_row(image) for image in images])
    columns: dict[str, Any] = {"shard": pa.array([shard])}
    for name, kind in _FIELDS.items():
        columns[name] = _one_row(pa.array([_plain(getattr(r, name)) for r in rows], kind))
    ok = [r for r in rows if r.status == Status.OK]
    for i in range(len(ok[0].pixels) if ok else 0):
        stacked = np.stack([r.pixels[i] for r in ok])
        columns[f"pixels_{i}"] = _one_row(pa.array(stacked.reshape(-1)))
        columns[f"size_{i}"] = pa.array([stacked.shape[1]])
    return pa.table(columns)


def _of_one_shape(rows: list[ImageRow]) -> list[ImageRow]:
    """Rows whose pixels are not like those of the first ok row cannot share its tensors: they fail, alone."""
    shapes = [tuple(p.shape for p in r.pixels) if r.status == Status.OK else None for r in rows]
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
    tensors = []
    for name in sorted(n for n in packed.column_names if n.startswith("pixels_")):
        size = packed[name.replace("pixels", "size")][0].as_py()
        tensors.append(packed[name].chunk(0).flatten().to_numpy().reshape(-1, size, size, 3))
    position = 0
    for values in zip(*fields.values(), strict=True):
        row = dict(zip(fields, values, strict=True))
        row["crops"] = tuple(box and Crop(**box) for box in row["crops"])
        status = Status(row.pop("status"))
        pixels: tuple[np.ndarray, ...] = ()
        if status == Status.OK:
            pixels, position = tuple(t[position] for t in tensors), position + 1
        yield ImageRow(status=status, pixels=pixels, **row)


def _one_row(values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [box and box._asdict() for box in value]
    return str(value) if isinstance(value, Status) else value
