"""A byte cache's files in a bucket. Objects are whole or absent by themselves; only their sum takes care.

Nobody can add up a bucket as it grows, so each process lists it whenever it has written 1/64 of the limit, and where
the sum is above the limit removes objects down to 3/4. Which ones goes by their names, from a point of the alphabet
that wanders from hour to hour: processes that do so at once remove the same ones. A bucket's own lifecycle rule does
it for less.
"""

import hashlib
import threading
import time

from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.store import Entry, open_store

_ROOMY = 3 / 4  # of the limit
_LOOK = 64  # part of the limit that a process writes between two looks
_RETRIES, _TIMEOUT_S = 1, 5.0  # a picture is fetched anew sooner than that


class BucketPlace:
    """See the module. Raises StoreError."""

    def __init__(self, root: str, settings: StoreSettings, max_bytes: int) -> None:
        limits = {"retries": min(_RETRIES, settings.retries), "timeout_s": min(_TIMEOUT_S, settings.timeout_s)}
        self._store = open_store(root, settings.model_copy(update=limits))
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._written = 0

    def read(self, key: str) -> bytes | None:
        try:
            return self._store.read_bytes(key)
        except StoreError:
            if not self._store.exists(key):
                return None
            raise

    def has(self, key: str, size: int) -> bool:
        return self._store.exists(key)  # objects are whole or absent

    def used(self, key: str) -> None:
        """Buckets do not know when an object was asked for."""

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def write(self, key: str, data: bytes) -> None:
        self._store.write_bytes(key, data)
        with self._lock:
            self._written += len(data)
            if self._written * _LOOK < self._max_bytes:
                return
            self._written = 0
        self.make_room()

    def make_room(self) -> None:
        """Remove objects where there are too many."""
        entries = self._store.list("addresses/") + self._store.list("pictures/")
        total = sum(e.size for e in entries)
        if total <= self._max_bytes:
            return
        start = hashlib.sha256(str(int(time.time() // 3600)).encode()).hexdigest()
        for entry in sorted(entries, key=lambda e: (_name(e) < start, _name(e))):
            if total <= _ROOMY * self._max_bytes:
                return
            self._store.delete(entry.key)
            total -= entry.size


def _name(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]
