"""The two doors of the room: `inspect_manifest` (what columns are there?) and `read_manifest` (all rows).

Each format's own rules stand in its own file.
"""

from collections.abc import Iterator
from typing import BinaryIO

from aistudio.catalogue.delimited import DELIMITERS, delimited_events, inspect_delimited
from aistudio.catalogue.folder import IMAGE_SUFFIXES
from aistudio.catalogue.jsonl import inspect_jsonl, jsonl_events
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, Lines
from aistudio.catalogue.pairs import inspect_pairs, pair_events
from aistudio.catalogue.parquet import inspect_parquet, read_parquet
from aistudio.catalogue.table import Batch, Columns, Event, batches
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError


def _with_compressed(*suffixes: str) -> tuple[str, ...]:
    return tuple(suffix + end for suffix in suffixes for end in ("", *COMPRESSED_SUFFIXES))


# Format -> file name endings (lower case) by which its files are found in a directory.
MANIFEST_SUFFIXES: dict[str, tuple[str, ...]] = {
    "poi_recall": _with_compressed(".csv"),
    "ranking_pairs": _with_compressed(".txt"),
    "csv": _with_compressed(".csv"),
    "tsv": _with_compressed(".tsv", ".tab"),
    "jsonl": _with_compressed(".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
    "folder": tuple(sorted(IMAGE_SUFFIXES)),
    "mitstates": (".jpg",),
    "fashion200k": (".txt",),
    "fashioniq": (".json",),
}


def inspect_manifest(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
    """Column mapping and passthrough fields of a manifest, from its head, header or Parquet schema alone.

    Passthrough types: string for CSV, TSV and JSON lines (see jsonl.py), the file's own for Parquet (nested and
    dictionary types: see parquet.py), the format's for poi_recall and ranking_pairs.

    Args:
        stream: the file's bytes, at their start; not closed. `.gz` and `.zst` by the name's ending.
        file: name used in messages.
        settings: format, column mapping, encoding; not for format `folder` and data sets.

    Raises:
        ManifestError: the file is empty, of another format or encoding, or lacks a column; the message names
            what was found and what was expected.
    """
    if settings.format == "parquet":
        return inspect_parquet(stream, file, settings)
    lines = Lines(stream, file, settings.encoding)
    if settings.format == "jsonl":
        return inspect_jsonl(lines, file, settings)
    if settings.format == "ranking_pairs":
        return inspect_pairs(lines, file, settings)
    _refuse_folders(file, settings)
    return inspect_delimited(lines, file, settings)


def read_manifest(
    stream: BinaryIO,
    file: str,
    settings: ManifestSettings,
    columns: Columns,
    *,
    batch_rows: int = 1000,
    id_prefix: str = "",
) -> Iterator[Batch]:
    """All rows of a manifest file as batches; memory does not grow with the file.

    Every record ends either in `candidates` (two rows for a ranking pair, else one) or in `rejected`, with its
    1-based physical line (a record of several lines: the first; Parquet: record number) and the reason. Empty
    lines are neither. row_id is `<id_prefix><line>` (ranking pairs: `<line>:a`, `<line>:b`; items with a list of
    images: `<line>:<position>`), or the column that `settings.columns` maps to row_id. URLs lose surrounding blanks
    only, and a text of blanks is "". An empty result yields nothing. `settings.limit` is the caller's business.

    Args:
        stream: the file's bytes, at their start; not closed. Parquet from a stream that cannot seek, or a
            compressed one, is copied to a temporary file first.
        file: name stored with rejects and used in messages; its ending tells the compression.
        settings: as given to `inspect_manifest`.
        columns: what `inspect_manifest` said of this file or of the manifest's first file.
        batch_rows: candidate rows per batch, about.
        id_prefix: put before the line's number, to keep ids of several files apart.

    Raises:
        ManifestError: the file as a whole is unusable, or lacks a column of `columns`.
    """
    if settings.format == "parquet":
        yield from read_parquet(stream, file, settings, columns, batch_rows, id_prefix)
        return
    lines = Lines(stream, file, settings.encoding)
    events: Iterator[Event]
    if settings.format == "jsonl":
        events = jsonl_events(lines, settings, columns)
    elif settings.format == "ranking_pairs":
        events = pair_events(lines, columns, id_prefix)
    else:
        _refuse_folders(file, settings)
        events = delimited_events(lines, file, settings, columns)
    yield from batches(events, columns, file, batch_rows, lines, id_prefix)


def _refuse_folders(file: str, settings: ManifestSettings) -> None:
    """Raises ManifestError for a format that is not one file: see folder_candidates and read_gallery."""
    if settings.format not in DELIMITERS:
        raise ManifestError(f"{file}: format {settings.format} is a folder of several files, not a manifest file")
