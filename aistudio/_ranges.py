"""Reading one object of a bucket in ranges, and the pause between two tries; for every kind of bucket."""

import io
import random
import time
from typing import Any, BinaryIO

from aistudio._backends import Entry
from aistudio.errors import ChangedError, StoreError

BUFFER_BYTES = 1 << 16  # read at a time from an object that is open as a stream, unless it is said
NOT_CONDITIONAL = (
    "this storage service does not honour a conditional create, which keeps two workers from storing the same shard; "
    "choose an output on S3, R2, Google Cloud Storage, Azure, a recent MinIO or a local disk"
)


def pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))


class Bucket:
    """What every kind of bucket does alike; a kind brings `_entry`, which is None for an object that is not there."""

    root: str

    def _entry(self, key: str) -> Entry | None:
        raise NotImplementedError

    def read_range(self, entry: Entry, start: int, stop: int) -> bytes:
        raise NotImplementedError

    def size(self, key: str) -> int | None:
        entry = self._entry(key)
        return None if entry is None else entry.size

    def open(self, key: str, etag: str, buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        entry = self._entry(key)
        if entry is None:
            raise StoreError(f"{self.root}/{key}: No such key")
        if etag and entry.etag and entry.etag != etag:
            raise ChangedError(f"{self.root}/{key}: another object by now, of {entry.size:,} bytes")
        return io.BufferedReader(RangeReader(self, entry), buffer_bytes)

    def ranges(self, key: str) -> "BucketRanges | None":
        entry = self._entry(key)
        return None if entry is None else BucketRanges(self, entry)

    def sweep(self, prefix: str) -> None:
        """Nothing to do: one PUT leaves nothing unfinished behind."""


class BucketRanges:
    """Ranges of one object: each read is one request, all of the same object."""

    def __init__(self, backend: Bucket, entry: Entry) -> None:
        self._backend, self._entry, self.size = backend, entry, entry.size

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        return self._backend.read_range(self._entry, start, stop) if start < stop else b""


class RangeReader(io.RawIOBase):
    """Random access to one object, so that Parquet reads only the columns it needs, all of the same version."""

    def __init__(self, backend: Bucket, entry: Entry) -> None:
        self._backend, self._entry, self._size, self._position = backend, entry, entry.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._backend.read_range(self._entry, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
