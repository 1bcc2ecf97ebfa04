"""Files of Hugging Face's hub by `hf://datasets/<owner>/<name>[@revision]/<path>`, through huggingface_hub's client.

Tokens, caches, retries and proxies are the library's; HF_ENDPOINT is read when a file is asked for. What is listed is
pinned to the commit that the revision means then, so that a branch that moves changes nothing of a run.
"""

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote

from aistudio.errors import StoreError
from aistudio.secrets import redact
from aistudio.storable import error_text

if TYPE_CHECKING:
    from huggingface_hub import HfFileSystem

SCHEME = "hf://"
_PLACE = re.compile(r"hf://(?P<kind>datasets)/(?P<repo>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<path>.*))?")
_COMMIT = re.compile(r"(hf://[^/]+/[^/@]+/[^/@]+)@[0-9a-f]{40}(?=/|$)")


class HubPlace(NamedTuple):
    """A repository of the hub, or a folder, file or pattern in it."""

    repo: str  # owner/name
    revision: str | None  # branch, tag or commit; None: the main branch
    path: str  # in the repository, "" for all of it


class HubEntry(NamedTuple):
    """A file of a repository at one commit."""

    address: str  # with the commit
    path: str  # in the repository
    size: int  # bytes
    version: str  # of the content: sha256 of a large file, git's checksum of a small one


def in_hub(place: str) -> bool:
    """Whether an address names something on the hub."""
    return place.startswith(SCHEME)


def split_hub(address: str) -> HubPlace:
    """Take an address apart. Raises StoreError where it is not one of a data set's repository."""
    match = _PLACE.fullmatch(address)
    if match is None:
        raise StoreError(f"{address}: expected hf://datasets/<owner>/<name>[@revision][/path]")
    revision = unquote(match["revision"]) if match["revision"] else None
    return HubPlace(match["repo"], revision, (match["path"] or "").strip("/"))


def without_commit(address: str) -> str:
    """Return the address without the commit that it is pinned to: another commit may hold the same files."""
    return _COMMIT.sub(r"\1", address)


def list_hub(address: str) -> list[HubEntry]:
    """List the files of the address's repository, sorted by path, at the commit that its revision means now.

    Raises:
        StoreError: no such repository or revision, not allowed, out of reach.
    """
    place = split_hub(address)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=_endpoint())
        commit = api.dataset_info(place.repo, revision=place.revision).sha
        found = api.list_repo_tree(place.repo, recursive=True, revision=commit, repo_type="dataset")
        files = [entry for entry in found if isinstance(entry, RepoFile)]
    except Exception as e:  # noqa: BLE001 - the library and the two below it raise many kinds
        raise StoreError(f"{address}: {hub_reason(e)}") from None
    root = f"{SCHEME}datasets/{place.repo}@{commit}"
    entries = [HubEntry(f"{root}/{f.path}", f.path, f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in files]
    return sorted(entries, key=lambda entry: entry.path)


def open_hub(address: str) -> BinaryIO:
    """Seekable reader of a file, in requests of a megabyte. Raises StoreError."""
    try:
        return cast(BinaryIO, _file_system(_endpoint()).open(address, "rb", block_size=1 << 20))
    except Exception as e:  # noqa: BLE001 - as above
        raise StoreError(f"{address}: {hub_reason(e)}") from None


class HubRanges:
    """Ranges of one file; each read is one request, of several threads at once."""

    def __init__(self, address: str) -> None:
        """Raises StoreError, FileNotFoundError."""
        self.address = address
        try:
            self.size = int(_file_system(_endpoint()).info(address)["size"])
        except FileNotFoundError:
            raise
        except Exception as e:  # noqa: BLE001 - as above
            raise StoreError(f"{address}: {hub_reason(e)}") from None

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to before `stop`, fewer at the file's end. Raises StoreError."""
        try:
            with _file_system(_endpoint()).open(self.address, "rb", cache_type="none") as file:
                file.seek(start)
                return bytes(file.read(max(0, min(stop, self.size) - start)))
        except Exception as e:  # noqa: BLE001 - as above
            raise StoreError(f"{self.address}: {hub_reason(e)}") from None


def hub_reason(e: Exception) -> str:
    """Say in one line why the hub did not give a file."""
    text = error_text(redact(str(e).strip().partition("\n")[0] or type(e).__name__), 400)
    status: Any = getattr(getattr(e, "response", None), "status_code", None)
    hint = "; private and gated data sets need HF_TOKEN" if status in (401, 403, 404) else ""
    return f"{text}{hint}"


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@lru_cache(maxsize=4)
def _file_system(endpoint: str | None) -> "HfFileSystem":
    from huggingface_hub import HfFileSystem

    return HfFileSystem(endpoint=endpoint, skip_instance_cache=True)
