"""Files opened for reads of ranges, wherever they lie: on a local disk, in a bucket, on Hugging Face's hub."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from aistudio._backends import LocalRanges
from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.hub_files import HubRanges, in_hub, open_hub
from aistudio.places import in_bucket
from aistudio.store import Ranges, Store, open_store

WEB = ("http://", "https://")
BLOCK_BYTES = 1 << 20  # of a block: some dozen pictures of a tar in one request
_MOST_BLOCKS = 32
_MOST = 64  # files kept open


class KeyLocks:
    """A lock for each key that somebody holds: what several threads want at once is done once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: WeakValueDictionary[object, threading.Lock] = WeakValueDictionary()

    def __call__(self, key: object) -> threading.Lock:
        """Return the key's lock."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())


class FileRanges:
    """Opens files and keeps the last ones open; one client per bucket. For several threads at once."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._lock, self._opening = threading.Lock(), KeyLocks()
        self._stores: dict[str, Store] = {}
        self._open: OrderedDict[str, Ranges] = OrderedDict()

    def ranges(self, address: str) -> Ranges:
        """Open a file, or return it as it was opened before.

        Raises:
            FileNotFoundError: there is none.
            StoreError: denied, out of reach, or an address of the web.
        """
        with self._opening(address):
            with self._lock:
                if address in self._open:
                    self._open.move_to_end(address)
                    return self._open[address]
            found = self._opened(address)
            with self._lock:
                self._open[address] = found
                while len(self._open) > _MOST:
                    self._open.popitem(last=False)
            return found

    def stream(self, address: str) -> BinaryIO:
        """Open a file as one seekable stream. Raises as `ranges`."""
        if address.startswith(WEB):
            raise _not_over_http(address)
        if in_hub(address):
            return open_hub(address)
        if in_bucket(address):
            store, key = self._place(address)
            if not store.exists(key):
                raise FileNotFoundError(address)
            return store.open(key)
        try:
            return Path(address).open("rb")
        except FileNotFoundError:
            raise
        except OSError as e:
            raise StoreError(f"{address}: {e.strerror or e}") from None

    def forget(self, address: str) -> None:
        """Open the file anew next time: it was replaced, say."""
        with self._lock:
            self._open.pop(address, None)

    def _opened(self, address: str) -> Ranges:
        if address.startswith(WEB):
            raise _not_over_http(address)
        if in_hub(address):
            return HubRanges(address)
        if not in_bucket(address):
            return _local(address)
        store, key = self._place(address)
        if (found := store.open_ranges(key)) is None:
            raise FileNotFoundError(address)
        return found

    def _place(self, address: str) -> tuple[Store, str]:
        """The bucket and the object's key in it."""
        scheme, _, rest = address.partition("://")
        bucket, _, key = rest.partition("/")
        root = f"{scheme}://{bucket}"
        with self._lock:
            if root not in self._stores:
                self._stores[root] = open_store(root, self._settings)
            return self._stores[root], key


class Blocks:
    """Reads small ranges of remote files by whole blocks, which are kept for a while: neighbours share a request.

    Files on a disk, and ranges of more than half a block, are read as they are asked for. For several threads at once.
    """

    def __init__(self, files: FileRanges) -> None:
        self._files = files
        self._lock, self._fetching = threading.Lock(), KeyLocks()
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def read(self, address: str, start: int, stop: int) -> bytes:
        """Return bytes of a file, fewer at its end. Raises as FileRanges.ranges, ChangedError."""
        ranges = self._files.ranges(address)
        if isinstance(ranges, LocalRanges) or stop - start > BLOCK_BYTES // 2 or start >= stop:
            return ranges.read(start, stop)
        first = start // BLOCK_BYTES
        pieces = [self._block(address, ranges, n) for n in range(first, (stop - 1) // BLOCK_BYTES + 1)]
        return b"".join(pieces)[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def forget(self, address: str) -> None:
        """Read a file's blocks anew next time."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == address]:
                del self._kept[key]

    def _block(self, address: str, ranges: Ranges, number: int) -> bytes:
        key = (address, number)
        with self._fetching(key):
            with self._lock:
                found = self._kept.get(key)
                if found is not None:
                    self._kept.move_to_end(key)
                    return found
            found = ranges.read(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > _MOST_BLOCKS:
                    self._kept.popitem(last=False)
            return found


def _local(path: str) -> LocalRanges:
    try:
        return LocalRanges(Path(path))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except (OSError, ValueError) as e:
        raise StoreError(f"{path}: {getattr(e, 'strerror', None) or e}") from None


def _not_over_http(address: str) -> StoreError:
    return StoreError(f"{address}: pictures inside a file are read in ranges, which is not done over HTTP; copy it")
