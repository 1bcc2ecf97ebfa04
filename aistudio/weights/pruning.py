"""Makes a node's cache of weights smaller: whole files that no run has used for a while, and what belongs to them."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

DAY_S = 86_400.0
STALE_PART_S = DAY_S  # an unfinished download that nobody has gone on with


class Pruned(NamedTuple):
    """One thing that was removed, or would be."""

    path: Path
    num_bytes: int
    why: str


def mark_used(folder: Path, sha256: str) -> None:
    """Note that a run has used a whole file of the cache now; a cache that cannot be written is left alone."""
    with suppress(OSError):
        mark = folder / "used" / sha256
        mark.parent.mkdir(exist_ok=True)
        mark.touch()


def prune(folder: Path, days: float, *, dry_run: bool = False) -> list[Pruned]:
    """Remove whole files unused for `days`, downloads given up a day ago, and links and records of what is gone.

    A file that another process is fetching is left alone. Safe while no run is at work; a run that starts later
    fetches again what it needs.
    """
    now, removed = time.time(), list[Pruned]()
    gone: set[str] = set()
    for blob in _files(folder / "blobs"):
        age_s = now - max(_mtime(blob), _mtime(folder / "used" / blob.name))
        why = f"not used for {age_s / DAY_S:.0f} days"
        if age_s >= days * DAY_S and (taken := _remove(folder, blob, why, dry_run)):
            removed.append(taken)
            gone.add(blob.name)
    for part in _files(folder / "parts"):
        if now - _mtime(part) >= STALE_PART_S and (taken := _remove(folder, part, "an unfinished download", dry_run)):
            removed.append(taken)
    if not dry_run:
        _forget(folder, gone)
    return removed


def _remove(folder: Path, path: Path, why: str, dry_run: bool) -> Pruned | None:
    """Remove a file unless its lock is held or it cannot be removed."""
    with _unlocked(folder / "locks" / path.name.partition(".")[0]) as free:
        if not free:
            return None
        try:
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
        except OSError:
            return None
        return Pruned(path, size, why)


@contextmanager
def _unlocked(lock: Path) -> Iterator[bool]:
    """Hold a file's lock for the block, where nobody else does."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    with held:
        yield True


def _forget(folder: Path, gone: set[str]) -> None:
    """Remove marks and addresses of files that are gone, and folders of links to them."""
    for mark in _files(folder / "used"):
        if not (folder / "blobs" / mark.name).exists():
            mark.unlink(missing_ok=True)
    for record in _files(folder / "addresses"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(record.read_text(encoding="utf-8"))["sha256"] in gone:
                record.unlink()
    with suppress(OSError):
        for view in (folder / "views").iterdir():
            if view.is_dir() and any(not link.exists() for link in view.iterdir()):
                shutil.rmtree(view, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # none yet
        return []


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
