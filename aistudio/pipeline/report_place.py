"""Where a report's files go: `<run>/report/`, or a folder of the user's own (`--into`), e.g. here for a run on S3."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from aistudio.errors import ConfigError
from aistudio.places import require_place
from aistudio.reports.page import PAGES
from aistudio.runs import layout
from aistudio.store import Store, open_store

_WRITERS = 8  # small files written at once: on S3 a PUT is mostly waiting
_INDEX = "index.html"
_FOLDERS = ("assets/", "data/", "thumbs/", "changes/", "changes_csv/")
_MARK = "assets/app.js"  # a report has it; another folder with an index.html has not


class ReportPlace:
    """Writes files by their path inside the report; the files of an earlier report there go when this one is whole.

    Args:
        run: the run.
        into: folder or s3:// prefix; None: the run's own `folder`.
        folder: with a slash at its end; everything in it belongs to the report.

    Raises:
        ConfigError: `into` holds something else than a report.
    """

    def __init__(self, run: Store, into: str | None = None, folder: str = layout.REPORT) -> None:
        self.store = run if into is None else open_store(require_place("--into", into), run.settings)
        self._prefix = folder if into is None else ""
        self._written: set[str] = set()
        self._pool = ThreadPoolExecutor(_WRITERS)
        self._writes: list[Future[bool]] = []
        if into is not None and not self.store.exists(_MARK) and self._holds_anything():
            raise ConfigError(
                f"--into {into}: the folder holds other files and no report; name a new or an empty folder"
            )
        self._old = {key for key in self._keys() if self._is_ours(key)}

    @property
    def index(self) -> str:
        """Path of index.html."""
        return self.path(_INDEX)

    @property
    def folder(self) -> str:
        """Path of the report's folder."""
        return self.store.path(self._prefix).rstrip("/")

    def path(self, path: str) -> str:
        """Where a file of the report lies."""
        return self.store.path(f"{self._prefix}{path}")

    def size(self) -> int:
        """Bytes of all files of the report."""
        return sum(e.size for e in self.store.list(self._prefix) if self._is_ours(e.key))

    def put(self, path: str, data: bytes) -> None:
        """Write a file; in the background."""
        self._written.add(f"{self._prefix}{path}")
        self._writes.append(self._pool.submit(self.store.write_bytes, f"{self._prefix}{path}", data))

    def put_table(self, path: str, table: pa.Table) -> None:
        """Write a table as Parquet; in the background."""
        self._written.add(f"{self._prefix}{path}")
        self._writes.append(self._pool.submit(self.store.write_table, f"{self._prefix}{path}", table))

    def finish(self, index: bytes) -> None:
        """Wait for all files, write index.html last, so that it opens onto a whole report; clear what is left over."""
        for write in self._writes:
            write.result()
        self.store.write_bytes(f"{self._prefix}{_INDEX}", index)
        for key in self._old - self._written - {f"{self._prefix}{_INDEX}"}:
            self.store.delete(key)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _keys(self) -> list[str]:
        """Files that may be a report's; in a folder of the user's own nothing else is looked at."""
        if self._prefix:
            return [e.key for e in self.store.list(self._prefix)]
        pages = [f"{page}.html" for page in PAGES] + ["report.md"]
        found = [e.key for folder in _FOLDERS for e in self.store.list(folder)]
        return found + [key for key in pages if self.store.exists(key)]

    def _is_ours(self, key: str) -> bool:
        path = key.removeprefix(self._prefix)
        pages = path == "report.md" or path.removesuffix(".html") in PAGES
        return bool(self._prefix) or path.startswith(_FOLDERS) or pages

    def _holds_anything(self) -> bool:
        if self.store.is_local:
            folder = Path(self.store.root)
            return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        return bool(self.store.list(""))
