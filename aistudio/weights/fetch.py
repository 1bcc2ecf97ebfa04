"""Weights files put where the conf says, by a person's command: resumable, checked, atomic, one at a time.

A download goes to `<file>.part` and gets its name when it is whole and its checksum right. A file for which the
publisher gives no checksum has the one of its first download recorded in `<file>.sha256`. What a node fetches by
itself goes into its cache instead (_cache.py).
"""

from pathlib import Path

from aistudio.config import StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.weights.download import TIMEOUT_S, Progress, UnreachableError, download, publish
from aistudio.weights.files import expected_sha256, file_sha256, record_path, require_bytes


def fetch_file(
    file: WeightsFile,
    progress: Progress | None = None,
    timeout_s: float = TIMEOUT_S,
    store: StoreSettings | None = None,
) -> str:
    """Have `file` on disk, and return its sha256; nothing is downloaded when the right file is there.

    Args:
        progress: called with bytes so far and bytes in all (None when the server does not say).
        store: S3 endpoint, region, retries.

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
    try:
        download(file.url, part, store, progress=progress, timeout_s=timeout_s)
    except UnreachableError as e:
        raise WeightsError(f"{e}\n  Without a network: download it elsewhere and put it at {path}") from None
    found = require_bytes(part, file, expected)
    if not file.sha256:
        record_path(path).write_text(f"{found}  {path.name}\n", encoding="ascii")
    publish(part, path)
    return found


def _accept(path: Path, file: WeightsFile, expected: str | None) -> str:
    found = file_sha256(path)
    if expected and found != expected:
        raise WeightsError(f"{path}: sha256 is {found}, expected {expected}; delete it to fetch it again")
    if expected is None and file.url:  # a file of one's own may change
        record_path(path).write_text(f"{found}  {path.name}\n", encoding="ascii")
    return found
