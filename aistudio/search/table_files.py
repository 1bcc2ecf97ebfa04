"""A user's own table as a stream of records: CSV, TSV, JSON lines or Parquet, local or S3, plain or compressed.

Leaves out: what the columns mean (query_table.py, given_table.py).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from aistudio.catalogue.lines import Lines, plain_name
from aistudio.catalogue.records import split_records
from aistudio.config import StoreSettings
from aistudio.errors import ConfigError, ManifestError, StoreError
from aistudio.storable import error_text
from aistudio.store import open_store

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def table_kind(place: str) -> str | None:
    """Return csv, tsv, jsonl or parquet, by the file's suffix (.gz and .zst left away); None for any other."""
    name = plain_name(place).removesuffix(".gz").removesuffix(".zst")
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)


@contextmanager
def opened_table(place: str, setting: str, settings: StoreSettings) -> Iterator[BinaryIO]:
    """Open the file for reading. What goes wrong within the block, too, is a ConfigError that names both."""
    try:
        folder, _, file = place.rpartition("/")
        with open_store(folder or ("/" if place.startswith("/") else "."), settings).open(file) as stream:
            yield stream
    except (StoreError, ManifestError, OSError, EOFError, pa.ArrowException) as e:
        raise ConfigError(f"{setting} {place}: cannot be read: {error_text(e)}") from None


def read_records(stream: BinaryIO, place: str, kind: str) -> Iterator[dict[str, Any] | str]:
    """Yield each record of a CSV, TSV or JSON lines file as a dict, or as the reason why it is none."""
    lines = Lines(stream, place)
    if kind == "jsonl":
        for line in lines:
            if line.problem is not None or line.text.strip():
                yield line.problem or _object(line.text)
        return
    header: list[str] | None = None
    for record in split_records(lines, "," if kind == "csv" else "\t"):
        if record.problem is not None:
            yield f"line {record.lines[0].number}: {record.problem}"
        elif header is None:
            header = [name.strip() for name in record.fields]
        elif len(record.fields) != len(header):
            yield f"line {record.lines[0].number}: {len(record.fields)} fields, expected {len(header)}"
        else:
            yield dict(zip(header, record.fields, strict=True))


def _object(text: str) -> dict[str, Any] | str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        return f"not valid JSON: {error_text(e)}"
    return value if isinstance(value, dict) else f"not a JSON object but {type(value).__name__}"
