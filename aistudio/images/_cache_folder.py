"""A byte cache's files in a folder: each complete or absent, together within a limit, with any number of writers.

All processes add what they wrote to one file (`usage`, under a lock), so each knows the sum without looking. Who finds
it above 7/8 of the limit looks at every file and removes those that were not asked for longest, down to 3/4. What
a process has not added yet is at most 1/1024 of the limit, so that 128 processes together stay within it. A killed
process may leave a little uncounted; the next removal counts anew. Sizes are those on the disk, in blocks.
"""

import os
import threading
import time
import uuid
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_BLOCK = 4096  # bytes: the least that a file takes
_FULL, _ROOMY = 7 / 8, 3 / 4  # of the limit: when to remove, and down to what
_UNTOLD = 1024  # part of the limit that a process may have written and not yet added to the sum
_LEFT_OVER_S = 3600  # after which an unfinished file is one of a process that died


class FolderPlace:
    """See the module. Raises OSError."""

    def __init__(self, root: str, max_bytes: int) -> None:
        self._root, self._max_bytes = Path(root).expanduser(), max_bytes
        self._lock = threading.Lock()
        self._untold = 0

    def read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, key: str, size: int) -> bool:
        try:
            return (self._root / key).stat().st_size == size
        except FileNotFoundError:
            return False

    def used(self, key: str) -> None:
        """Have the file count as asked for now."""
        with suppress(OSError):  # removed meanwhile, or somebody else's
            os.utime(self._root / key)

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            (self._root / key).unlink()

    def write(self, key: str, data: bytes) -> None:
        path = self._root / key
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)  # not synced: a note that survives a power cut without its bytes is found out
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._count(_on_disk(len(data)))

    def _count(self, size: int) -> None:
        with self._lock:
            self._untold += size
            if self._untold * _UNTOLD < self._max_bytes:
                return
            told, self._untold = self._untold, 0
        total = self._add(told)
        if total is None or total > _FULL * self._max_bytes:
            self.make_room()

    def _add(self, size: int) -> int | None:
        """Add to the sum of all processes and return it; None: it was not known."""
        with self._usage() as file:
            known = _number(file)
            _put(file, (known or 0) + size)
            return None if known is None else known + size

    def make_room(self) -> None:
        """Count the files and, if they are too many, remove those that were not asked for longest."""
        with self._sweeping() as mine:
            if not mine:
                return  # another process or thread is at it
            with self._usage() as file:
                before = _number(file) or 0
            left = self._sweep()
            with self._usage() as file:  # what was written meanwhile counts on top
                _put(file, left + max(0, (_number(file) or 0) - before))

    def _sweep(self) -> int:
        ages, sizes = array("d"), array("q")
        for path, info in self._files():
            if path.name.startswith(".") and info.st_mtime < time.time() - _LEFT_OVER_S:
                path.unlink(missing_ok=True)
                continue
            ages.append(info.st_mtime)
            sizes.append(_on_disk(info.st_size))
        total = sum(sizes)
        if total <= _FULL * self._max_bytes:
            return total
        last, excess = 0.0, total - _ROOMY * self._max_bytes
        for age, size in sorted(zip(ages, sizes, strict=True)):
            last = age
            excess -= size
            if excess <= 0:
                break
        for path, info in self._files():
            if info.st_mtime <= last and total > _ROOMY * self._max_bytes:
                path.unlink(missing_ok=True)
                total -= _on_disk(info.st_size)
        return total

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder in ("addresses", "pictures"):
            for place, _, names in os.walk(self._root / folder):
                for name in names:
                    path = Path(place, name)
                    with suppress(FileNotFoundError):
                        yield path, path.stat()

    @contextmanager
    def _usage(self) -> Iterator[Path]:
        with self._locked("usage.lock"):
            yield self._root / "usage"

    @contextmanager
    def _sweeping(self) -> Iterator[bool]:
        try:
            with self._locked("sweep.lock", blocking=False):
                yield True
        except Timeout:
            yield False

    def _locked(self, name: str, *, blocking: bool = True) -> FileLock:
        """A lock of its own for each caller, so that threads wait for each other as processes do."""
        return FileLock(self._root / name, blocking=blocking, mode=0o666)


def _on_disk(size: int) -> int:
    return max(1, -(-size // _BLOCK)) * _BLOCK


def _number(file: Path) -> int | None:
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


def _put(file: Path, value: int) -> None:
    file.write_bytes(str(value).encode())
