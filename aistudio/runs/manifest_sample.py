"""The first records of a manifest that nobody has described yet: format by its name, columns as they stand there."""

import csv
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from aistudio.catalogue.inline import picture_column
from aistudio.catalogue.lines import decompressed, plain_name
from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings
from aistudio.errors import ManifestError
from aistudio.runs.manifest_files import list_inputs, open_input
from aistudio.runs.manifest_lance import head_of, list_lance
from aistudio.values import table_rows

_FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".lance": "lance", ".tar": "webdataset", ".zip": "zip",
}  # fmt: skip
OWN_COLUMNS = ("folder", "webdataset", "zip")  # formats that know their columns themselves
_PACKED = (".gz", ".zst")
_MOST_CHARS = 16 << 20  # of the text looked at


class Sample(NamedTuple):
    """What the first records look like."""

    format: str
    names: list[str]
    rows: list[dict[str, Any]]
    pictures: str = ""  # column that holds the pictures themselves; it is in neither of the above


def format_of(path: str) -> str:
    """Return the format that a manifest's name says; `folder` for a folder of pictures.

    Raises:
        ManifestError: the name says nothing.
    """
    name = plain_name(path)
    for packed in _PACKED:
        name = name.removesuffix(packed)
    if found := next((known for ending, known in _FORMATS.items() if name.endswith(ending)), None):
        return found
    if "://" not in path and Path(path).is_dir():
        inside = sorted({format_of(p.name) for p in Path(path).iterdir() if plain_name(p.name).endswith(_ENDINGS)})
        return inside[0] if len(inside) == 1 else "folder"
    raise ManifestError(
        f"{path}: the name does not say what it is; known endings: {', '.join(_FORMATS)} (also .gz, .zst), or a folder"
    )


_ENDINGS = tuple(ending + packed for ending in _FORMATS for packed in ("", *_PACKED))


def sample(path: str, store: StoreSettings, num: int = 200) -> Sample:
    """Read up to `num` records. A record that cannot be read is left out.

    Raises:
        ManifestError: nothing there, or nothing in it that can be read.
    """
    kind = format_of(path)
    if kind in OWN_COLUMNS:
        return Sample(kind, [], [])
    settings = ManifestSettings.model_validate({"path": path, "format": kind})
    if kind == "lance":
        head = head_of(list_lance(settings, store)[0], settings, store, num)
        return Sample(kind, head.table.column_names, table_rows(head.table), head.pictures)
    file = list_inputs(settings, store, DownloadSettings())[0]
    with open_input(file, store, DownloadSettings()) as stream:
        if kind == "parquet":
            try:
                parquet = pq.ParquetFile(stream)
                pictures = picture_column(parquet, file.shown, settings)
                names = [name for name in parquet.schema_arrow.names if name != pictures]
                table = next(parquet.iter_batches(num, columns=names), None) if names else None
            except (OSError, ValueError) as e:  # pyarrow's errors are these
                raise ManifestError(f"{path}: not a Parquet file that can be read: {e}") from None
            rows = [] if table is None else table_rows(table)
            return Sample(kind, names, rows, pictures)
        text = io.TextIOWrapper(decompressed(stream, file.path), "utf-8-sig", "replace", newline="")
        lines = iter(lambda: text.readline(_MOST_CHARS), "")
        return _json(kind, lines, num) if kind == "jsonl" else _delimited(kind, path, lines, num)


def _json(kind: str, lines: Iterator[str], num: int) -> Sample:
    rows = []
    for line in itertools.islice(lines, num):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            rows.append(record)
    return Sample(kind, list(dict.fromkeys(name for row in rows for name in row)), rows)


def _delimited(kind: str, path: str, lines: Iterator[str], num: int) -> Sample:
    csv.field_size_limit(_MOST_CHARS)
    try:
        reader = csv.reader(lines, delimiter="\t" if kind == "tsv" else ",")
        header = next(reader, [])
        rows = [dict(zip(header, fields, strict=False)) for fields in itertools.islice(reader, num) if fields]
    except csv.Error as e:
        raise ManifestError(f"{path}: its first lines cannot be read: {e}") from None
    return Sample(kind, header, rows)
