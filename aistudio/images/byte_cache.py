"""Bytes of pictures that were fetched before, in a folder or a bucket that runs and processes share.

An address leads to a note (`addresses/`: what the server said, the sha256 of the bytes), the note to the bytes
(`pictures/`, named by their sha256, so equal pictures are kept once). Names are checksums: no address, and no secret of
one, can be read from them. Whatever is not as it should be counts as absent, and nothing in here raises: a cache that
cannot be read or written costs a download, never a row.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.errors import StoreError
from aistudio.images._cache_bucket import BucketPlace
from aistudio.images._cache_folder import FolderPlace
from aistudio.images._sniff import image_format
from aistudio.images.urls import Target
from aistudio.places import in_bucket
from aistudio.storable import error_text

_VERSION = 1  # of notes and of what a name is made from
LARGEST = 1 / 16  # of cache_max_bytes: a larger picture would push out too much
_FAILURES = 3  # in a row, after which the cache is left alone for a while
_REST_S = 60.0

_T = TypeVar("_T")


class Kept(NamedTuple):
    """A picture as it was fetched."""

    body: bytes
    http_status: int | None
    final_url: str | None  # where it came from, if not from its address; without secrets
    etag: str | None
    last_modified: str | None
    fetched_at: float  # seconds since 1970; or when its server last said that it is still the same


class Place(Protocol):
    """Where the files lie. `read` is None for a file that is not there; all raise OSError or StoreError."""

    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, data: bytes) -> None: ...
    def has(self, key: str, size: int) -> bool: ...
    def used(self, key: str) -> None: ...
    def delete(self, key: str) -> None: ...


def name_of(target: Target, settings: DownloadSettings) -> str | None:
    """Return the name of what is fetched from a target with these settings; None where nothing is kept: local files.

    Other header fields may bring other bytes. What was fetched with private addresses allowed is not for a run that
    refuses them.
    """
    if target.url is not None:
        address = str(target.url)
    elif target.object is not None:
        address = f"{target.scheme}://{'/'.join(target.object)}"
    else:
        return None
    fields = sorted((name.lower(), value) for name, value in settings.headers.items())
    what = [_VERSION, address, fields, settings.user_agent, settings.allow_private_addresses]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


class ByteCache:
    """Reads and writes a cache; any number of threads and processes may."""

    def __init__(self, settings: DownloadSettings, store: StoreSettings) -> None:
        """`settings.cache` must be set. Nothing is opened yet."""
        assert settings.cache is not None
        self._largest = int(settings.cache_max_bytes * LARGEST)
        self._place: Place = (
            BucketPlace(settings.cache, store, settings.cache_max_bytes)
            if in_bucket(settings.cache)
            else FolderPlace(settings.cache, settings.cache_max_bytes)
        )
        self._lock = threading.Lock()
        self._failures = {"read": 0, "write": 0}  # in a row
        self._rest_until = {"read": 0.0, "write": 0.0}  # a cache may be readable and not writable
        self.problem: str | None = None  # the last one

    def find(self, name: str, max_bytes: int) -> Kept | None:
        """Return the picture of a name; None where there is none, it is damaged or has more than `max_bytes`."""
        return self._guarded("read", lambda: self._find(name, max_bytes), None)

    def keep(self, name: str, picture: Kept) -> bool:
        """Keep a picture. False: it could not be written (`problem` says why). What is no picture is not kept."""
        if len(picture.body) > self._largest or image_format(picture.body) is None:
            return True
        return self._guarded("write", lambda: self._keep(name, picture), False)

    def _find(self, name: str, max_bytes: int) -> Kept | None:
        note = self._note(name)
        if note is None or note["size"] > max_bytes:
            return None
        key = _picture_key(note["sha256"])
        body = self._place.read(key)
        if body is None:
            return None
        if len(body) != note["size"] or hashlib.sha256(body).hexdigest() != note["sha256"]:
            self._place.delete(key)  # a process or a machine that died while it wrote, or a faulty disk
            return None
        self._place.used(key)
        self._place.used(_note_key(name))
        return Kept(body, *(note[field] for field in Kept._fields[1:]))

    def _note(self, name: str) -> dict[str, Any] | None:
        data = self._place.read(_note_key(name))
        if data is None:
            return None
        note = _unpacked(data)
        if note is None:
            self._place.delete(_note_key(name))
        return note

    def _keep(self, name: str, picture: Kept) -> bool:
        checksum = hashlib.sha256(picture.body).hexdigest()
        key = _picture_key(checksum)
        if self._place.has(key, len(picture.body)):
            self._place.used(key)
        else:
            self._place.write(key, picture.body)
        note = {"version": _VERSION, "sha256": checksum, "size": len(picture.body)}
        note |= {field: getattr(picture, field) for field in Kept._fields[1:]}
        self._place.write(_note_key(name), _packed(note))
        return True

    def _guarded(self, kind: str, work: Callable[[], _T], failed: _T) -> _T:
        with self._lock:
            if time.monotonic() < self._rest_until[kind]:
                return failed
        try:
            found = work()
        except (OSError, StoreError, ValueError) as e:
            with self._lock:
                self.problem = error_text(e, 300)
                self._failures[kind] += 1
                if self._failures[kind] >= _FAILURES:  # each picture would wait for time-outs
                    self._failures[kind], self._rest_until[kind] = 0, time.monotonic() + _REST_S
            return failed
        with self._lock:
            self._failures[kind] = 0
        return found


def _note_key(name: str) -> str:
    return f"addresses/{name[:2]}/{name}.json"


def _picture_key(checksum: str) -> str:
    return f"pictures/{checksum[:2]}/{checksum}"


def _packed(note: dict[str, Any]) -> bytes:
    """A note as the bytes of a file: its checksum, a line feed, JSON."""
    text = json.dumps(note).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _unpacked(data: bytes) -> dict[str, Any] | None:
    """Read what `_packed` made; None for anything else."""
    checksum, _, text = data.partition(b"\n")
    if checksum != hashlib.sha256(text).hexdigest().encode():
        return None
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return note if _is_note(note) else None


def _is_note(note: object) -> bool:
    """Whether data have the form of a note: another version may have written there."""
    if not isinstance(note, dict) or note.get("version") != _VERSION:
        return False
    texts = all(isinstance(note.get(k), str | None) for k in ("final_url", "etag", "last_modified"))
    numbers = isinstance(note.get("size"), int) and isinstance(note.get("fetched_at"), int | float)
    checksum = note.get("sha256")
    hexadecimal = isinstance(checksum, str) and len(checksum) == 64 and set(checksum) <= set("0123456789abcdef")
    return texts and numbers and hexadecimal and isinstance(note.get("http_status"), int | None)
