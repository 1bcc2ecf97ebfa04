"""Local folders and S3 prefixes behind store.py. Every failure becomes a StoreError with one message."""

import contextlib
import errno
import io
import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from aistudio.config import StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.s3 import s3_client, split_s3_url


class Entry(NamedTuple):
    """One stored file."""

    key: str
    size: int  # bytes
    etag: str = ""  # of an object on S3, in its quotes


class LocalBackend:
    """A folder. Names that start with a dot are unfinished writes and are never listed."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def list(self, prefix: str) -> Iterator[Entry]:
        for path in self._files(self.root / prefix.rpartition("/")[0]):
            key = path.relative_to(self.root).as_posix()
            if not key.startswith(prefix) or path.name.startswith("."):
                continue
            try:
                yield Entry(key, path.stat().st_size)
            except FileNotFoundError:
                continue  # deleted since the folder was read
            except OSError as e:
                raise _os_error(e, path) from None

    def _files(self, folder: Path) -> Iterator[Path]:
        def fail(e: OSError) -> NoReturn:
            raise e  # a folder that cannot be read must not look empty: finished shards would be scored again

        try:
            for place, _, names in os.walk(folder, onerror=fail):
                yield from (Path(place, name) for name in names)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as e:
            raise _os_error(e, folder) from None

    def sweep(self, prefix: str) -> None:
        for path in self._files(self.root / prefix):
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                with contextlib.suppress(OSError):  # somebody else's rubbish is no reason to stop
                    path.unlink()

    def read(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def open(self, key: str, etag: str) -> BinaryIO:
        try:
            return (self.root / key).open("rb")
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        path = self.root / key
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            written = _publish(temporary, path, overwrite)
            _sync_folder(path.parent)
        except OSError as e:
            raise _os_error(e, path) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return written

    def delete(self, key: str) -> None:
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as e:
            raise _os_error(e, self.root / key) from None


# What file systems and FUSE drivers answer that cannot sync a folder, or not open one for it (SMB, 9p, some of FUSE).
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR})


def _publish(temporary: Path, path: Path, overwrite: bool) -> bool:
    if overwrite:
        temporary.replace(path)
        return True
    try:
        path.hardlink_to(temporary)  # unlike rename, fails when the name is taken
    except FileExistsError:
        return False
    except OSError as e:
        if e.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise StoreError(
                f"{path.parent}: this file system has no hard links, which whole-or-absent files need here; "
                "choose an output on a local disk or on S3"
            ) from None
        raise
    return True


def _sync_folder(folder: Path) -> None:
    """Have the names in `folder` survive a power cut, where its file system can; EIO and ENOSPC still count."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as e:
        if e.errno not in _NO_FOLDER_SYNC:
            raise


def _os_error(e: OSError, path: Path) -> StoreError:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"{path}: no space left on the disk; what was stored stays valid")
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(f"{path}: no permission ({e.strerror})")
    return StoreError(f"{path}: {e.strerror or e}")


_PRECONDITION = ("PreconditionFailed", "412")


class S3Backend:
    """Objects below s3://bucket/prefix; retries on 5xx, SlowDown and time-outs are the client's."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root
        self.retries = settings.retries
        self.bucket, prefix = split_s3_url(root)
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        self.client: Any = s3_client(settings)

    def size(self, key: str) -> int | None:
        entry = self._entry(key)
        return None if entry is None else entry.size

    def _entry(self, key: str) -> Entry | None:
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            return Entry(key, int(head["ContentLength"]), head.get("ETag", ""))
        except ClientError as e:
            if _code(e) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise self._error(e, key) from None
        except BotoCoreError as e:
            raise self._error(e, key) from None

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        try:
            for page in pages:
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"][len(self.prefix) :], item["Size"], item.get("ETag", ""))
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, prefix) from None

    def sweep(self, prefix: str) -> None:
        """Nothing to do: one PUT leaves nothing unfinished behind."""

    def read(self, key: str) -> bytes:
        return self._get(key)

    def open(self, key: str, etag: str) -> BinaryIO:
        entry = self._entry(key)
        if entry is None:
            raise StoreError(f"{self.root}/{key}: No such key")
        if etag and entry.etag and entry.etag != etag:
            raise ChangedError(f"{self.root}/{key}: another object by now, of {entry.size:,} bytes")
        return io.BufferedReader(_RangeReader(self, entry), 1 << 16)

    def read_range(self, entry: Entry, start: int, stop: int) -> bytes:
        condition = {"IfMatch": entry.etag} if entry.etag else {}
        return self._get(entry.key, Range=f"bytes={start}-{stop - 1}", **condition)

    def _get(self, key: str, **arguments: str) -> bytes:
        for attempt in range(self.retries + 1):
            try:
                body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **arguments)["Body"]
            except (ClientError, BotoCoreError) as e:
                if isinstance(e, ClientError) and _code(e) in _PRECONDITION:
                    raise ChangedError(f"{self.root}/{key}: replaced while it was being read") from None
                raise self._error(e, key) from None
            try:
                return bytes(body.read())
            except BotoCoreError as e:  # the client's own retries end with the answer's headers
                if attempt == self.retries:
                    raise self._error(e, key) from None
            _pause(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        for attempt in range(self.retries + 1):
            try:
                self._put(key, data, {} if overwrite else {"IfNoneMatch": "*"})
                return True
            except ClientError as e:
                code = "" if overwrite else _code(e)
                if code in _PRECONDITION:
                    return False
                if code in ("NotImplemented", "501"):
                    return self._write_unconditionally(key, data)
                # Another writer is at it: only the next answer tells whether it won.
                if code not in ("ConditionalRequestConflict", "409") or attempt == self.retries:
                    raise self._error(e, key) from None
            except BotoCoreError as e:
                raise self._error(e, key) from None
            _pause(attempt)
        raise AssertionError("unreachable: the last try returns or raises")

    def _write_unconditionally(self, key: str, data: bytes) -> bool:
        """For stores without conditional writes: two writers at the same moment both write, the last one stays."""
        return False if self.size(key) is not None else self.write(key, data, overwrite=True)

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)

    def delete(self, key: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def _error(self, e: Exception, key: str) -> StoreError:
        return StoreError(f"{self.root}/{key}: {e}")


def _code(e: ClientError) -> str:
    return str(e.response["Error"]["Code"])


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, min(5.0, 0.1 * 2**attempt)))


class _RangeReader(io.RawIOBase):
    """Random access to one object, so that Parquet reads only the columns it needs; every read is of the same one."""

    def __init__(self, backend: S3Backend, entry: Entry) -> None:
        self._backend, self._entry, self._size, self._position = backend, entry, entry.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._backend.read_range(self._entry, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
