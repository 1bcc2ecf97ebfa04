"""Manifest files: finding and opening them, local, in a bucket, on Hugging Face's hub or HTTP.

What is in them is the catalogue's business.

What a run's identity was made from is what is read later: a file that has another size by then, in a bucket another
ETag, or over HTTP another content, is refused.
"""

import glob
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from aistudio.catalogue import IMAGE_SUFFIXES, MANIFEST_SUFFIXES
from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings
from aistudio.errors import ChangedError, ManifestError, StoreError
from aistudio.hub_files import in_hub, list_hub, open_hub, split_hub
from aistudio.places import in_bucket, near_file
from aistudio.runs.manifest_http import Download, fetch_manifest, look_at
from aistudio.runs.manifest_walk import expand_braces, local_glob, matches, visible_keys, walk
from aistudio.secrets import redact
from aistudio.store import BUFFER_BYTES, Entry, open_store

_HTTP = ("http://", "https://")


class InputFile(NamedTuple):
    """One manifest file. `version` changes when the content may have changed (mtime, ETag)."""

    path: str
    size: int  # bytes
    version: str
    sha256: str = ""  # of the content, where it was read to find the file (HTTP)

    @property
    def shown(self) -> str:
        """The path as it is stored with rows and shown: of an address without passwords and signatures."""
        return redact(self.path) if "://" in self.path else self.path


# A tar is walked from header to header; between two of them lie some dozen kB, so that whole pieces are fewer requests.
_WALK_BYTES = 1 << 20
# Formats of large files that are not fetched to be found, where their server says size and version.
_LARGE = ("webdataset", "zip")
# The first copy that was fetched of what list_inputs found, kept for who opens it next; it is an unnamed temporary
# file. An archive's stays for whoever opens it after that, too: it is looked into before it is read.
_kept: dict[InputFile, Download] = {}
_first_large: list[InputFile] = []  # the archive that may be kept


def list_inputs(
    settings: ManifestSettings, store: StoreSettings, download: DownloadSettings | None = None
) -> list[InputFile]:
    """The manifest's files in a fixed order (sorted by path within each pattern).

    Args:
        download: how http(s) addresses are fetched; None: the defaults.

    Raises:
        ManifestError: a path that matches nothing, naming what was looked for.
    """
    patterns = [settings.path] if isinstance(settings.path, str) else settings.path
    if not patterns:
        raise ManifestError("manifest.path: an empty list; expected a file, a folder, a pattern or an address")
    files: list[InputFile] = []
    while _kept:
        _kept.popitem()[1].stream.close()
    _first_large.clear()
    for pattern in [one for given in patterns for one in expand_braces(given)]:
        if pattern.startswith(_HTTP):
            found = [_http_file(pattern, settings.format, download or DownloadSettings())]
        elif in_bucket(pattern):
            found = _bucket_files(pattern, settings.format, store)
        elif in_hub(pattern):
            found = _hub_files(pattern, settings.format)
        else:
            found = _local_files(pattern, settings.format)
        if not found:
            raise ManifestError(
                f"manifest.path: {pattern}: no {settings.format} manifest files there{_hub_hint(pattern)}"
            )
        files += found
    return files


def list_images(settings: ManifestSettings, store: StoreSettings) -> tuple[str, list[str]]:
    """Root and sorted paths of the images of a `folder` manifest, by their names' endings.

    Raises:
        ManifestError: the folder does not exist or cannot be read.
    """
    if not isinstance(settings.path, str):
        raise ManifestError("manifest.path: format folder takes one folder")
    root = settings.path.rstrip("/") or "/"
    if in_hub(root):
        raise ManifestError(f"manifest.path: {root}: format folder takes a folder on a disk or in a bucket")
    if root.startswith(_HTTP):
        raise ManifestError(f"manifest.path: {root}: a web address cannot be listed; format folder takes a folder")
    if in_bucket(root):
        place = open_store(root, store)
        try:
            keys = visible_keys([e.key for e in place.list("")], "")
        except StoreError as e:
            raise ManifestError(f"manifest.path: {root}: cannot be listed: {e}") from None
        return root, [place.path(key) for key in keys if _is_image(key)]
    if not Path(root).is_dir():
        raise ManifestError(f"manifest.path: {root}: not a folder (manifest.format is folder)")
    absolute = Path(root).absolute()
    return str(absolute), sorted(str(p) for p in walk(absolute) if _is_image(p.name))


def open_input(file: InputFile, store: StoreSettings, download: DownloadSettings | None = None) -> BinaryIO:
    """Seekable binary reader; of an HTTP file a temporary copy, so that what is read is whole.

    Raises:
        ManifestError: the file cannot be opened, or is another one than when it was found.
    """
    try:
        if file.path.startswith(_HTTP):
            return _http_copy(file, download or DownloadSettings())
        if in_hub(file.path):
            stream = open_hub(file.path)
        elif in_bucket(file.path):
            root, _, name = file.path.rpartition("/")
            etag = file.version if file.version.startswith('"') else ""
            buffer_bytes = _WALK_BYTES if name.lower().endswith(".tar") else BUFFER_BYTES
            stream = open_store(root, store).open(name, etag=etag, buffer_bytes=buffer_bytes)
        else:
            stream = Path(file.path).open("rb")  # noqa: SIM115 - the caller closes it
        size = stream.seek(0, io.SEEK_END)
    except ChangedError as e:
        raise ManifestError(f"manifest.path: changed while the run was starting: {e}; start again") from None
    except (OSError, StoreError) as e:
        raise ManifestError(f"manifest.path: {file.path}: cannot be read: {e}") from None
    if size != file.size:
        stream.close()
        raise _changed(file, size)
    stream.seek(0)
    return stream


