"""Downloading weights files: resumable, checked, atomic. One file at a time, standard library only.

A download goes to `<file>.part` and gets its name when it is whole and its checksum right. A file for which the
publisher gives no checksum has the one of its first download recorded in `<file>.sha256`.
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aistudio.config import WeightsFile
from aistudio.errors import WeightsError
from aistudio.models._files import expected_sha256, file_sha256, record_path

CHUNK = 1 << 20
TIMEOUT_S = 30.0  # longest silence of a server
TRIES = 4  # a cut connection is resumed this often in one call

Progress = Callable[[int, int | None], None]


def fetch_file(file: WeightsFile, progress: Progress | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """Have `file` on disk, and return its sha256; nothing is downloaded when the right file is there.

    Args:
        progress: called with bytes so far and bytes in all (None when the server does not say).

    Raises:
        WeightsError: no address, no way to reach it, cut off for good, or another file than expected.
    """
    path, expected = Path(file.path), expected_sha256(file)
    if path.is_file():
        return _accept(path, file, expected)
    if file.url is None:
        raise WeightsError(f"{path}: no address is known for this file; put it there by hand")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for left in reversed(range(TRIES)):
        before = _size(part)
        try:
            _download(file.url, part, progress, timeout_s)
            break
        except (OSError, http.client.HTTPException) as e:
            if isinstance(e, urllib.error.HTTPError):
                raise WeightsError(f"{file.url}: the server answered {e.code} {e.reason}") from None
            if left == 0 or _size(part) == before:  # no progress: trying on is of no use
                raise WeightsError(_unreachable(file, part, e)) from None
    found = _hash(part)
    if (expected and found != expected) or (file.size_bytes and _size(part) != file.size_bytes):
        part.unlink()
        raise WeightsError(
            f"{file.url}: what came is not the file expected (sha256 {found}, expected {expected or 'any'}; "
            f"expected size {file.size_bytes or 'any'}); it was deleted"
        )
    if not file.sha256:
        record_path(path).write_text(f"{found}  {path.name}\n", encoding="ascii")
    part.replace(path)
    return found


def _accept(path: Path, file: WeightsFile, expected: str | None) -> str:
    found = file_sha256(path)
    if expected and found != expected:
        raise WeightsError(f"{path}: sha256 is {found}, expected {expected}; delete it to fetch it again")
    if expected is None and file.url:  # a file of one's own may change
        record_path(path).write_text(f"{found}  {path.name}\n", encoding="ascii")
    return found


def _download(url: str, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """Append to `part` what is missing of `url`. Raises OSError or HTTPException when the connection is lost."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as e:
        if e.code == 416 and have and e.headers.get("Content-Range") == f"bytes */{have}":
            return  # whole already
        if e.code == 416:
            part.unlink()  # longer than the file: begin again next time
        raise
    with answer:
        resumed = answer.status == 206 and _starts_at(answer.headers.get("Content-Range"), have)
        have = have if resumed else 0
        total = _total(answer, have)
        with part.open("ab" if resumed else "wb") as f:
            while chunk := answer.read(CHUNK):
                f.write(chunk)
                have += len(chunk)
                if progress:
                    progress(have, total)
        if total is not None and have != total:
            raise OSError(f"the connection was cut after {have:,} of {total:,} bytes")


def _starts_at(content_range: str | None, have: int) -> bool:
    return content_range is not None and content_range.startswith(f"bytes {have}-")


def _total(answer: Any, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return have + int(length) if length and length.isdigit() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hash(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _unreachable(file: WeightsFile, part: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    have = _size(part)
    kept = f"; {have:,} bytes are kept in {part}, the same command goes on from there" if have else ""
    return (
        f"{file.url}: cannot be fetched ({reason}){kept}\n"
        f"  Without a network: download it elsewhere and put it at {file.path}"
    )
