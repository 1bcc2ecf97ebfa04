"""Some rows of a manifest that stand for all of it, spread over the beginnings of up to eight of its files."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue import DATASET_FORMATS, Columns, folder_candidates, inspect_manifest, read_manifest
from aistudio.config import JobConfig
from aistudio.errors import ManifestError
from aistudio.runs.dataset_files import dataset_batches
from aistudio.runs.manifest_files import InputFile, list_images, open_input
from aistudio.runs.manifest_lance import count_lance, inspect_lance, read_lance
from aistudio.runs.manifest_sql import count_sql, find_sql, read_sql
from aistudio.runs.picture_files import HeldPictures, LeftOut
from aistudio.runs.snapshot import FIRST_FILE_DECIDES, find_manifest
from aistudio.schema import SOURCE_FIELDS
from aistudio.secrets import redact

if TYPE_CHECKING:
    from aistudio.pipeline.score import Prepared

_FILES = 8  # manifest files looked into
_ROWS_PER_FILE = 20_000  # of each, to choose from
_ROWS_PER_ARCHIVE = 2_000  # of a tar, whose samples lie far apart
_PICTURE_BYTES = 256_000_000  # of a database's pictures, to choose from
_COUNT_BYTES = 8_000_000  # of each, counted on; readers of compressed files read up to a megabyte ahead


class Sample(NamedTuple):
    """Rows for the probe and the size of what they stand for."""

    rows: pa.Table  # candidate columns but row_id, then the passthrough columns
    total: int  # rows of the whole manifest
    exact: bool  # counted, not estimated from the files' sizes


def take_sample(prepared: "Prepared", num_rows: int, *, look: bool = False) -> Sample:
    """Rows spread evenly over what is looked at.

    Args:
        look: nobody wants the pictures of these rows: of those that only a run can copy the address is "".

    Raises:
        ManifestError: there is no row, or no picture of it outside a run.
    """
    config = prepared.config
    if config.manifest.format == "folder":
        tables, total, exact = _from_folder(config)
    elif config.manifest.format in DATASET_FORMATS:
        tables = [batch.candidates for batch in dataset_batches(config)]
        total, exact = sum(t.num_rows for t in tables), True
    elif config.manifest.format == "sql":
        tables, total, exact = _from_database(config, look)
    else:
        tables, total, exact = _from_files(config, prepared.files, look)
    if not tables:
        raise ManifestError(redact(f"manifest.path: {config.manifest.path}: no usable row for a probe"))
    rows = pa.concat_tables(tables, promote_options="default")
    limit = config.manifest.limit
    if limit is not None:
        total, rows = min(total, limit), rows.slice(0, limit)
    num_rows = min(num_rows, rows.num_rows)
    chosen = [(2 * i + 1) * rows.num_rows // (2 * num_rows) for i in range(num_rows)]
    rows = rows.drop_columns(["row_id", *(f.name for f in SOURCE_FIELDS)])
    return Sample(rows.take(pa.array(chosen)), max(total, num_rows), exact)


def _from_folder(config: JobConfig) -> tuple[list[pa.Table], int, bool]:
    root, paths = list_images(config.manifest, config.store)
    tables = [batch.candidates for batch in folder_candidates(paths, root, config.manifest)]
    return tables, sum(t.num_rows for t in tables), True


def _from_database(config: JobConfig, look: bool) -> tuple[list[pa.Table], int, bool]:
    columns = find_sql(config.manifest)[1]
    held, tables, whole = HeldPictures(), list[pa.Table](), True
    for table in _first(read_sql(config.manifest, columns, pictures=LeftOut() if look else held), _ROWS_PER_FILE):
        tables.append(held.put_back(table) if columns.inline and not look else table)
        if held.num_bytes > _PICTURE_BYTES:
            whole = False
            break
    num_rows = sum(t.num_rows for t in tables)
    return tables, num_rows if whole and num_rows < _ROWS_PER_FILE else count_sql(config.manifest), True


def _from_files(config: JobConfig, files: list[InputFile], look: bool) -> tuple[list[pa.Table], int, bool]:
    step = max(1, math.ceil(len(files) / _FILES))
    columns = find_manifest(config)[1] if config.manifest.format in FIRST_FILE_DECIDES else None
    looked_at = files[::step]
    tables: list[pa.Table] = []
    rows = size = 0.0
    exact = len(looked_at) == len(files)
    for file in looked_at:
        found, num_rows, counted = _beginning(config, file, columns, look)
        tables += found
        rows, size, exact = rows + num_rows, size + max(file.size, 0), exact and counted
    if len(looked_at) < len(files):
        everything = sum(max(f.size, 0) for f in files)
        rows = rows * everything / size if size else rows * len(files) / len(looked_at)
    return tables, round(rows), exact


def _beginning(
    config: JobConfig, file: InputFile, columns: Columns | None, look: bool
) -> tuple[list[pa.Table], float, bool]:
    """First rows of a file; how many rows it has, and whether they were counted. `columns`: None: the file's own."""
    if config.manifest.format == "lance":
        own = inspect_lance(file, config.manifest, config.store)
        first = _first(read_lance(file, config.manifest, own, config.store), _ROWS_PER_FILE)
        return list(first), count_lance(file, config.store), True
    with open_input(file, config.store, config.download) as stream:
        if columns is None:
            columns = inspect_manifest(stream, file.shown, config.manifest)
            stream.seek(0)
        known = pq.ParquetFile(stream).metadata.num_rows if config.manifest.format == "parquet" else None
        stream.seek(0)
        batches = read_manifest(stream, file.shown, config.manifest, columns, place="" if look else None)
        most = _ROWS_PER_ARCHIVE if config.manifest.format == "webdataset" else _ROWS_PER_FILE
        tables = list(_first(batches, most))
        num_rows = sum(t.num_rows for t in tables)
        if known is not None:
            return tables, known, True
        ended = num_rows < most
        while not ended and (stream.tell() < _COUNT_BYTES or config.manifest.format == "zip"):
            batch = next(batches, None)
            ended = batch is None
            num_rows += batch.candidates.num_rows if batch else 0
        if ended or file.size <= 0:
            return tables, num_rows, ended
        return tables, num_rows / stream.tell() * file.size, False


def _first(batches: Iterator[Any], num_rows: int) -> Iterator[pa.Table]:
    found = 0
    for batch in batches:
        if batch.candidates.num_rows:
            yield batch.candidates
        found += batch.candidates.num_rows
        if found >= num_rows:
            return
