"""Pictures that workers cannot read where they are, copied into the run while the manifest is read.

Those of a database, whose password the workers lack, go into Parquet files of some dozen MB below
`manifest_pictures/`, as they came; a row's address says in which row of which file. A picture of more than
download.max_bytes is not copied: its address says how large it was. Archives at web addresses, which would have to be
asked for piece by piece, are kept as they are.
"""

import io
import uuid
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.errors import ManifestError
from aistudio.parts import Part, part_address
from aistudio.runs import layout
from aistudio.store import Store

COLUMN = "image"
FILE_BYTES = 64 << 20
_GROUP_ROWS = 64  # of a row group, which is decoded from its beginning
_SCHEMA = pa.schema([(COLUMN, pa.large_binary())])


class Pictures(Protocol):
    """Takes pictures while a manifest is read."""

    def add(self, values: pa.Array) -> list[str]:
        """Take a column of bytes and return the address of each value."""

    def keep(self, stream: BinaryIO, kind: str) -> str:
        """Copy a whole file of a kind (its ending) and return its place; the stream ends up anywhere."""


class PictureFiles:
    """Writes the pictures of one group of manifest files, in bounded memory."""

    def __init__(self, store: Store, group: str, max_bytes: int, file_bytes: int = FILE_BYTES) -> None:
        self._store, self._group, self._max_bytes, self._file_bytes = store, group, max_bytes, file_bytes
        self._token = uuid.uuid4().hex[:8]
        self._num_files = self._rows = 0
        self._sink = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def add(self, values: pa.Array) -> list[str]:
        """See Pictures. The files are there when `finish` has returned."""
        addresses: list[str] = []
        held: list[Any] = []
        num_bytes = 0
        for value in values:
            data = value.as_buffer()
            size = 0 if data is None else data.size
            kept = 0 < size <= self._max_bytes
            held.append(data.to_pybytes() if kept else None)
            num_bytes += size if kept else 0
            too_large = 0 if kept else size
            part = Part("row", COLUMN, self._rows + len(held), too_large)
            addresses.append(part_address(self._store.path(self._key()), part))
            if num_bytes >= self._file_bytes:
                self._write(held)
                held, num_bytes = [], 0
        self._write(held)
        return addresses

    def keep(self, stream: BinaryIO, kind: str) -> str:
        """See Pictures. Raises StoreError."""
        self._remove_earlier()
        key = self._key(kind)
        self._store.write_file(key, stream)
        self._num_files += 1
        return self._store.path(key)

    def finish(self) -> None:
        """Write the file that is not full yet."""
        if self._writer is None:
            return
        self._writer.close()
        self._remove_earlier()
        self._store.write_bytes(self._key(), self._sink.getvalue())
        self._writer, self._sink = None, io.BytesIO()
        self._num_files, self._rows = self._num_files + 1, 0

    def _key(self, kind: str = "parquet") -> str:
        """The key of the next file."""
        return layout.picture_key(self._group, self._token, self._num_files, kind)

    def _remove_earlier(self) -> None:
        """Before the first file: remove those of a task that was killed while it read the same group."""
        if self._num_files == 0:
            for entry in self._store.list(layout.picture_prefix(self._group)):
                self._store.delete(entry.key)

    def _write(self, held: list[Any]) -> None:
        if not held:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._sink, _SCHEMA, compression="none", use_dictionary=False, write_page_checksum=True,
                write_statistics=False,
            )  # fmt: skip
        self._writer.write_table(pa.table([pa.array(held, pa.large_binary())], schema=_SCHEMA), _GROUP_ROWS)
        self._rows += len(held)
        if self._sink.tell() >= self._file_bytes:
            self.finish()


class HeldPictures:
    """Keeps pictures in memory, for a handful of rows; `put_back` makes them a column again."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._held: list[bytes | None] = []

    def add(self, values: pa.Array) -> list[str]:
        """See Pictures; the addresses mean something to `put_back` alone."""
        first = len(self._held)
        self._held += values.to_pylist()
        self.num_bytes += values.nbytes
        return [str(n) for n in range(first, len(self._held))]

    def keep(self, stream: BinaryIO, kind: str) -> str:
        """Raises ManifestError: there is no run to copy into."""
        raise ManifestError(f"a {kind} at a web address is copied into a run; it cannot be probed: copy it to a disk")

    def put_back(self, table: pa.Table) -> pa.Table:
        """Return candidate rows with the pictures themselves, as Hugging Face's structs, in image_url."""
        at = table.column_names.index("image_url")
        images = [{"bytes": self._held[int(n)], "path": None} for n in table["image_url"].to_pylist()]
        kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
        return table.set_column(at, "image_url", pa.array(images, kind))


class LeftOut:
    """Takes no picture; for who looks at the other columns."""

    def add(self, values: pa.Array) -> list[str]:
        """See Pictures; the addresses are empty."""
        return [""] * len(values)

    def keep(self, stream: BinaryIO, kind: str) -> str:
        """See Pictures; the place is empty."""
        return ""
