"""A model's folder from the Hugging Face hub, at one commit: fetched, or found in the hub's cache.

Tokens, caches, proxies, HF_ENDPOINT and HF_HUB_OFFLINE are huggingface_hub's own.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from aistudio.errors import WeightsError
from aistudio.secrets import redact

WANTED = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.model")
_ERRORS = (
    *(LocalEntryNotFoundError, RepositoryNotFoundError, EntryNotFoundError, HFValidationError, HfHubHTTPError),
    *(OSError, ValueError),
)


def hub_folder(name: str, revision: str | None, wanted: Sequence[str] = WANTED) -> Path:
    """Return the folder of a hub repository's files; its own name is the commit.

    Raises:
        WeightsError: not on the hub, not allowed, or neither to be reached nor in the cache.
    """
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    try:
        ignored = [] if offline else _twice(name, revision)
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(wanted), ignore_patterns=ignored, local_files_only=offline
        )
    except _ERRORS as e:
        raise WeightsError(f"{name}{_at(revision)}: {_reason(e, offline)}") from None
    return Path(folder)


def commit_of(name: str, revision: str | None) -> str:
    """Return the commit that a branch or tag of a repository means now. Raises WeightsError as `hub_folder`."""
    return hub_folder(name, revision).name


def _twice(name: str, revision: str | None) -> list[str]:
    """Patterns of the weights that the repository holds as safetensors too."""
    try:
        files = HfApi().model_info(name, revision=revision).siblings or []
    except (HfHubHTTPError, OSError):  # without a network the cache may have it
        return []
    names = [file.rfilename for file in files]
    return ["*.bin"] if any(name.endswith(".safetensors") for name in names) else []


def _at(revision: str | None) -> str:
    return f"@{revision}" if revision else ""


def _reason(e: Exception, offline: bool) -> str:
    text = redact(str(e).strip())
    first = text.splitlines()[0] if text else type(e).__name__
    if isinstance(e, GatedRepoError):
        return f"the hub asks who you are: accept the model's terms there and set HF_TOKEN ({first})"
    if isinstance(e, RevisionNotFoundError):
        return f"the repository has no such branch, tag or commit ({first})"
    if offline:
        return (
            "not in the hub's cache here, and HF_HUB_OFFLINE is set; copy the model's folder to this machine and name "
            f"it in arch.model ({first})"
        )
    return (
        f"neither a local folder nor a hub model that can be had here ({first}); private ones need HF_TOKEN; "
        "or copy the model's folder to this machine and name it in arch.model"
    )
