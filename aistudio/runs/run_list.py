"""The runs in a folder or below a bucket's prefix: what they are, how large, how old; and the removal of old ones."""

import contextlib
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aistudio.errors import RunMismatchError, StoreError
from aistudio.runs import layout
from aistudio.runs.record import recorded
from aistudio.store import Store, open_store

_OURS = (*layout.EMPTIED, layout.ATTEMPTS)


class Found(NamedTuple):
    """One run."""

    path: str
    state: str  # of run.json; "unreadable" where that is damaged or of a later version
    rows: int | None  # of the manifest
    num_files: int
    num_bytes: int
    changed_at: datetime | None  # when its last attempt ended, else began; None: not known

    def age_days(self, now: datetime) -> float | None:
        """Days since it changed, None where that is not known."""
        return None if self.changed_at is None else (now - self.changed_at).total_seconds() / 86_400


def list_runs(store: Store) -> list[Found]:
    """Find the runs that lie in a place, at any depth, oldest first; a run within a run is a part of that.

    Raises:
        StoreError: the place cannot be listed.
    """
    entries = store.list("")
    roots: set[str] = set()  # with a slash at the end, "" for the place itself
    for key in sorted((e.key for e in entries if f"/{e.key}".endswith(f"/{layout.RUN}")), key=len):
        root = key.removesuffix(layout.RUN)
        if _root_of(key, roots) is None:
            roots.add(root)
    sizes: dict[str | None, list[int]] = defaultdict(list)
    for entry in entries:
        sizes[_root_of(entry.key, roots)].append(entry.size)
    found = [_look_at(store, root, sizes[root]) for root in roots]
    unknown = datetime.max.replace(tzinfo=UTC)  # last
    return sorted(found, key=lambda r: (r.changed_at or unknown, r.path))


def _root_of(key: str, roots: set[str]) -> str | None:
    """Which of the runs a file belongs to."""
    *folders, _ = key.split("/")
    places = ["/".join(folders[:n]) + "/" if n else "" for n in range(len(folders) + 1)]
    return next((place for place in places if place in roots), None)


def _look_at(store: Store, root: str, sizes: list[int]) -> Found:
    path = store.path(root).rstrip("/") if root else store.root
    try:
        record = recorded(open_store(path, store.settings))
    except (StoreError, RunMismatchError):
        return Found(path, "unreadable", None, len(sizes), sum(sizes), None)
    at = _time(record.finished_at) or _time(record.started_at)
    return Found(path, record.state, record.rows.manifest, len(sizes), sum(sizes), at)


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def old_runs(runs: list[Found], days: float, now: datetime) -> list[Found]:
    """Return the runs unchanged for `days` days; never one that is running, unreadable or of unknown age."""
    return [
        run for run in runs
        if run.state not in ("running", "unreadable") and (age := run.age_days(now)) is not None and age >= days
    ]  # fmt: skip


def remove_run(store: Store) -> list[str]:
    """Remove a run's files, run.json last, so that what is cut off midway is still known as a run.

    Returns:
        keys of other files that lie in its folder and stay.

    Raises:
        StoreError: a file cannot be removed.
    """
    for prefix in (*(p for p in _OURS if p != layout.RUN), layout.RUN):
        for entry in store.list(prefix):
            store.delete(entry.key)
    left = [e.key for e in store.list("")]
    if store.is_local:
        _remove_empty(Path(store.root))
    return left


def _remove_empty(folder: Path) -> None:
    """Remove folders that hold nothing."""
    for place in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            place.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()
