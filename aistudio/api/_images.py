"""Pictures of a run as they are stored: thumbnails, by row id."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from aistudio.runs.mapper import InProcess
from aistudio.schema import THUMBNAIL_FIELD
from aistudio.search.gallery import File
from aistudio.search.lookup import rows_at
from aistudio.search.stored import find_rows
from aistudio.store import Store

AT_ONCE = 256  # pictures held; each is some kilobytes
UNKNOWN = "unknown_row"
_COLUMNS = ("row_id", "item_id", "image_url", "status", "error", THUMBNAIL_FIELD.name)


class Image(NamedTuple):
    """A picture of a run. `jpeg` is its thumbnail, a JPEG file; None where the row failed, or there is no such row."""

    row_id: str
    status: str  # as stored; `unknown_row`: the run has no such row
    item_id: str | None = None
    image_url: str | None = None
    error: str | None = None
    jpeg: bytes | None = None


def images_of(store: Store, files: Sequence[File], row_ids: Sequence[str]) -> Iterator[Image]:
    """Yield a picture for each id, in their order; see `Run.images`."""
    found = find_rows(store, files, {"row_id": list(row_ids)}, ["row_id"], InProcess())
    place = {name: row for row, name in zip(found.ids_N.tolist(), found.texts["row_id"], strict=True)}
    has = store.read_metadata(files[0][1])[0].names
    columns = [c for c in _COLUMNS if c in has]
    waiting = iter(row_ids)
    while part := list(islice(waiting, AT_ONCE)):
        ids = np.unique(np.array([place[name] for name in part if name in place], np.int64))
        rows = rows_at(store, files, ids, columns, InProcess()).to_pylist() if len(ids) else []
        by_name = {row["row_id"]: row for row in rows}
        for name in part:
            row = by_name.get(name)
            if row is None:
                yield Image(name, UNKNOWN, error=f"row_id {name} is not in the run")
            else:
                yield Image(
                    name, row["status"], row["item_id"], row["image_url"], row.get("error"),
                    row.get(THUMBNAIL_FIELD.name),
                )  # fmt: skip
