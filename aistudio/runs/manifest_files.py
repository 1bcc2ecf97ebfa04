"""Manifest files: finding and opening them, local, S3 or HTTP. What is in them is the catalogue's business."""

import difflib
import fnmatch
import glob
import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from aistudio.catalogue import MANIFEST_SUFFIXES
from aistudio.config import ManifestSettings, StoreSettings
from aistudio.errors import ManifestError, StoreError
from aistudio.store import open_store

_HTTP_TIMEOUT_S = 60.0


class InputFile(NamedTuple):
    """One manifest file. `version` changes when the content may have changed (mtime, ETag)."""

    path: str
    size: int  # bytes; -1 when a server does not tell
    version: str


def list_inputs(settings: ManifestSettings, store: StoreSettings) -> list[InputFile]:
    """The manifest's files in a fixed order (sorted by path within each pattern).

    Raises:
        ManifestError: a path that matches nothing, naming what was looked for.
    """
    patterns = [settings.path] if isinstance(settings.path, str) else settings.path
    files: list[InputFile] = []
    for pattern in patterns:
        if pattern.startswith(("http://", "https://")):
            found = [_http_file(pattern)]
        elif pattern.startswith("s3://"):
            found = _s3_files(pattern, settings.format, store)
        else:
            found = _local_files(pattern, settings.format)
        if not found:
            raise ManifestError(f"manifest.path: {pattern}: no {settings.format} manifest files there")
        files += found
    return files


def list_images(settings: ManifestSettings, store: StoreSettings) -> tuple[str, list[str]]:
    """Root and sorted file paths of a `folder` manifest. Raises ManifestError when it does not exist."""
    if not isinstance(settings.path, str):
        raise ManifestError("manifest.path: format folder takes one folder")
    root = settings.path.rstrip("/")
    if root.startswith("s3://"):
        place = open_store(root, store)
        return root, [place.path(e.key) for e in place.list("")]
    if not Path(root).is_dir():
        raise ManifestError(f"manifest.path: {root}: not a folder (manifest.format is folder)")
    absolute = Path(root).absolute()
    return str(absolute), sorted(str(p) for p in absolute.rglob("*") if p.is_file())


def open_input(file: InputFile, store: StoreSettings) -> BinaryIO:
    """Seekable (except .csv-like HTTP streams: those are copied to a temporary file first) binary reader.

    Raises:
        ManifestError: the file cannot be opened.
    """
    try:
        if file.path.startswith(("http://", "https://")):
            return _http_copy(file.path)
        if file.path.startswith("s3://"):
            root, _, name = file.path.rpartition("/")
            return open_store(root, store).open(name)
        return Path(file.path).open("rb")
    except (OSError, StoreError) as e:
        raise ManifestError(f"manifest.path: {file.path}: cannot be read: {e}") from None


def content_sha256(files: Iterable[InputFile], store: StoreSettings) -> str:
    """One sha256 over the files' contents, in order; reads everything once."""
    digest = hashlib.sha256()
    for file in files:
        with open_input(file, store) as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _local_files(pattern: str, format: str) -> list[InputFile]:
    if Path(pattern).is_dir():
        paths = sorted(p for p in Path(pattern).rglob("*") if p.name.lower().endswith(MANIFEST_SUFFIXES[format]))
    elif Path(pattern).exists():
        paths = [Path(pattern)]
    elif glob.has_magic(pattern):
        paths = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute patterns)
    else:
        raise ManifestError(f"manifest.path: {pattern}: no such file{_near(Path(pattern))}")
    return [InputFile(str(p.absolute()), p.stat().st_size, str(p.stat().st_mtime_ns)) for p in paths if p.is_file()]


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor is there a folder {path.parent})"

    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _s3_files(pattern: str, format: str, settings: StoreSettings) -> list[InputFile]:
    bucket, _, key = pattern[5:].partition("/")
    if not bucket:
        raise ManifestError(f"manifest.path: {pattern}: names no bucket")
    fixed = key[: min((key.find(c) for c in "*?[" if c in key), default=len(key))]
    try:
        entries = open_store(f"s3://{bucket}", settings).list(fixed)
    except StoreError as e:
        raise ManifestError(f"manifest.path: {pattern}: cannot be listed: {e}") from None
    return [InputFile(f"s3://{bucket}/{e.key}", e.size, str(e.size)) for e in _matching(entries, key, format)]


def _matching(entries: Iterable, key: str, format: str) -> Iterator:
    for entry in entries:
        below = entry.key.startswith(key.rstrip("/") + "/") and entry.key.lower().endswith(MANIFEST_SUFFIXES[format])
        if entry.key == key or below or (glob.has_magic(key) and fnmatch.fnmatchcase(entry.key, key)):
            yield entry


def _http_file(url: str) -> InputFile:
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_S) as answer:
            headers = answer.headers
    except (urllib.error.URLError, OSError, ValueError) as e:
        raise ManifestError(f"manifest.path: {url}: cannot be read: {e}") from None
    size = int(headers.get("Content-Length") or -1)
    return InputFile(url, size, headers.get("ETag") or headers.get("Last-Modified") or str(size))


def _http_copy(url: str) -> BinaryIO:
    """The whole file in an unnamed temporary file: Parquet needs seeking, and a stream of hours gets cut."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with urllib.request.urlopen(url, timeout=_HTTP_TIMEOUT_S) as answer:
        shutil.copyfileobj(answer, copy, 1 << 20)
    copy.seek(0)
    return cast(BinaryIO, copy)
