"""Manifests that are Lance data sets: folders on a disk or in a bucket, read at the version that was the newest.

Texts, addresses and a column of pictures are what they are in Parquet. A column of pictures is not read here: each gets
an address that says in which row of which version it lies (images/_lance_rows.py reads it).
"""

import glob
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from aistudio.catalogue import Batch, Columns, columns_of_schema, pictures_in, records_batch, wanted_columns
from aistudio.config import ManifestSettings, StoreSettings
from aistudio.errors import ManifestError, StoreError
from aistudio.hub_files import in_hub
from aistudio.lance_data import VERSIONS, LanceError, Version, is_blob, lance_errors, open_lance, schema_of
from aistudio.parts import Part, part_address
from aistudio.places import in_bucket, near_file
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.manifest_walk import expand_braces, matches
from aistudio.store import open_store

_BATCH_ROWS = 1000
_PEEKED = 64  # values of a column of bytes that are looked at
_PEEKED_ROWS = 16  # at a time
_BUFFER_BYTES = 64 << 20  # read ahead of a scan, at most


class Head(NamedTuple):
    """The first records of a data set, without its pictures."""

    table: pa.Table
    pictures: str  # the column that holds them, "" for none


def list_lance(settings: ManifestSettings, store: StoreSettings) -> list[InputFile]:
    """Return the data sets that the paths mean: one itself, those directly in a folder, or those that fit a pattern.

    Raises:
        ManifestError: nothing there, no library, or it cannot be opened.
    """
    patterns = [settings.path] if isinstance(settings.path, str) else settings.path
    if not patterns:
        raise ManifestError("manifest.path: an empty list; expected a Lance data set, a folder of them or a pattern")
    files: list[InputFile] = []
    for pattern in [one for given in patterns for one in expand_braces(given)]:
        if pattern.startswith(("http://", "https://")) or in_hub(pattern):
            raise ManifestError(
                f"manifest.path: {pattern}: a Lance data set is a folder, read from a disk or a bucket; copy it there"
            )
        found = _in_bucket(pattern, store) if in_bucket(pattern) else _local(pattern)
        if not found:
            raise ManifestError(f"manifest.path: {pattern}: no Lance data set there (a folder with {VERSIONS}/)")
        for address in found:
            version = _opened(address, store)
            files.append(InputFile(address, version.num_bytes, version.checksum))
    return files


def inspect_lance(file: InputFile, settings: ManifestSettings, store: StoreSettings) -> Columns:
    """Columns by the data set's schema. Raises ManifestError as `catalogue.inspect_manifest` of a Parquet file."""
    version = _same(file, store)
    schema = schema_of(version.data)
    return columns_of_schema(schema, settings, file.shown, _pictures(version, schema, file, settings))


