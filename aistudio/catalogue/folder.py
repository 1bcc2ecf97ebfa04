"""A folder of images as a manifest: an item is a folder, its images are its candidates.

Lists nothing itself: it is handed the paths.
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePath, PurePosixPath
from typing import Any

from aistudio.catalogue.table import Batch, Columns, Reject, candidate_table, rejected_table, storable
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)
FOLDER_COLUMNS = Columns((), {}, ())  # nothing to map, nothing to keep
BATCH_ROWS = 1000


def folder_candidates(paths: Iterable[str], root: str | PurePath, settings: ManifestSettings) -> Iterator[Batch]:
    """Candidates of an image folder, in the order of `paths`.

    image_url is the path as given, row_id the path relative to `root`, item_id its folder relative to `root`
    (images that lie in the root itself: the root's own name), text "". Files without an image suffix are passed
    over. A path outside the root or whose name is not valid text is rejected, `line_number` being its place
    among the paths.

    Args:
        paths: local paths or URLs with a scheme, in the form that `root` has.
        root: the folder that item ids are relative to.
        settings: `columns` must be empty.

    Raises:
        ManifestError: `settings.columns` maps something: a folder has no columns.
    """
    if settings.columns:
        raise ManifestError(f"manifest.columns: a folder of images has no columns to map; found {settings.columns}")
    base = str(root).rstrip("/") + "/"
    rows: list[tuple[Any, ...]] = []
    rejects: list[Reject] = []
    for number, path in enumerate(paths, 1):
        if PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        result = _candidate(path, base)
        if isinstance(result, str):
            rejects.append(Reject(number, path, result))
        else:
            rows.append(result)
        if len(rows) >= BATCH_ROWS or len(rejects) >= BATCH_ROWS:
            yield _batch(rows, rejects, root)
            rows, rejects = [], []
    if rows or rejects:
        yield _batch(rows, rejects, root)


def _candidate(path: str, base: str) -> tuple[Any, ...] | str:
    relative = path[len(base) :] if path.startswith(base) else path if base == "./" else ""
    if not relative or relative.startswith(("/", "../")):
        return f"outside the folder {base}"
    if storable(relative) != relative:
        return "the file name is not valid text"
    folder = relative.rpartition("/")[0]
    item_id = folder or base.rstrip("/").rpartition("/")[2] or "/"
    return (relative, item_id, path, None, "", None)


def _batch(rows: list[tuple[Any, ...]], rejects: list[Reject], root: str | PurePath) -> Batch:
    return Batch(candidate_table(rows, FOLDER_COLUMNS.schema), rejected_table(rejects, str(root)))
