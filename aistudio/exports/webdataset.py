"""`webdataset`: tar files of samples, `<number>.jpg`, `.txt`, `.json`, `.npy`: stored picture, text, columns, vector.

A sample's key is its number in the export, nine digits: row ids may hold dots and slashes, which WebDataset reads as
endings and folders. The row id is in the JSON. Where a run stored no picture the sample has none.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aistudio.exports.columns import json_bytes
from aistudio.exports.format import Format, Read
from aistudio.exports.source import ID, Batch, Source
from aistudio.schema import THUMBNAIL_FIELD
from aistudio.values import table_rows

SHARD_ROWS, SHARD_BYTES = 10_000, 512 * 2**20
READ_ROWS = 1_024
_PICTURE, _TEXT = THUMBNAIL_FIELD.name, "text"


def _write(source: Source, batches: Iterator[Batch], folder: Path) -> dict[str, Any]:
    from webdataset.writer import TarWriter

    shards = _Shards(folder, TarWriter)
    try:
        for batch in batches:
            for i, row in enumerate(table_rows(batch.table)):
                shards.write(f"{batch.first + i:09d}", _sample(row, batch.vectors_ND[i]))
    finally:
        shards.close()
    return {"shards": shards.num_shards}


def _sample(row: dict[str, Any], vector_D: np.ndarray) -> dict[str, bytes]:
    picture, text = row.pop(_PICTURE, None), row.get(_TEXT)
    vector = io.BytesIO()
    np.save(vector, vector_D, allow_pickle=False)
    sample = {"json": json_bytes(row), "npy": vector.getvalue()}
    if picture is not None:
        sample["jpg"] = picture
    if text is not None:
        sample["txt"] = text.encode()
    return sample


class _Shards:
    """Tar files, the next one begun where one is full."""

    def __init__(self, folder: Path, writer: Any) -> None:
        self._folder, self._writer = folder, writer
        self.num_shards = self._rows = self._bytes = 0
        self._file: Any = None
        self._tar: Any = None

    def write(self, key: str, sample: dict[str, bytes]) -> None:
        if self._tar is None:
            self._file = (self._folder / f"{self.num_shards:06d}.tar").open("wb")
            self._tar = self._writer(self._file, encoder=False, mtime=0)
            self.num_shards += 1
        self._bytes += self._tar.write({"__key__": key, **sample})
        self._tar.tarstream.members.clear()  # tarfile remembers each, for reading
        self._rows += 1
        if self._rows >= SHARD_ROWS or self._bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the tar file that is open, if any."""
        if self._tar is not None:
            self._tar.close()
            self._file.close()
        self._tar = None
        self._rows = self._bytes = 0


def _read(source: Source, folder: Path) -> Iterator[Read]:
    import webdataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    ids: list[str] = []
    vectors: list[Any] = []
    for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False):
        ids.append(json.loads(sample["json"])[ID])
        vectors.append(np.load(io.BytesIO(sample["npy"]), allow_pickle=False))
        if len(ids) == READ_ROWS:
            yield Read(ids, np.stack(vectors), np.ones(len(ids), bool))
            ids, vectors = [], []
    if ids:
        yield Read(ids, np.stack(vectors), np.ones(len(ids), bool))


FORMAT = Format(
    "webdataset", _write, _read, 'webdataset.WebDataset(sorted(glob.glob("{out}/*.tar")), shardshuffle=False)',
    "webdataset", "webdataset", "export-webdataset", pictures=True,
)  # fmt: skip
