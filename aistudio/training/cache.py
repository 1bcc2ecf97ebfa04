"""The folder of prepared training data on this machine: locked while in use, bounded, the oldest removed first."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from aistudio.config.train_data import DataSettings
from aistudio.errors import ConfigError, StoreError

INDEX = "index.json"  # written last: a data set without it is unfinished
BUILT = ".building"  # end of a lock file: held by who makes a data set, and for a moment by who begins to read it
USED = ".used"  # end of the lock files of its readers, each of which holds one of its own


def cache_root(settings: DataSettings) -> Path:
    """Return the folder of all data sets: data.cache, $AISTUDIO_CACHE/training, ~/.cache/aistudio/training."""
    if settings.cache:
        return Path(settings.cache).expanduser()
    base = os.environ.get("AISTUDIO_CACHE")
    return (Path(base) if base else Path("~/.cache/aistudio").expanduser()) / "training"


class Cache:
    """Data sets below one folder, each under the fingerprint of what it was made from."""

    def __init__(self, settings: DataSettings) -> None:
        self.root, self._max_bytes = cache_root(settings), int(settings.cache_max_gb * 1e9)
        self._held: list[BaseFileLock] = []

    def folder(self, fingerprint: str) -> Path:
        """Return where a data set lies, or will lie."""
        return self.root / fingerprint[:32]

    @contextlib.contextmanager
    def building(self, fingerprint: str) -> Iterator[Path | None]:
        """Hold the data set's lock for the block; yields its emptied folder, or None when another finished it first.

        Raises:
            StoreError: the folder cannot be made.
        """
        folder = self.folder(fingerprint)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_suffix(BUILT)).acquire()
        except OSError as e:
            raise StoreError(f"{self.root}: cannot be written: {e.strerror or e}; set data.cache") from None
        with lock:
            if (folder / INDEX).is_file():
                yield None
                return
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder

    def use(self, fingerprint: str) -> Path:
        """Keep a data set from being removed as long as this process lives; returns its folder."""
        folder = self.folder(fingerprint)
        own = FileLock(folder.with_suffix(f".{uuid.uuid4().hex}{USED}"))
        with FileLock(folder.with_suffix(BUILT)):  # nobody removes it now
            own.acquire()
        self._held.append(own)
        with contextlib.suppress(OSError):
            os.utime(folder)  # newest now
        return folder

    def close(self) -> None:
        """Let go of every data set."""
        for lock in self._held:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
        self._held.clear()

    def make_room(self, building: Path) -> None:
        """Remove data sets that nobody uses, oldest first, until all of them are below data.cache_max_gb.

        Raises:
            ConfigError: what is in use alone is larger.
        """
        sizes = {folder: _size(folder) for folder in self.root.iterdir() if folder.with_suffix(BUILT).is_file()}
        total = sum(sizes.values())
        for folder in sorted(sizes, key=lambda f: f.stat().st_mtime):
            if total <= self._max_bytes:
                return
            if folder != building and _remove_unused(folder):
                total -= sizes[folder]
        if total > self._max_bytes:
            raise ConfigError(
                f"{self.root}: the data sets in use take {total / 1e9:.1f} GB, more than data.cache_max_gb "
                f"({self._max_bytes / 1e9:g}); raise it, set data.cache to a larger disk or data.cache_px to less"
            )


def _remove_unused(folder: Path) -> bool:
    """Remove a data set unless it is in use or in the making."""
    try:
        with FileLock(folder.with_suffix(BUILT)).acquire(timeout=0):
            for path in folder.parent.glob(f"{folder.name}.*{USED}"):
                with FileLock(path).acquire(timeout=0):  # free where its reader has ended without a word
                    path.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except (Timeout, OSError):
        return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed since the folder was listed
            total += path.stat().st_size
    return total
