"""A folder of images as a manifest: an item is a folder, its images are its candidates.

Its columns are `folder`, `file` and `path`. Lists nothing itself: it is handed the paths.
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePath, PurePosixPath
from typing import Any

from aistudio.catalogue.columns import resolve
from aistudio.catalogue.table import Batch, Columns, Gathered, Reading, Reject, Rows, rejected_table, storable
from aistudio.config import ManifestSettings

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)
FOLDER_COLUMNS = ("folder", "file", "path")  # of an image: its folder, its name, its path, the root left out
_DEFAULTS = {"item_id": "folder", "row_id": "path"}
BATCH_ROWS = 1000


def folder_candidates(paths: Iterable[str], root: str | PurePath, settings: ManifestSettings) -> Iterator[Batch]:
    """Candidates of an image folder, in the order of `paths`.

    image_url is the path as given, row_id the path relative to `root`, item_id its folder relative to `root`
    (images that lie in the root itself: the root's own name), text "": unless `settings.columns` maps them to other
    columns of FOLDER_COLUMNS. Files without an image suffix are passed over. A path outside the root or whose name is
    not valid text is rejected, `line_number` being its place among the paths.

    Args:
        paths: local paths or URLs with a scheme, in the form that `root` has.
        root: the folder that item ids are relative to.
        settings: see `inspect_folder`.

    Raises:
        ManifestError: as `inspect_folder`.
    """
    columns = inspect_folder(root, settings)
    base = str(root).rstrip("/") + "/"
    rows, rejects = Gathered(str(root), ""), list[Reject]()
    for number, path in enumerate(paths, 1):
        if PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        result = _candidate(path, base, columns)
        if isinstance(result, str):
            rejects.append(Reject(number, path, result))
        else:
            rows.add(Rows(number, [result]))
        if len(rows.rows) >= BATCH_ROWS or len(rejects) >= BATCH_ROWS:
            yield _batch(rows, rejects, columns)
            rows, rejects = Gathered(str(root), ""), []
    if rows.rows or rejects:
        yield _batch(rows, rejects, columns)


def inspect_folder(root: str | PurePath, settings: ManifestSettings) -> Columns:
    """Columns of a folder of images: folder, file and path, of which those that are not mapped are kept.

    Raises:
        ManifestError: `settings` name another column, or map image_url, which is the file itself.
    """
    return resolve(FOLDER_COLUMNS, {}, settings, str(root), defaults=_DEFAULTS, fixed=("image_url", "fallback_url"))


def _candidate(path: str, base: str, columns: Columns) -> tuple[Any, ...] | str:
    relative = path[len(base) :] if path.startswith(base) else path if base == "./" else ""
    if not relative or relative.startswith(("/", "../")):
        return f"outside the folder {base}"
    if storable(relative) != relative or storable(path) != path:
        return "the file name is not valid text"
    folder, _, file = relative.rpartition("/")
    own = {"path": relative, "file": file, "folder": folder or base.rstrip("/").rpartition("/")[2] or "/"}
    found = {column: own[name] for column, name in columns.mapping.items()}
    return (
        found["row_id"],
        found["item_id"],
        path,
        None,
        found.get("text", ""),
        found.get("poi_names"),
        *(own[name] for name, _ in columns.passthrough),
    )


def _batch(rows: Gathered, rejects: list[Reject], columns: Columns) -> Batch:
    num, refused = len(rows.rows), len(rejects)
    reading = Reading(num + refused, num, refused)
    return Batch(rows.table(columns.schema), rejected_table(rejects, rows.file), reading)
