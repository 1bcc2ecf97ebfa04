"""Local folders behind store.py, and what every kind of place gives. Every failure becomes a StoreError."""

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, Protocol

from aistudio.errors import StoreError


class Entry(NamedTuple):
    """One stored file."""

    key: str
    size: int  # bytes
    etag: str = ""  # of an object in a bucket, in its quotes


class Ranges(Protocol):
    """Bytes of one file, read by several threads at once. `read` gives fewer than asked for at the end alone."""

    size: int  # bytes

    def read(self, start: int, stop: int) -> bytes: ...


class Backend(Protocol):
    """What store.py asks of a place. Keys are relative to the place's root; `sweep` removes unfinished writes."""

    def size(self, key: str) -> int | None: ...
    def list(self, prefix: str) -> Iterator[Entry]: ...
    def sweep(self, prefix: str) -> None: ...
    def read(self, key: str) -> bytes: ...
    def open(self, key: str, etag: str, buffer_bytes: int) -> BinaryIO: ...
    def ranges(self, key: str) -> Ranges | None: ...
    def write(self, key: str, data: bytes, overwrite: bool) -> bool: ...
    def write_file(self, key: str, stream: BinaryIO) -> None: ...
    def delete(self, key: str) -> None: ...


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
                with contextlib.suppress(OSError):  # a foreign file that cannot be removed is no reason to stop
                    path.unlink()

    def read(self, key: str) -> bytes:
        try:
            return (self.root / key).read_bytes()
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def open(self, key: str, etag: str, buffer_bytes: int) -> BinaryIO:
        try:
            return (self.root / key).open("rb")
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def ranges(self, key: str) -> "LocalRanges | None":
        try:
            return LocalRanges(self.root / key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise _os_error(e, self.root / key) from None

    def write(self, key: str, data: bytes, overwrite: bool) -> bool:
        return self._written(key, lambda f: f.write(data), overwrite)

    def write_file(self, key: str, stream: BinaryIO) -> None:
        self._written(key, lambda f: shutil.copyfileobj(stream, f, 1 << 20), True)

    def _written(self, key: str, fill: Callable[[BinaryIO], object], overwrite: bool) -> bool:
        path = self.root / key
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as f:
                fill(f)
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


class LocalRanges:
    """Ranges of a local file, which stays open as long as this lives."""

    def __init__(self, path: Path) -> None:
        """Raises OSError: not there, not a regular file."""
        # O_NONBLOCK: opening a FIFO would otherwise wait for its writer for ever.
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        info = os.fstat(self._fd)
        self.path, self.size = path, info.st_size
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._fd)

    def read(self, start: int, stop: int) -> bytes:
        parts: list[bytes] = []
        try:
            while start < stop and (part := os.pread(self._fd, stop - start, start)):
                parts.append(part)
                start += len(part)
        except OSError as e:
            raise _os_error(e, self.path) from None
        return b"".join(parts)


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
