"""`lance`: a LanceDB folder with one table, `images`: columns, and vectors as fixed-size lists, null in failed rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.exports.format import Format, Read
from aistudio.exports.source import BATCH_ROWS, ID, Batch, Source

TABLE = "images"


def _write(source: Source, batches: Iterator[Batch], folder: Path) -> dict[str, Any]:
    import lance

    names = _names(source.table_schema.names)
    kinds = [pa.field(name, f.type) for name, f in zip(names, source.table_schema, strict=True)]
    schema = pa.schema([*kinds, pa.field(source.name, pa.list_(pa.float32(), source.dim))])

    def tables() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            values = pa.array(batch.vectors_ND.reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(values, source.dim, mask=pa.array(~batch.valid_N))
            table = pa.Table.from_arrays([*batch.table.columns, vectors], schema=schema)
            yield from table.combine_chunks().to_batches()

    reader = pa.RecordBatchReader.from_batches(schema, tables())
    lance.write_dataset(reader, str(folder / f"{TABLE}.lance"))
    renamed = {old: new for old, new in zip(source.table_schema.names, names, strict=True) if old != new}
    return {"table": TABLE, "renamed": renamed}


def _names(names: Sequence[str]) -> list[str]:
    """Return column names that Lance takes: it allows no dot in one, and no empty one."""
    taken = {name for name in names if name and "." not in name}
    found = []
    for name in names:
        new = name
        if not name or "." in name:
            new = name.replace(".", "_") or "column"
            while new in taken:
                new += "_"
            taken.add(new)
        found.append(new)
    return found


def _read(source: Source, folder: Path) -> Iterator[Read]:
    import lance

    table = lance.dataset(str(folder / f"{TABLE}.lance"))
    scanner = table.scanner(columns=[ID, source.name], batch_size=BATCH_ROWS, scan_in_order=True)
    for batch in scanner.to_batches():
        vectors = batch.column(source.name)
        valid_N = vectors.is_valid().to_numpy(zero_copy_only=False)
        found_ND = np.zeros((len(valid_N), source.dim), np.float32)
        found_ND[valid_N] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, source.dim)
        yield Read(batch.column(ID).to_pylist(), found_ND, valid_N)


FORMAT = Format(
    "lance", _write, _read, 'lancedb.connect("{out}").open_table("images")', "pylance", "lance", "export-lance",
    missing=True, pictures=True, int8=None, from_bucket=True,
)  # fmt: skip
