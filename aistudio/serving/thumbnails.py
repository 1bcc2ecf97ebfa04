"""A run's stored pictures, one at a time.

A score file's pictures are put into the local cache when one is first asked for, and mapped from there. The copies of
all runs and of all their versions lie in one folder and share its limit: those not opened for longest are removed.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from aistudio.errors import StoreError
from aistudio.schema import THUMBNAIL_FIELD
from aistudio.store import Store

OPEN_FILES = 256
PICTURES = "pictures"  # the folder of all copies, beside the indexes


class Thumbnails:
    """Pictures by score file and place there."""

    def __init__(self, store: Store, folder: Path, max_bytes: int) -> None:
        """Prepare to copy; nothing is made before it is needed.

        Args:
            folder: holds this run's copies alone; the folders beside it hold those of others.
            max_bytes: limit of all of them together. The file that was asked for last always stays.
        """
        self._store, self._folder, self._max_bytes = store, folder, max_bytes
        self._open: OrderedDict[str, pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, place: int) -> bytes | None:
        """Return the JPEG of a row, None where it has none. Raises StoreError for a damaged file."""
        with self._lock:
            column = self._open.get(key)
            if column is None:
                column = self._open[key] = self._column(key)
            self._open.move_to_end(key)
            while len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        found = column[place].as_py() if place < len(column) else None
        return found if isinstance(found, bytes) else None

    def _column(self, key: str) -> pa.ChunkedArray:
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.arrow"
        if not path.is_file():
            table = self._store.read_table(key, [THUMBNAIL_FIELD.name])
            if not table.num_columns:
                return pa.chunked_array([pa.array([], pa.binary())])
            self._write(path, table)
            self._make_room(path)
        with suppress(OSError):  # another process removed it, or it belongs to somebody else
            os.utime(path)
        try:
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0)
        except (OSError, pa.ArrowException) as e:
            raise StoreError(f"{path}: cannot be read: {e}; remove it to have it made anew") from None

    def _write(self, path: Path, table: pa.Table) -> None:
        temporary = path.with_suffix(f".{threading.get_ident()}.making")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with pa.ipc.new_file(str(temporary), table.schema) as sink:
                sink.write_table(table)
            temporary.replace(path)
        except OSError as e:
            raise StoreError(f"{path}: cannot be written: {e}") from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, newest: Path) -> None:
        """Remove copies until the limit holds; whoever has one mapped keeps it."""
        found = []
        for path in self._folder.parent.glob("*/*.arrow"):
            with suppress(OSError):  # removed meanwhile
                info = path.stat()
                found.append((info.st_mtime, info.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                return
            if path != newest:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    total -= size
