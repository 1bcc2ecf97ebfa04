"""Reading one object of a bucket in ranges, and the pause between two tries; for every kind of bucket."""

import io
import random
import time
from typing import Any, Protocol

from aistudio._backends import Entry

NOT_CONDITIONAL = (
    "this storage service does not honour a conditional create, which keeps two workers from storing the same shard; "
    "choose an output on S3, R2, Google Cloud Storage, Azure, a recent MinIO or a local disk"
)


class RangeSource(Protocol):
    """A bucket whose objects can be read in part."""

    def read_range(self, entry: Entry, start: int, stop: int) -> bytes: ...


def pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))


class RangeReader(io.RawIOBase):
    """Random access to one object, so that Parquet reads only the columns it needs; every read is of the same one."""

    def __init__(self, backend: RangeSource, entry: Entry) -> None:
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
