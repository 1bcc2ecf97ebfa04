"""An export into a bucket: made and checked on this machine, then sent as whole files, export.json last.

Libraries write local paths, and nothing is ever moved in a bucket. Who finds export.json there finds an export that was
read back: each object's checksum is that of the local file which the format's own library was compared with. Until
then `export.unfinished.json` says that somebody is at it, or was.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from aistudio.errors import ConfigError, StoreError
from aistudio.exports.place import ABOUT
from aistudio.store import Store

UNFINISHED = "export.unfinished.json"
_PIECE_BYTES = 1 << 20


def require_free(store: Store, run: str, *, overwrite: bool) -> None:
    """Refuse a prefix that must not be written.

    Raises:
        ConfigError: it lies in the run, or around it; something is there already.
        StoreError: the bucket cannot be listed.
    """
    root, own = f"{store.root}/", f"{run.rstrip('/')}/"
    if root.startswith(own) or own.startswith(root):
        raise ConfigError(f"--out {store.root}: lies in the run {run}, or around it; name a place elsewhere")
    keys = {entry.key for entry in store.list("")}
    if not keys:
        return
    if not overwrite:
        what = "an export that did not end is there" if UNFINISHED in keys else "there already"
        raise ConfigError(f"--out {store.root}: {what}; name another place, or say --overwrite")
    if not keys & {ABOUT, UNFINISHED}:
        raise ConfigError(f"--out {store.root}: --overwrite replaces an export alone, and this is none (no {ABOUT})")


@contextlib.contextmanager
def new_objects(store: Store, run: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder of this machine that becomes the objects below the store's root at the end.

    Up to there nothing in the bucket changes. An error while they are sent leaves a prefix without export.json.

    Raises:
        StoreError: no room for the folder, sending failed, another object came back, somebody else exports there.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="aistudio-export-") as folder:
            yield Path(folder)
            require_free(store, run, overwrite=overwrite)  # the export may have taken hours
            _publish(Path(folder), store, overwrite=overwrite)
    except OSError as e:
        raise StoreError(f"{tempfile.gettempdir()}: {e.strerror or e}; TMPDIR names another place") from None


def _publish(folder: Path, store: Store, *, overwrite: bool) -> None:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    note: dict[str, Any] = {"began_at": datetime.now(UTC).isoformat(timespec="seconds"), "id": os.urandom(8).hex()}
    if overwrite:
        store.delete(UNFINISHED)
    if not store.write_json(UNFINISHED, note, overwrite=False):
        raise StoreError(f"{store.root}: another export is being written there")
    try:
        store.delete(ABOUT)
        for entry in store.list(""):
            if entry.key not in (UNFINISHED, *files):
                store.delete(entry.key)  # of the export that is replaced
        for key in sorted(files.keys() - {ABOUT}):
            _send(files[key], store, key)
        found = {entry.key: entry.size for entry in store.list("") if entry.key != UNFINISHED}
        sent = {key: path.stat().st_size for key, path in files.items() if key != ABOUT}
        if found != sent or store.read_json(UNFINISHED) != note:
            raise StoreError(f"{store.root}: other objects are there than were sent; somebody else writes there")
        _send(files[ABOUT], store, ABOUT)
    except StoreError as e:
        raise StoreError(f"{e}; there is no whole export now: {store.root} has no {ABOUT}") from None
    store.delete(UNFINISHED)


def _send(path: Path, store: Store, key: str) -> None:
    """Send a file and read it back."""
    with path.open("rb") as f:
        store.write_file(key, f)
        f.seek(0)
        sent = _sha256(f)
    with store.open(key, buffer_bytes=8 * _PIECE_BYTES) as f:
        if _sha256(f) != sent:
            store.delete(ABOUT)
            raise StoreError(f"{store.path(key)}: was read back as another file than was sent")


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := stream.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
