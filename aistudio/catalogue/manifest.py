"""The two doors of the room: `inspect_manifest` (what columns are there?) and `read_manifest` (all rows).

Each format's own rules stand in its own file, and its two functions in _READERS.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from aistudio.catalogue.delimited import DELIMITERS, delimited_events, inspect_delimited
from aistudio.catalogue.folder import IMAGE_SUFFIXES
from aistudio.catalogue.jsonl import inspect_jsonl, jsonl_events
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, Lines
from aistudio.catalogue.pairs import inspect_pairs, pair_events
from aistudio.catalogue.parquet import inspect_parquet, read_parquet
from aistudio.catalogue.samples import inspect_archive, read_archive
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
    "webdataset": (".tar",),
    "zip": (".zip",),
    "sql": (),
    "lance": (".lance",),
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
        settings: format, column mapping, encoding; not for formats that are no file (`folder`, `sql`, `lance`, data
            sets).

    Raises:
        ManifestError: the file is empty, of another format or encoding, or lacks a column; the message names
            what was found and what was expected.
    """
    return _reader(file, settings).inspect(stream, file, settings)


def read_manifest(
    stream: BinaryIO,
    file: str,
    settings: ManifestSettings,
    columns: Columns,
    *,
    batch_rows: int = 1000,
    id_prefix: str = "",
    place: str | None = None,
) -> Iterator[Batch]:
    """All rows of a manifest file as batches; memory does not grow with the file.

    Every record ends either in `candidates` (two rows for a ranking pair, else one) or in `rejected`, with its
    1-based physical line (a record of several lines: the first; Parquet: record; archives: sample) and the reason.
    Empty lines are neither. row_id is `<id_prefix><line>` (ranking pairs: `<line>:a`, `<line>:b`; items with a list of
    images: `<line>:<position>`), or the column that `settings.columns` maps to row_id. URLs lose surrounding blanks
    only, and a text of blanks is "". An empty result yields nothing. `settings.limit` is the caller's business.

    Args:
        stream: the file's bytes, at their start; not closed. Parquet from a stream that cannot seek, or a
            compressed one, is copied to a temporary file first.
        file: name stored with rejects and used in messages; its ending names the compression.
        settings: as given to `inspect_manifest`.
        columns: what `inspect_manifest` said of this file or of the manifest's first file.
        batch_rows: candidate rows per batch, about.
        id_prefix: put before the line's number, to keep ids of several files apart.
        place: where the file lies for who reads pictures inside it; None: at `file`.

    Raises:
        ManifestError: the file as a whole is unusable, or lacks a column of `columns`; there are pictures inside a
            file that cannot be read in parts.
    """
    yield from _reader(file, settings).read(stream, file, settings, columns, batch_rows, id_prefix, place)


class _Reader(NamedTuple):
    """How one format is read: see inspect_manifest and read_manifest."""

    inspect: Callable[[BinaryIO, str, ManifestSettings], Columns]
    read: Callable[[BinaryIO, str, ManifestSettings, Columns, int, str, str | None], Iterator[Batch]]


def _of_lines(
    inspect: Callable[[Lines, str, ManifestSettings], Columns],
    events: Callable[[Lines, str, ManifestSettings, Columns, str], Iterator[Event]],
) -> _Reader:
    """The reader of a format of text lines."""

    def inspected(stream: BinaryIO, file: str, settings: ManifestSettings) -> Columns:
        return inspect(Lines(stream, file, settings.encoding), file, settings)

    def read(
        stream: BinaryIO,
        file: str,
        settings: ManifestSettings,
        columns: Columns,
        batch_rows: int,
        id_prefix: str,
        place: str | None,
    ) -> Iterator[Batch]:
        lines = Lines(stream, file, settings.encoding)
        yield from batches(
            events(lines, file, settings, columns, id_prefix), columns, file, batch_rows, lines, id_prefix
        )

    return _Reader(inspected, read)


_DELIMITED = _of_lines(inspect_delimited, lambda lines, f, s, columns, _: delimited_events(lines, f, s, columns))
_ARCHIVE = _Reader(inspect_archive, read_archive)
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(DELIMITERS, _DELIMITED),
    "jsonl": _of_lines(inspect_jsonl, lambda lines, _, s, columns, __: jsonl_events(lines, s, columns)),
    "ranking_pairs": _of_lines(
        inspect_pairs, lambda lines, _, __, columns, prefix: pair_events(lines, columns, prefix)
    ),
    "parquet": _Reader(inspect_parquet, read_parquet),
    "webdataset": _ARCHIVE,
    "zip": _ARCHIVE,
}


def _reader(file: str, settings: ManifestSettings) -> _Reader:
    """Raises ManifestError for a format that is not one file: see folder_candidates, read_gallery, records_batch."""
    if settings.format not in _READERS:
        raise ManifestError(f"{file}: format {settings.format} is a folder of several files, not a manifest file")
    return _READERS[settings.format]
