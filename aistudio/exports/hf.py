"""`hf`: Parquet files below data/ with the features of Hugging Face's datasets, and a README.md that lists them.

`load_dataset(folder)` reads it, from the hub too once it lies there. Stored pictures are an Image feature.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.exports.format import Format, Read
from aistudio.exports.npy import parquet_writer
from aistudio.exports.source import BATCH_ROWS, ID, Batch, Source
from aistudio.schema import THUMBNAIL_FIELD, vector_array, vector_matrix

PART_BYTES = 256 * 2**20  # of Arrow memory
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # how datasets stores an Image
README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

Rows of a run of AI Studio, with the vectors of one model in the column `{column}`; `export.json` says of which.
"""


def _write(source: Source, batches: Iterator[Batch], folder: Path) -> dict[str, Any]:
    schema = _schema(source)
    (folder / "data").mkdir()
    writer, have, num_parts = None, 0, 0
    try:
        for batch in batches:
            if writer is None:
                writer = parquet_writer(folder / f"data/train-{num_parts:05d}.parquet", schema)
                num_parts += 1
            table = pa.Table.from_arrays([*_columns(source, batch), _vectors(source, batch)], schema=schema)
            writer.write_table(table)
            have += table.nbytes
            if have >= PART_BYTES:
                writer.close()
                writer, have = None, 0
    finally:
        if writer is not None:
            writer.close()
    (folder / "README.md").write_text(README.format(column=source.name), encoding="utf-8")
    return {"files": num_parts}


def _schema(source: Source) -> pa.Schema:
    """The Arrow schema with datasets' features in its metadata."""
    import datasets

    fields = [pa.field(f.name, PICTURE) if f.name == THUMBNAIL_FIELD.name else f for f in source.table_schema]
    kind = pa.int8() if source.codes else pa.float32()
    plain = pa.schema([*fields, pa.field(source.name, pa.list_(kind))])
    features = datasets.Features.from_arrow_schema(plain)
    if THUMBNAIL_FIELD.name in source.columns:
        features[THUMBNAIL_FIELD.name] = datasets.Image()
    return plain.with_metadata(features.arrow_schema.metadata)


def _columns(source: Source, batch: Batch) -> Iterator[pa.ChunkedArray | pa.Array]:
    for name, column in zip(batch.table.column_names, batch.table.columns, strict=True):
        if name == THUMBNAIL_FIELD.name:
            pictures = column.combine_chunks()
            paths = pa.nulls(len(pictures), pa.string())
            yield pa.StructArray.from_arrays([pictures, paths], fields=list(PICTURE), mask=pictures.is_null())
        else:
            yield column


def _vectors(source: Source, batch: Batch) -> pa.Array:
    if not source.codes:
        return vector_array(batch.vectors_ND, batch.valid_N)
    lengths = np.where(batch.valid_N, source.dim, 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    values = pa.array(batch.vectors_ND[batch.valid_N].reshape(-1))
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~batch.valid_N))


def _read(source: Source, folder: Path) -> Iterator[Read]:
    import datasets

    rows = datasets.load_dataset(str(folder), split="train", streaming=True).select_columns([ID, source.name])
    kind = np.int8 if source.codes else np.float32
    for batch in rows.with_format("arrow").iter(BATCH_ROWS):
        vectors = batch[source.name]
        valid_N = vectors.is_valid().to_numpy(zero_copy_only=False)
        found_ND = np.zeros((len(valid_N), source.dim), kind)
        found_ND[valid_N] = _matrix(vectors, source)
        yield Read(batch[ID].to_pylist(), found_ND, valid_N)


def _matrix(vectors: pa.ChunkedArray, source: Source) -> Any:
    if not source.codes:
        return vector_matrix(vectors).reshape(-1, source.dim)
    flat = pa.chunked_array([chunk.flatten() for chunk in vectors.chunks], pa.int8())
    return flat.to_numpy().reshape(-1, source.dim)


FORMAT = Format(
    "hf", _write, _read, 'datasets.load_dataset("{out}", split="train")', "datasets", "datasets", "export-hf",
    missing=True, pictures=True,
)  # fmt: skip
