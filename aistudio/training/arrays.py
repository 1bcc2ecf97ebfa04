"""Arrays on disk, larger than memory: written row by row in shards, read by row numbers through memory maps.

A shard's checksum is compared when it is touched for the first time, which reads it into the page cache anyway.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from aistudio.errors import StoreError

SHARD_BYTES = 128 << 20


class ArrayInfo(BaseModel):
    """What an index says of one array."""

    name: str
    dtype: str
    row_shape: tuple[int, ...]
    shard_rows: int
    num_rows: int
    crc32: list[int]  # of each shard's bytes

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return self.num_rows * int(np.dtype(self.dtype).itemsize * np.prod(self.row_shape))


class ArrayWriter:
    """Appends rows of one shape; memory is at most one append."""

    def __init__(self, folder: Path, name: str, dtype: str, row_shape: Sequence[int]) -> None:
        row_bytes = max(1, int(np.dtype(dtype).itemsize * np.prod(row_shape)))
        self._folder = folder
        self.info = ArrayInfo(
            name=name, dtype=dtype, row_shape=tuple(row_shape), shard_rows=max(1, SHARD_BYTES // row_bytes),
            num_rows=0, crc32=[],
        )  # fmt: skip

    def append(self, rows: NDArray[Any]) -> None:
        """Add (N, *row_shape). Raises StoreError when the disk is full."""
        rows = np.ascontiguousarray(rows, self.info.dtype)
        start = 0
        while start < len(rows):
            at = self.info.num_rows % self.info.shard_rows
            part = rows[start : start + self.info.shard_rows - at]
            number = self.info.num_rows // self.info.shard_rows
            if at == 0:
                self.info.crc32.append(0)
            path = shard_path(self._folder, self.info.name, number)
            try:
                with path.open("wb" if at == 0 else "ab") as f:
                    f.write(part.data)
            except OSError as e:
                raise StoreError(
                    f"{path}: cannot be written: {e.strerror or e}; free space or set data.cache"
                ) from None
            self.info.crc32[number] = zlib.crc32(part.data, self.info.crc32[number])
            self.info.num_rows += len(part)
            start += len(part)


class ArrayReader:
    """Rows by number; several threads and processes may read at once."""

    def __init__(self, folder: Path, info: ArrayInfo) -> None:
        self._folder, self.info = folder, info
        self._maps: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.info.num_rows

    def __getitem__(self, rows: NDArray[np.int64] | Sequence[int]) -> NDArray[Any]:
        """(B,) row numbers -> (B, *row_shape), a copy. Raises StoreError for a damaged shard."""
        rows = np.asarray(rows, np.int64)
        out = np.empty((len(rows), *self.info.row_shape), self.info.dtype)
        shards = rows // self.info.shard_rows
        for number in np.unique(shards).tolist():
            mine = np.flatnonzero(shards == number)
            out[mine] = self._shard(number)[rows[mine] - number * self.info.shard_rows]
        return out

    def _shard(self, number: int) -> NDArray[Any]:
        if number not in self._maps:
            self._maps[number] = self._open(number)
        return self._maps[number]

    def _open(self, number: int) -> NDArray[Any]:
        path = shard_path(self._folder, self.info.name, number)
        rows = min(self.info.shard_rows, self.info.num_rows - number * self.info.shard_rows)
        try:
            shard = np.memmap(path, self.info.dtype, "r", shape=(rows, *self.info.row_shape))
        except (OSError, ValueError) as e:
            raise StoreError(f"{path}: damaged or missing ({e}); delete its folder, it is made again") from None
        if zlib.crc32(shard.data) != self.info.crc32[number]:
            raise StoreError(f"{path}: damaged (wrong checksum); delete its folder, it is made again")
        return shard


def shard_path(folder: Path, name: str, number: int) -> Path:
    """Return the file of one shard."""
    return folder / f"{name}-{number:05d}.bin"