def read_lance(
    file: InputFile,
    settings: ManifestSettings,
    columns: Columns,
    store: StoreSettings,
    *,
    id_prefix: str = "",
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[Batch]:
    """Yield all rows as batches; memory does not grow with the data set. A record's number is its place in the version.

    Raises:
        ManifestError: another data set than when it was found, a damaged one, or other columns than `columns`.
    """
    version = _same(file, store)
    wanted = wanted_columns(schema_of(version.data), columns, file.shown)
    picture = partial(_address, file.path, columns.inline, version.mark)
    record = 1
    tables = _tables(version, wanted, batch_rows)
    while True:
        try:
            with lance_errors(file.shown):
                table = next(tables, None)
        except LanceError as e:
            what = "damaged Lance data set" if e.kind == "damaged" else "cannot be read"
            raise ManifestError(f"manifest.path: {what} after record {record - 1}: {e}") from None
        if table is None:
            return
        for start in range(0, table.num_rows, batch_rows):
            piece = table.slice(start, batch_rows)
            yield records_batch(piece, columns, file.shown, settings, record, id_prefix, picture)
            record += piece.num_rows


def _address(place: str, column: str, mark: str, record: int) -> str:
    return part_address(place, Part("lance", column, record, mark=mark))


def count_lance(file: InputFile, store: StoreSettings) -> int:
    """Count the rows. Raises ManifestError."""
    version = _same(file, store)
    try:
        with lance_errors(file.shown):
            return int(version.data.count_rows())
    except LanceError as e:
        raise ManifestError(f"manifest.path: {e}") from None


def head_of(file: InputFile, settings: ManifestSettings, store: StoreSettings, num: int) -> Head:
    """Return the first `num` records. Raises ManifestError."""
    version = _same(file, store)
    schema = schema_of(version.data)
    pictures = _pictures(version, schema, file, settings)
    names = [f.name for f in version.data.schema if f.name != pictures and not is_blob(f)]
    try:
        with lance_errors(file.shown):
            table = version.data.scanner(columns=names, limit=num).to_table() if names else pa.table({})
    except LanceError as e:
        raise ManifestError(f"manifest.path: {e}") from None
    return Head(table, pictures)


def _pictures(version: Version, schema: pa.Schema, file: InputFile, settings: ManifestSettings) -> str:
    def first_values(name: str) -> Iterator[pa.Array]:
        try:
            with lance_errors(file.shown):
                scanner = version.data.scanner(columns=[name], limit=_PEEKED, batch_size=_PEEKED_ROWS)
                found = [batch.column(0) for batch in scanner.to_batches()]
        except LanceError as e:
            raise ManifestError(f"manifest.path: column {name!r}: {e}") from None
        yield from found

    return pictures_in(schema, first_values, file.shown, settings)


def _tables(version: Version, wanted: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    if wanted:
        scanner: Any = version.data.scanner(
            columns=wanted, batch_size=batch_rows, batch_readahead=2, fragment_readahead=1, scan_in_order=True,
            io_buffer_size=_BUFFER_BYTES,
        )  # fmt: skip
        yield from scanner.to_batches()
        return
    left = version.data.count_rows()  # nothing but pictures, which are not read here
    while left > 0:
        num = min(left, batch_rows)
        yield pa.RecordBatch.from_struct_array(pa.array([{}] * num, pa.struct([])))
        left -= num


def _opened(address: str, store: StoreSettings) -> Version:
    try:
        return open_lance(address, store)
    except StoreError as e:
        raise ManifestError(f"manifest.path: {e}") from None


def _same(file: InputFile, store: StoreSettings) -> Version:
    """The newest version, if it has the files that it had when it was found."""
    version = _opened(file.path, store)
    if version.checksum != file.version:
        raise ManifestError(f"manifest.path: {file.shown}: changed while the run was starting; start again")
    return version


def _local(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.is_dir():
        found = [path] if _is_lance(path) else sorted(p for p in path.iterdir() if p.name[0] != "." and _is_lance(p))
    elif path.exists():
        raise ManifestError(f"manifest.path: {pattern}: a file; a Lance data set is a folder")
    elif glob.has_magic(pattern):
        found = sorted(Path(p) for p in glob.glob(pattern, recursive=True) if _is_lance(Path(p)))  # noqa: PTH207
    else:
        raise ManifestError(f"manifest.path: {pattern}: no such folder{near_file(path)}")
    return [str(p.absolute()) for p in found]


def _is_lance(path: Path) -> bool:
    return (path / VERSIONS).is_dir()


def _in_bucket(pattern: str, settings: StoreSettings) -> list[str]:
    scheme, _, rest = pattern.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.rstrip("/")
    parts = key.split("/")
    fixed = key[: min((key.find(c) for c in "*?[" if c in key), default=len(key))]
    try:
        keys = [e.key for e in open_store(f"{scheme}://{bucket}", settings).list(fixed)]
    except StoreError as e:
        raise ManifestError(f"manifest.path: {pattern}: cannot be listed: {e}") from None
    roots = sorted({head for head, mark, _ in (k.rpartition(f"/{VERSIONS}/") for k in keys) if mark and head})
    if key in roots:
        found = [key]
    elif glob.has_magic(key):
        found = [root for root in roots if matches(root.split("/"), parts)]
    else:
        found = [root for root in roots if root.rpartition("/")[0] == key]
    return [f"{scheme}://{bucket}/{root}" for root in found]