def refuse_if_grown(file: InputFile) -> None:
    """Raises ManifestError when a local file has another size now than when it was found: it was read half-written."""
    if "://" in file.path:
        return  # a copy of an address is whole, and every read of an object in a bucket names its ETag
    try:
        size = Path(file.path).stat().st_size
    except OSError as e:
        raise ManifestError(f"manifest.path: {file.path}: cannot be read: {e}") from None
    if size != file.size:
        raise _changed(file, size)


def content_sha256(files: Iterable[InputFile], store: StoreSettings, download: DownloadSettings | None = None) -> str:
    """One sha256 over the files' contents, in order; reads everything once."""
    files = list(files)
    if len(files) == 1 and files[0].sha256:
        return files[0].sha256
    digest = hashlib.sha256()
    for file in files:
        with open_input(file, store, download) as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _changed(file: InputFile, size: int) -> ManifestError:
    return ManifestError(
        f"manifest.path: {file.shown}: changed while the run was starting ({file.size:,} bytes when it was found, "
        f"{size:,} now); start again when it is complete"
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(tuple(IMAGE_SUFFIXES))


def _local_files(pattern: str, format: str) -> list[InputFile]:
    path = Path(pattern)
    if path.is_dir():
        paths = sorted(p for p in walk(path) if p.name.lower().endswith(MANIFEST_SUFFIXES[format]))
    elif path.exists():
        paths = [path]
    elif glob.has_magic(pattern):
        paths = local_glob(pattern)
    else:
        raise ManifestError(f"manifest.path: {pattern}: no such file{near_file(path)}")
    return [_local_file(p) for p in paths]


def _local_file(path: Path) -> InputFile:
    try:
        info = path.stat()
    except OSError as e:
        raise ManifestError(f"manifest.path: {path}: cannot be read: {e.strerror or e}") from None
    if not path.is_file():
        raise ManifestError(f"manifest.path: {path}: not a regular file; a manifest is read more than once")
    return InputFile(str(path.absolute()), info.st_size, str(info.st_mtime_ns))


def _bucket_files(pattern: str, format: str, settings: StoreSettings) -> list[InputFile]:
    scheme, _, rest = pattern.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ManifestError(f"manifest.path: {pattern}: names no bucket")
    fixed = key[: min((key.find(c) for c in "*?[" if c in key), default=len(key))]
    try:
        entries = open_store(f"{scheme}://{bucket}", settings).list(fixed)
    except StoreError as e:
        raise ManifestError(f"manifest.path: {pattern}: cannot be listed: {e}") from None
    return [
        InputFile(f"{scheme}://{bucket}/{e.key}", e.size, e.etag or str(e.size)) for e in _meant(entries, key, format)
    ]


def _hub_files(pattern: str, format: str) -> list[InputFile]:
    """Files of a data set's repository, pinned to a commit; `version` is that of the content."""
    try:
        place, found = split_hub(pattern), list_hub(pattern)
    except StoreError as e:
        raise ManifestError(f"manifest.path: {e}") from None
    by_path = {entry.path: entry for entry in found}
    meant = [by_path[e.key] for e in _meant([Entry(e.path, e.size) for e in found], place.path, format)]
    return [InputFile(e.address, e.size, e.version) for e in meant]


def _hub_hint(pattern: str) -> str:
    if not in_hub(pattern) or "@" in pattern:
        return ""
    return "; the hub keeps a Parquet copy of most data sets: hf://datasets/<owner>/<name>@refs%2Fconvert%2Fparquet"


def _meant(entries: list[Entry], key: str, format: str) -> list[Entry]:
    """The objects that a key means: itself, else what a pattern fits, else what lies below it."""
    exact = [e for e in entries if key and e.key == key]
    if exact:
        return exact
    if glob.has_magic(key):
        parts = key.split("/")
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        below = set(visible_keys([e.key for e in entries], "".join(f"{p}/" for p in parts[:first])))
        return [e for e in entries if e.key in below and matches(e.key.split("/"), parts)]
    below = set(visible_keys([e.key for e in entries], f"{key.rstrip('/')}/" if key.strip("/") else ""))
    return [e for e in entries if e.key in below and e.key.lower().endswith(MANIFEST_SUFFIXES[format])]


def is_web(file: InputFile) -> bool:
    """Whether a file lies at a web address."""
    return file.path.startswith(_HTTP)


def _http_file(url: str, format: str, download: DownloadSettings) -> InputFile:
    if format in _LARGE and (said := look_at(url, download)) is not None:
        file = InputFile(url, said.size, said.version)
        if not _first_large:
            _first_large.append(file)
        return file
    copy = fetch_manifest(url, download)
    file = InputFile(url, copy.size, copy.version, copy.sha256)
    if _kept:
        copy.stream.close()
    else:
        _kept[file] = copy
    return file


def _http_copy(file: InputFile, download: DownloadSettings) -> BinaryIO:
    copy = _kept.pop(file, None) or fetch_manifest(file.path, download)
    same = copy.sha256 == file.sha256 if file.sha256 else (copy.size, copy.version) == (file.size, file.version)
    if not same:
        copy.stream.close()
        raise _changed(file, copy.size)
    if file not in _first_large:
        return copy.stream
    _kept[file] = copy
    again = os.fdopen(os.dup(copy.stream.fileno()), "rb")
    again.seek(0)
    return again
