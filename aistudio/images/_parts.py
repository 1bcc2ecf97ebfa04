"""Pictures inside files: rows of Parquet files and Lance data sets, members of archives.

Blocking reads, meant for a thread pool.
"""

import re
from functools import partial

from aistudio.config import StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.file_ranges import Blocks, FileRanges
from aistudio.images._fetched import Fetched, FetchFailed
from aistudio.images._lance_rows import LanceReader
from aistudio.images._members import tar_member, zip_member
from aistudio.images._parquet_rows import RowReader
from aistudio.parts import Part
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import error_text

_DENIED = re.compile(r"\b(40[13]|AccessDenied|Forbidden|no permission|credentials)\b", re.IGNORECASE)


class PartReader:
    """Reads pictures inside files; the files stay open for a while. `download.max_bytes` holds for each picture."""

    def __init__(self, settings: StoreSettings) -> None:
        self._files = FileRanges(settings)
        self._blocks = Blocks(self._files)
        self._rows = RowReader(self._files.stream)
        self._lance = LanceReader(settings)

    def read(self, place: str, part: Part, max_bytes: int) -> Fetched:
        """The picture's bytes. Raises FetchFailed."""
        try:
            body = self._read(place, part, max_bytes)
        except FileNotFoundError:
            raise FetchFailed(Status.NOT_FOUND, f"{place}: no such file") from None
        except ChangedError as e:
            self._files.forget(place)
            self._blocks.forget(place)
            raise FetchFailed(Status.NOT_FOUND, error_text(e, 400), retry=True) from e
        except StoreError as e:  # the store has tried again by itself
            status = Status.ACCESS_DENIED if _DENIED.search(str(e)) else Status.CONNECTION_ERROR
            raise FetchFailed(status, error_text(redact(str(e)), 400)) from e
        if not body:
            raise FetchFailed(Status.EMPTY, "the picture inside the file is empty")
        return Fetched(Status.OK, num_bytes=len(body), body=body)

    def _read(self, place: str, part: Part, max_bytes: int) -> bytes:
        if part.kind == "row":
            return self._rows.read(place, part, max_bytes)
        if part.kind == "lance":
            return self._lance.read(place, part, max_bytes)
        read = partial(self._blocks.read, place)
        return (tar_member if part.kind == "tar" else zip_member)(read, part, max_bytes)
