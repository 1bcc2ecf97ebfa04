"""Local folders and S3 prefixes behind store.py. Every failure becomes a StoreError with one message."""

import contextlib
import errno
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.s3 import s3_client, split_s3_url


class Entry(NamedTuple):
    """One stored file."""

    key: str
    size: int  # bytes


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
        folder = self.root / prefix.rpartition("/")[0]
        try:
            for path in folder.rglob("*"):
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not path.name.startswith(".") and path.is_file():
                    yield Entry(key, path.stat().st_size)
        except OSError as e:
            raise _os_error(e, folder) from None

    def read(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def open(self, key: str) -> BinaryIO:
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
            if overwrite:
                temporary.replace(path)
            else:
                path.hardlink_to(temporary)  # unlike rename, fails when the name is taken
            _sync_folder(path.parent)
        except FileExistsError:
            return False
        except OSError as e:
            raise _os_error(e, path) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return True

    def delete(self, key: str) -> None:
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as e:
            raise _os_error(e, self.root / key) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _os_error(e: OSError, path: Path) -> StoreError:
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"{path}: no space left on the disk; what was stored stays valid")
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(f"{path}: no permission ({e.strerror})")
    return StoreError(f"{path}: {e.strerror or e}")


class S3Backend:
    """Objects below s3://bucket/prefix; retries on 5xx, SlowDown and time-outs are the client's."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root
        self.bucket, prefix = split_s3_url(root)
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        self.client: Any = s3_client(settings)

    def size(self, key: str) -> int | None:
        try:
            return int(self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ContentLength"])
        except ClientError as e:
            if e.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                return None
            raise self._error(e, key) from None
        except BotoCoreError as e:
            raise self._error(e, key) from None

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        try:
            for page in pages:
                for item in page.get("Contents", ()):
                    yield Entry(item["Key"][len(self.prefix) :], item["Size"])
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, prefix) from None

    def read(self, key: str) -> bytes:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def open(self, key: str) -> BinaryIO:
        size = self.size(key)
        if size is None:
            raise StoreError(f"{self.root}/{key}: No such key")
        return io.BufferedReader(_RangeReader(self, key, size), 1 << 16)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        try:
            bounds = f"bytes={start}-{stop - 1}"
            return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, Range=bounds)["Body"].read()
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        try:
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
        except ClientError as e:
            if not overwrite and e.response["Error"]["Code"] in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            raise self._error(e, key) from None
        except BotoCoreError as e:
            raise self._error(e, key) from None
        return True

    def delete(self, key: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except (ClientError, BotoCoreError) as e:
            raise self._error(e, key) from None

    def _error(self, e: Exception, key: str) -> StoreError:
        return StoreError(f"{self.root}/{key}: {e}")


class _RangeReader(io.RawIOBase):
    """Random access to one object, so that Parquet reads only the columns it needs."""

    def __init__(self, backend: S3Backend, key: str, size: int) -> None:
        self._backend, self._key, self._size, self._position = backend, key, size, 0

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
        data = self._backend.read_range(self._key, self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
