"""The only door to data paths, local or in a bucket: whole files in, whole files out, Parquet and JSON.

A file is either absent or complete under its name: local files are written beside, synced and renamed;
objects are one PUT. Nothing is ever moved in a bucket. `overwrite=False` makes the first writer win, which
is what commits and attempt numbers stand on. What the files mean is told by schema.py and the pipeline.
"""

import contextlib
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio._backends import Backend, Entry, LocalBackend, Ranges
from aistudio._ranges import BUFFER_BYTES, NOT_CONDITIONAL
from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.places import in_bucket, require_place
from aistudio.schema import with_list_vectors
from aistudio.storable import storable_text

__all__ = ["BUFFER_BYTES", "Entry", "Ranges", "Store", "open_store"]

# Vectors and JPEG files do not compress: trying costs a third of the write time and saves nothing.
_INCOMPRESSIBLE = re.compile(r"(rank_)?embedding(_\w+)?\.list\.element|thumbnail")


class Store:
    """Files below one root, addressed by keys such as `scores/00000-000001.parquet`. Picklable."""

    def __init__(self, root: str, settings: StoreSettings) -> None:
        self.root = root.rstrip("/") or root[:1]
        self.settings = settings
        self._backend = _backend_of(self.root, settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store, (self.root, self.settings))

    @property
    def is_local(self) -> bool:
        return isinstance(self._backend, LocalBackend)

    def path(self, key: str) -> str:
        """Full local path or URL of a key, for messages and links."""
        return f"{self.root}/{key}"

    def exists(self, key: str) -> bool:
        return self._backend.size(key) is not None

    def list(self, prefix: str) -> list[Entry]:
        """Files whose key starts with `prefix`, sorted by key; unfinished files are never listed."""
        return sorted(self._backend.list(prefix), key=lambda e: e.key)

    def read_bytes(self, key: str) -> bytes:
        """Raises StoreError when the file is missing or cannot be read."""
        return self._backend.read(key)

    def write_bytes(self, key: str, data: bytes, *, overwrite: bool = True) -> bool:
        """Write a whole file. With overwrite=False returns False, writing nothing, when the key exists.

        Raises:
            StoreError: full disk, denied, storage service out of reach after its retries.
        """
        return self._backend.write(key, data, overwrite)

    def write_file(self, key: str, stream: BinaryIO) -> None:
        """Write a whole file from a seekable stream, from its start; it is not held in memory.

        Raises:
            StoreError: as write_bytes; larger than what the service takes in one request.
        """
        stream.seek(0)
        self._backend.write_file(key, stream)

    def delete(self, key: str) -> None:
        """Remove a file; a missing one is no error."""
        self._backend.delete(key)

    def open(self, key: str, *, etag: str = "", buffer_bytes: int = BUFFER_BYTES) -> BinaryIO:
        """Seekable reader; of a bucket each read is one range request, all of the same object.

        Args:
            etag: of the object that is meant, as `list` gave it; "" for whatever is there.
            buffer_bytes: read at least so many at a time, of a bucket.

        Raises:
            ChangedError: another object is there, or takes its place while it is read (buckets).
            StoreError: missing, out of reach.
        """
        return self._backend.open(key, etag, buffer_bytes)

    def open_ranges(self, key: str) -> Ranges | None:
        """Reader of ranges for several threads at once, None where there is no such file. Raises StoreError."""
        return self._backend.ranges(key)

    def read_json(self, key: str) -> Any:
        try:
            return json.loads(self.read_bytes(key))
        except ValueError as e:
            raise StoreError(f"{self.path(key)}: not valid JSON: {e}") from None

    def write_json(self, key: str, value: Any, *, overwrite: bool = True) -> bool:
        """Write plain data as JSON (UTF-8). Texts become storable (storable.py), NaN and infinities null."""
        text = json.dumps(storable_json(value), ensure_ascii=False, indent=2, allow_nan=False)
        return self.write_bytes(key, (text + "\n").encode(), overwrite=overwrite)

    def read_table(self, key: str, columns: Sequence[str] | None = None, *, verify: bool = False) -> pa.Table:
        """Return a Parquet file as a table; columns that it lacks are left out, vectors come as schema.vector_field.

        Args:
            verify: also check every page's checksum.

        Raises:
            StoreError: missing, damaged or not Parquet.
        """
        with self.open(key) as f:
            try:
                file = pq.ParquetFile(f, page_checksum_verification=verify, pre_buffer=True)
                names = file.schema_arrow.names
                if columns is None:
                    return with_list_vectors(file.read())
                wanted = [c for c in columns if c in names]  # Arrow gives `status.x` too when asked for `status`
                return with_list_vectors(file.read(wanted).select(wanted))
            except (pa.ArrowException, OSError) as e:
                raise StoreError(f"{self.path(key)}: damaged or not Parquet: {e}") from None

    def read_metadata(self, key: str) -> tuple[pa.Schema, int, dict[str, str]]:
        """Schema, number of rows and our key-value metadata of a Parquet file, from its footer alone."""
        with self.open(key) as f:
            try:
                file = pq.ParquetFile(f)
            except (pa.ArrowException, OSError) as e:
                raise StoreError(f"{self.path(key)}: damaged or not Parquet: {e}") from None
            meta = file.schema_arrow.metadata or {}
            return file.schema_arrow, file.metadata.num_rows, {k.decode(): v.decode() for k, v in meta.items()}

    def write_table(
        self, key: str, table: pa.Table, metadata: Mapping[str, str] | None = None, *, overwrite: bool = True
    ) -> bool:
        """Write a table as one Parquet file with page checksums; `metadata` goes into the schema."""
        if metadata:
            ours = {k.encode(): v.encode() for k, v in metadata.items()}
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), **ours})
        sink = pa.BufferOutputStream()  # half the time of BytesIO, to which every page would go through Python
        compression = dict.fromkeys(_leaf_paths(table.schema), "zstd")
        compression |= {c: "none" for c in compression if _INCOMPRESSIBLE.fullmatch(c)}
        dictionary = [f.name for f in table.schema if pa.types.is_string(f.type)]
        pq.write_table(
            table, sink, compression=compression, use_dictionary=dictionary, write_page_checksum=True,
            write_statistics=dictionary,
        )  # fmt: skip
        return self.write_bytes(key, sink.getvalue().to_pybytes(), overwrite=overwrite)

    def sweep(self, prefix: str) -> None:
        """Remove the unfinished writes that killed processes left in a folder; only for who owns the folder."""
        self._backend.sweep(prefix)

    def check_writable(self) -> None:
        """Write and remove a probe file, the way commits are written.

        Raises:
            StoreError: that fails, or a second writer would have won: the service takes no notice of the condition.
        """
        key = f"_probe-{uuid.uuid4().hex}"
        try:
            self.write_bytes(key, b"aistudio", overwrite=False)
            if self.write_bytes(key, b"second", overwrite=False):
                raise StoreError(f"{self.root}: {NOT_CONDITIONAL}")
        finally:
            with contextlib.suppress(StoreError):  # not every user may delete; the first error counts
                self.delete(key)


def _backend_of(root: str, settings: StoreSettings) -> Backend:
    if root.startswith("s3://"):
        from aistudio._s3_backend import S3Backend  # boto3 takes a while to import, and most runs are local

        return S3Backend(root, settings)
    if in_bucket(root):
        from aistudio._object_backend import ObjectBackend

        return ObjectBackend(root, settings)
    return LocalBackend(root)


def storable_json(value: Any) -> Any:
    """Return plain data that any reader of JSON reads: no lone surrogate or NUL in a text, no NaN, no infinity."""
    if isinstance(value, str):
        return storable_text(str(value), max(1, 6 * len(value)))
    if isinstance(value, dict):
        return {storable_json(k): storable_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _leaf_paths(schema: pa.Schema) -> list[str]:
    return [
        f"{f.name}.list.element" if pa.types.is_fixed_size_list(f.type) or pa.types.is_list(f.type) else f.name
        for f in schema
    ]


def open_store(path: str, settings: StoreSettings | None = None) -> Store:
    """The store at a local folder (made when first written to) or in a bucket (`s3://bucket/prefix`, gs://, az://).

    Raises:
        ConfigError: another kind of place.
    """
    return Store(require_place("place", path), settings or StoreSettings())
