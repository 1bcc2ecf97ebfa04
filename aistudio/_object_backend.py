"""Google Cloud Storage and Azure behind store.py, by obstore. Every failure becomes a StoreError with one message."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import obstore
from obstore.exceptions import BaseError

from aistudio._backends import Entry
from aistudio._ranges import NOT_CONDITIONAL, Bucket, pause
from aistudio.config import StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.objects import Failure, object_store, quoted, read_failure, refuse_key, split_object_url

SLOWEST_UPLOAD = 1_000_000  # bytes a second: the answer to a PUT is waited for as long as the body may take
_ONE_PUT_BYTES = 64 << 20  # of a file, which is held in memory while it is sent; larger ones are sent in blocks
_ERRORS = (BaseError, OSError, ValueError)


class ObjectBackend(Bucket):
    """Objects below gs://bucket/prefix or az://container/prefix."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root
        self.settings = settings
        self.scheme, self.bucket, prefix = split_object_url(root)
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        if self.prefix:
            try:
                refuse_key(self.prefix[:-1])
            except ValueError as e:
                raise StoreError(f"{root}: {e}") from None
        self.client = object_store(self.scheme, self.bucket, settings)

    def _entry(self, key: str) -> Entry | None:
        try:
            return _entry(obstore.head(self.client, self._name(key)), key)
        except _ERRORS as e:
            failure = read_failure(e)
            if failure.kind == "missing":
                return None
            raise self._error(failure, key) from None

    def _name(self, key: str) -> str:
        refuse_key(key)
        return self.prefix + key

    def list(self, prefix: str) -> Iterator[Entry]:
        for attempt in range(self.settings.retries + 1):
            try:
                return iter([*self._walk(self.prefix + prefix)])
            except _ERRORS as e:
                failure = read_failure(e)
                if failure.kind != "lost" or failure.retried or attempt == self.settings.retries:
                    raise self._error(failure, prefix) from None
            pause(attempt)  # a page that broke off, which obstore does not ask for again
        raise AssertionError("unreachable: the last try returns or raises")

    def _walk(self, start: str) -> Iterator[Entry]:
        """Objects whose name begins with `start`; obstore's own prefixes end at slashes."""
        folder, _, begun = start.rpartition("/")
        if not begun:
            yield from self._below(folder)
            return
        found = obstore.list_with_delimiter(self.client, folder or None)
        yield from (self._listed(m) for m in found["objects"] if m["path"].startswith(start))
        for below in found["common_prefixes"]:
            if below.startswith(start):
                yield from self._below(below)

    def _below(self, folder: str) -> Iterator[Entry]:
        for chunk in obstore.list(self.client, folder or None):
            yield from map(self._listed, chunk)

    def _listed(self, meta: Any) -> Entry:
        return _entry(meta, meta["path"][len(self.prefix) :])

    def read(self, key: str) -> bytes:
        return self._get(key)

    def read_range(self, entry: Entry, start: int, stop: int) -> bytes:
        options: Any = {"range": (start, stop), **({"if_match": entry.etag} if entry.etag else {})}
        data = self._get(entry.key, options)
        if len(data) != stop - start:
            raise StoreError(f"{self.root}/{entry.key}: {len(data):,} bytes came of {stop - start:,} asked for")
        return data

    def _get(self, key: str, options: Any = None) -> bytes:
        try:  # obstore asks again by itself, for a body that breaks off too
            return bytes(obstore.get(self.client, self._name(key), options=options).bytes())
        except _ERRORS as e:
            failure = read_failure(e)
            if failure.kind == "condition":
                raise ChangedError(f"{self.root}/{key}: replaced while it was being read") from None
            raise self._error(failure, key) from None

    def write_file(self, key: str, stream: BinaryIO) -> None:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        if size <= _ONE_PUT_BYTES:
            self.write(key, stream.read(), overwrite=True)
            return
        try:  # in blocks, which become the object at the end
            obstore.put(self._client_for(size), self._name(key), stream, use_multipart=True)
        except _ERRORS as e:
            raise self._error(read_failure(e), key) from None

    def _client_for(self, size: int) -> Any:
        """The client, or one that waits for as long as sending so many bytes may take."""
        if size <= SLOWEST_UPLOAD * self.settings.timeout_s:
            return self.client
        return object_store(self.scheme, self.bucket, self.settings, self.settings.timeout_s + size / SLOWEST_UPLOAD)

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        client = self._client_for(len(data))
        for attempt in range(self.settings.retries + 1):
            try:
                self._put(client, key, data, "overwrite" if overwrite else "create")
                return True
            except _ERRORS as e:
                failure = read_failure(e)
                if failure.http_status == 501 and not overwrite:
                    raise StoreError(f"{self.root}/{key}: {NOT_CONDITIONAL}") from None
                # obstore says `exists` to a conflict (409) too, after which nothing may be there.
                again = ("exists",) if overwrite else ("exists", "condition", "timeout", "lost")
                if not overwrite and failure.kind in ("exists", "condition") and self.size(key) is not None:
                    return False
                if failure.kind not in again or attempt == self.settings.retries:
                    raise self._error(failure, key) from None
            pause(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def _put(self, client: Any, key: str, data: bytes, mode: Any) -> None:
        obstore.put(client, self._name(key), data, mode=mode, use_multipart=False)  # one PUT: whole or absent

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self.client, self._name(key))
        except _ERRORS as e:
            failure = read_failure(e)
            if failure.kind != "missing":
                raise self._error(failure, key) from None

    def _error(self, failure: Failure, key: str) -> StoreError:
        return StoreError(f"{self.root}/{key}: {failure.text}")


def _entry(meta: Any, key: str) -> Entry:
    return Entry(key, int(meta["size"]), quoted(meta["e_tag"]))
