"""A node's own copies of weights files, by checksum: each file is downloaded once per node, however many processes ask.

    <folder>/blobs/<sha256>    whole files, named by what is in them
    <folder>/parts/            unfinished downloads; the next process goes on with them
    <folder>/locks/            one per file; held by filelock, so a process that dies lets go
    <folder>/addresses/        for files without a known checksum: what an address gave, and in which version
    <folder>/used/             when each whole file was used last, as an empty file's time (pruning.py)
    <folder>/views/            folders of links, for models that want their files side by side under their own names

Everything here may be deleted while no run is at work; `aistudio weights prune` removes what is not used any more.
Which of a model's files come from here is _placing.py's.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aistudio.config import StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.secrets import shown_address
from aistudio.weights.download import (
    Progress,
    UnreachableError,
    discard,
    download,
    publish,
    size_of,
    version_of,
)
from aistudio.weights.files import WrongFileError, file_sha256, require_bytes
from aistudio.weights.pruning import mark_used
from aistudio.weights.remote import UnchangedError

LOCK_POLL_S = 0.2
LOCK_LIMIT_S = 3600.0  # a download by another process may take long, but not for ever
NOT_LINKED = (".part", ".version", ".sha256")  # ours, beside files that a person fetched


def default_folder(setting: str | None = None) -> Path:
    """The cache's folder on this node: the setting, else $AISTUDIO_CACHE/weights, else ~/.cache/aistudio/weights.

    Where nobody knows a home, a folder of this user in the system's temporary one.
    """
    if setting:
        return Path(setting).expanduser()
    root = os.environ.get("AISTUDIO_CACHE")
    if root:
        return Path(root).expanduser() / "weights"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "aistudio" / "weights"
    except RuntimeError:  # no HOME, and a user id without a name, as containers give
        return Path(tempfile.gettempdir(), f"aistudio-{os.getuid()}", "weights")


class WeightsCache:
    """Files by checksum below `folder`.

    Args:
        store: S3 endpoint, region, retries.
        patient: a server that does not answer is asked again (workers, which start all at once).
        announce: say on standard error what is downloaded.
    """

    def __init__(self, folder: Path, store: StoreSettings, *, patient: bool = False, announce: bool = False) -> None:
        self.folder = folder.absolute()
        self._store, self._patient, self._announce = store, patient, announce

    def find(self, file: WeightsFile) -> Path | None:
        """The whole file if it is here; the network is not asked."""
        sha256 = file.sha256 or (self._recorded(file.url) or {}).get("sha256")
        return self._whole(sha256.lower()) if sha256 else None

    def get(self, file: WeightsFile) -> Path:
        """The whole file with the checksum expected, downloaded if need be.

        Without a checksum the file is the one that its address gives now: an unchanged one is not sent again, and
        one that cannot be asked for is the one of last time.

        Raises:
            WeightsError: out of reach, refused, another file than expected, disk full; names node and address.
        """
        assert file.url is not None
        try:
            for folder in ("blobs", "parts", "locks", "addresses", "views"):
                (self.folder / folder).mkdir(parents=True, exist_ok=True)
            return self._known(file, file.sha256.lower()) if file.sha256 else self._latest(file, file.url)
        except WeightsError as e:
            raise WeightsError(f"node {socket.gethostname()}: {e}") from None
        except OSError as e:
            raise WeightsError(
                f"node {socket.gethostname()}: {self.folder}: not usable as a cache of weights ({e}); "
                "set engine.weights_cache, or AISTUDIO_CACHE where Ray starts"
            ) from None

    def view(self, folder: Path, files: Mapping[str, Path]) -> Path:
        """A folder of links: what lies in `folder` on this node, and `files` (name -> where it is) over it."""
        here = [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        links = {p.name: p for p in here if not p.name.startswith(".") and p.suffix not in NOT_LINKED} | dict(files)
        targets = {name: str(path.absolute()) for name, path in sorted(links.items())}
        views = self.folder / "views"
        final = views / hashlib.sha256(json.dumps(targets).encode()).hexdigest()[:32]
        if not final.is_dir():
            views.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=".", dir=views))
            for name, target in targets.items():
                (building / name).symlink_to(target)
            try:
                building.rename(final)
            except OSError:  # another process was first, with the same links
                shutil.rmtree(building)
        return final

    def _known(self, file: WeightsFile, sha256: str) -> Path:
        if whole := self._whole(sha256):
            return whole
        with self._lock(sha256, file):
            if whole := self._whole(sha256):
                return whole
            blob = self._blob(sha256)
            if blob.exists():
                print(f"{blob}: damaged, fetched again", file=sys.stderr)
                blob.unlink()
            part = self.folder / "parts" / f"{sha256}.part"
            left_over = size_of(part) > 0
            try:
                self._download(file, part, sha256)
            except WrongFileError:
                if not left_over:
                    raise
                self._download(file, part, sha256)  # the beginning that lay here may have been the wrong one
            publish(part, blob)
            return blob

    def _latest(self, file: WeightsFile, url: str) -> Path:
        name = _address_name(url)
        with self._lock(name, file):
            record = self._recorded(url)
            whole = self._whole(record["sha256"]) if record else None
            version = record["version"] if record and whole else None
            if whole and not version:
                return whole  # a server that names no version cannot be asked for a newer one
            part = self.folder / "parts" / f"{name}.part"
            if version_of(part) is None:
                discard(part)  # no checksum would tell if it went on with another version
            try:
                version = self._download(file, part, None, version)
            except UnchangedError:
                assert whole is not None
                return whole
            except UnreachableError as e:
                if whole is None:
                    raise
                print(f"{e}\n  the copy of last time is used: {whole}", file=sys.stderr)
                return whole
            sha256 = file_sha256(part)
            blob = self._blob(sha256)
            publish(part, blob)
            known = {"url": shown_address(url), "sha256": sha256, "version": version}
            self._record_path(url).write_text(json.dumps(known) + "\n", encoding="utf-8")
            return blob

    def _download(self, file: WeightsFile, part: Path, sha256: str | None, version: str | None = None) -> str | None:
        assert file.url is not None
        say = self._say(file) if self._announce else None
        found = download(file.url, part, self._store, progress=say, patient=self._patient, known_version=version)
        require_bytes(part, file, sha256)
        return found

    def _say(self, file: WeightsFile) -> Progress:
        said = False
        licence = f" (licence: {file.licence})" if file.licence else ""

        def say(have: int, total: int | None) -> None:
            nonlocal said
            if not said:
                size = f" ({total / 1e6:,.1f} MB)" if total else ""
                where = f"{shown_address(file.url or '')}{size}{licence} into {self.folder}"
                print(f"fetching {where}", file=sys.stderr, flush=True)
                said = True

        return say

    def _whole(self, sha256: str) -> Path | None:
        blob = self._blob(sha256)
        try:
            if file_sha256(blob) != sha256:
                return None
        except FileNotFoundError:
            return None
        mark_used(self.folder, sha256)
        return blob

    def _blob(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256

    def _record_path(self, url: str) -> Path:
        return self.folder / "addresses" / f"{_address_name(url)}.json"

    def _recorded(self, url: str | None) -> dict[str, Any] | None:
        if url is None:
            return None
        try:
            record = json.loads(self._record_path(url).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or one whose writer died
            return None
        return record if isinstance(record, dict) and record.get("sha256") else None

    @contextlib.contextmanager
    def _lock(self, name: str, file: WeightsFile) -> Iterator[None]:
        path = self.folder / "locks" / name
        try:
            lock = FileLock(path).acquire(timeout=LOCK_LIMIT_S, poll_interval=LOCK_POLL_S)
        except Timeout:
            raise WeightsError(
                f"{shown_address(file.url or file.path)}: another process has been fetching it for "
                f"{LOCK_LIMIT_S:,.0f} s ({path})"
            ) from None
        with lock:
            yield


def _address_name(url: str) -> str:
    return "address-" + hashlib.sha256(url.encode()).hexdigest()[:32]
