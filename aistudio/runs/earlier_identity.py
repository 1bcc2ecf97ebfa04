"""Runs of the version before this one: whether a manifest is theirs, by the rules that listed it then.

That version listed every file of a folder of images (hidden ones, too, and no links), and knew a web address without
Content-Length by its ETag or date. A run of it is resumed when its own rule still gives what it recorded.
"""

import hashlib
from pathlib import Path
from typing import Any

from aistudio.config import JobConfig
from aistudio.errors import StoreError
from aistudio.run_record import RunRecord
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.snapshot import listing_sha256, manifest_identity
from aistudio.store import open_store


def identity_in_run(config: JobConfig, files: list[InputFile], record: RunRecord | None) -> dict[str, Any]:
    """Return the manifest's identity: as the run folder recorded it, where the earlier rule finds the same manifest."""
    identity = manifest_identity(config, files)
    recorded = record.manifest_identity if record else identity
    if recorded == identity:
        return identity
    then = _files_then(config, files)
    earlier = {
        "num_files": len(then),
        "num_bytes": sum(max(f.size, 0) for f in then),
        "files_sha256": listing_sha256(then),
    }
    return identity | earlier if identity | earlier == recorded else identity


def _files_then(config: JobConfig, files: list[InputFile]) -> list[InputFile]:
    if config.manifest.format == "folder":
        return [_folder_then(files[0].path, config)]
    known_by_server = [f for f in files if f.sha256 and not f.version.startswith("sha256:")]
    return [f._replace(size=-1) if f in known_by_server else f for f in files]


def _folder_then(root: str, config: JobConfig) -> InputFile:
    try:
        if root.startswith("s3://"):
            place = open_store(root, config.store)
            paths = [place.path(e.key) for e in place.list("")]
        else:
            paths = sorted(str(p) for p in Path(root).rglob("*") if p.is_file())
    except (OSError, StoreError):
        paths = []
    return InputFile(root, len(paths), hashlib.sha256("\n".join(paths).encode(errors="replace")).hexdigest())
