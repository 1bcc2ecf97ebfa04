"""Runs of the version before this one: whether a manifest is theirs, by the rules that listed it then.

That version listed every file of a folder of images (hidden ones, too, and no links), knew a web address without
Content-Length by its ETag or date, an object on S3 by its size, and wrote presigned addresses down as they were. A run
of it is resumed when its own rule still gives what it recorded.
"""

import hashlib
from pathlib import Path
from typing import Any

from aistudio.config import JobConfig
from aistudio.errors import StoreError
from aistudio.run_record import RunRecord
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.snapshot import listing_sha256, manifest_identity
from aistudio.secrets import redact_credentials, redacted
from aistudio.store import open_store


def identity_in_run(config: JobConfig, files: list[InputFile], record: RunRecord | None) -> dict[str, Any]:
    """Return the manifest's identity: as the run folder recorded it, where the earlier rule finds the same manifest."""
    identity = manifest_identity(config, files)
    recorded = record.manifest_identity if record else identity
    if redacted(recorded) == identity:
        return dict(recorded)
    then = _files_then(config, files)
    earlier = {
        "num_files": len(then),
        "num_bytes": sum(max(f.size, 0) for f in then),
        "files_sha256": listing_sha256(then, redact_credentials),
    }
    return dict(recorded) if identity | earlier == redacted(recorded) else identity


def _files_then(config: JobConfig, files: list[InputFile]) -> list[InputFile]:
    if config.manifest.format == "folder":
        return [_folder_then(files[0].path, config)]
    return [_file_then(f) for f in files]


def _file_then(file: InputFile) -> InputFile:
    if file.path.startswith("s3://"):
        return file._replace(version=str(file.size))
    known_by_server = file.sha256 and not file.version.startswith("sha256:")
    return file._replace(size=-1) if known_by_server else file


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
