"""Weights files on disk: are they there, are they the right ones, and what identifies a model. No tensors here.

A file whose publisher gives no checksum is identified by the one recorded at its first download, `<file>.sha256`.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.errors import WeightsError
from aistudio.secrets import shown_address
from aistudio.weights.download import discard


class WrongFileError(WeightsError):
    """A download brought another file than expected; it was deleted."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a check of a model's files found.

    `fingerprint` identifies files, tokenizer, sizes and pixels; `image_tower_fingerprint` the image tower's numbers
    alone (None where a family does not compare towers). `files` maps path -> sha256.
    """

    name: str
    family: str
    fingerprint: str
    image_tower_fingerprint: str | None
    dim: int
    image_spec: ImageSpec  # the pixels that the model wants
    num_tensors: int
    num_parameters: int
    files: dict[str, str]
    normalised: bool = True  # vectors are unit rows


def file_sha256(path: str | Path) -> str:
    """Hex sha256 of a file; remembered as long as size and modification time stay the same."""
    path = Path(path)
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def record_path(path: str | Path) -> Path:
    """Where the checksum of a file without a published one is kept."""
    path = Path(path)
    return path.with_name(path.name + ".sha256")


def expected_sha256(file: WeightsFile) -> str | None:
    """The checksum that the file must have: the conf's, else the recorded one, else None."""
    if file.sha256:
        return file.sha256.lower()
    record = record_path(file.path)
    return record.read_text(encoding="ascii").split()[0] if record.is_file() else None


def require_file(file: WeightsFile, name: str) -> str:
    """sha256 of `file` after checking that it is the file meant; `name` is the model's, for the message.

    Raises:
        WeightsError: missing, wrong size, wrong checksum.
    """
    path = Path(file.path)
    fetch = fetch_command(name)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; {_remedy(file, fetch)}")
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        raise WeightsError(f"{path}: {size:,} bytes, expected {file.size_bytes:,}; delete it and run\n  {fetch}")
    try:
        found = file_sha256(path)
    except OSError as e:
        raise WeightsError(f"{path}: cannot be read: {e.strerror or e}") from None
    expected = expected_sha256(file)
    if expected is not None and found != expected:
        raise WeightsError(f"{path}: sha256 is {found}, expected {expected}; delete it and run\n  {fetch}")
    return found


def fetch_command(name: str) -> str:
    """Return the command that fetches a model's files to their paths."""
    return f"python -m aistudio weights fetch --conf conf/models/{name}.yaml"


def _remedy(file: WeightsFile, fetch: str) -> str:
    if file.url:
        return f"fetch it with\n  {fetch} (from {shown_address(file.url)})"
    return (
        "put it there, or give it an address in the conf (url: s3://… or https://…): every node then fetches it once "
        "into its own cache (docs/cluster.md)"
    )


def require_files(cfg: ModelConfig) -> dict[str, str]:
    """path -> sha256 of every file that the model's YAML names. Raises WeightsError as `require_file`."""
    return {str(Path(file.path)): require_file(file, cfg.name) for file in cfg.files}


def require_bytes(part: Path, file: WeightsFile, expected: str | None) -> str:
    """sha256 of what was downloaded; what is not the file expected is deleted.

    Raises:
        WrongFileError: another checksum than `expected`, or another size than the conf's.
    """
    found, size = file_sha256(part), part.stat().st_size
    if (expected and found != expected) or (file.size_bytes is not None and size != file.size_bytes):
        discard(part)
        raise WrongFileError(
            f"{shown_address(file.url or file.path)}: what came is not the file expected (sha256 {found}, expected "
            f"{expected or 'any'}; {size:,} bytes, expected {file.size_bytes or 'any'}); it was deleted"
        )
    return found


def model_fingerprint(cfg: ModelConfig, hashes: list[str], arch: Any) -> str:
    """Hex sha256 over everything that decides the numbers: family, file checksums, sizes, pixels."""
    content = {"family": cfg.family, "files": sorted(hashes), "arch": arch, "image": cfg.image.identity()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
