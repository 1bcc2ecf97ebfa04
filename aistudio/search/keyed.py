"""Reads a user's own table about rows of a run (relevance judgements, A/B pairs) and finds how it names the rows.

CSV (`.csv`), TSV (any other name) or Parquet (`.parquet`), the first two also with `.gz`. A row is named by `row_id`,
by `item_id` and `image_url` together, by `image_url` alone, or by any column of the user's that is stored with the
scores; `key` says which, where the file leaves a choice.
"""

import gzip
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.errors import ConfigError, StoreError
from aistudio.places import is_local, near_file
from aistudio.schema import RESERVED_COLUMNS
from aistudio.secrets import redact_credentials
from aistudio.store import Store, open_store

SEPARATOR = "\x1f"  # between the columns of a key; no address and no id holds it
_OURS = (("row_id",), ("item_id", "image_url"), ("image_url",))  # in this order, where the file has them


class KeyedTable(NamedTuple):
    """The file's lines as text, with the column `key`, and which columns of the scores that key is made of."""

    frame: pd.DataFrame
    columns: tuple[str, ...]


def read_keyed(
    path: str, setting: str, needed: Sequence[str], optional: Sequence[str], key: Sequence[str],
    stored: Collection[str], store: Store,
) -> KeyedTable:  # fmt: skip
    """Read the table.

    Args:
        path: of the file, local or S3.
        setting: its name in messages, e.g. `metrics.qrels`.
        needed: columns that it must have beside the key.
        optional: further columns that are no key.
        key: columns that name a row; empty: found by the file's columns.
        stored: columns of the score files.
        store: whose settings open S3.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or does not say which rows it means.
    """
    frame = read_text_table(path, setting, store)
    missing = [c for c in needed if c not in frame]
    if missing:
        wanted = ", ".join([*needed, "row_id", *optional])
        raise ConfigError(
            f"{setting}: {path}: needs columns {wanted}; found {list(frame.columns)}. "
            "In place of row_id: item_id and image_url, or a column of your own that is stored with the scores"
        )
    columns = key_columns(path, setting, [str(c) for c in frame], (*needed, *optional), key, stored)
    parts = [frame[c].map(redact_credentials) if c == "image_url" else frame[c] for c in columns]
    joined = parts[0].copy()
    for part in parts[1:]:
        joined = joined + SEPARATOR + part
    return KeyedTable(frame.assign(key=joined), columns)


def row_keys(values: dict[str, pa.Array], columns: Sequence[str]) -> pa.Array:
    """Return the keys of stored rows, from the columns that make a key: string, null where one of them is null."""
    texts = [values[c].cast(pa.string()) for c in columns]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, SEPARATOR)


def key_columns(
    path: str, setting: str, columns: Sequence[str], used: Sequence[str], key: Sequence[str], stored: Collection[str]
) -> tuple[str, ...]:  # fmt: skip
    """Say which columns of a file name the rows: `key` where it is given, else found by their names.

    Args:
        columns: of the file, of which `used` are no key.
        stored: columns of the score files.

    Raises:
        ConfigError: as `read_keyed`.
    """
    has = [c for c in columns if c not in used]
    if key:
        for c in key:
            if c not in columns or c not in stored:
                where = f"the file has {list(columns)}" if c not in columns else f"the run has {sorted(stored)}"
                raise ConfigError(f"{setting}_key: {c} is not a column of both {path} and the scores: {where}")
        return tuple(key)
    for ours in _OURS:
        if set(ours) <= set(has):
            return ours
    own = [c for c in has if c in stored and c not in RESERVED_COLUMNS]
    if len(own) == 1:
        return (own[0],)
    found = f"several could: {', '.join(own)}; say which with {setting}_key" if own else f"found {list(columns)}"
    raise ConfigError(
        f"{setting}: {path}: needs a column that names the row: row_id, item_id and image_url, or one of your own that "
        f"is stored with the scores; {found}"
    )


def read_text_table(path: str, setting: str, store: Store) -> pd.DataFrame:
    """Return a CSV, TSV or Parquet file, local or on S3, with every value as text, null as "".

    Raises:
        ConfigError: the file, `setting` in the message, cannot be read.
    """
    if is_local(path) and not Path(path).exists():
        raise ConfigError(f"{setting}: {path}: no such file{near_file(Path(path))}")
    folder, _, name = path.rpartition("/")
    folder = folder or ("/" if path.startswith("/") else ".")
    try:
        with open_store(folder, store.settings).open(name) as stream:
            plain = name.removesuffix(".gz")
            f = cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if plain != name else stream
            if plain.endswith(".parquet"):
                return _text_columns(pq.read_table(f))
            separator = "," if plain.endswith(".csv") else "\t"
            return pd.read_csv(
                f, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
            )
    except (StoreError, OSError, EOFError, ValueError, pa.ArrowException) as e:
        raise ConfigError(f"{setting}: {path}: cannot be read: {e}") from None


def _text_columns(table: pa.Table) -> pd.DataFrame:
    """Every column as text, null as "": what a CSV file would hold. Nested columns are left out."""
    columns = {}
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if not pa.types.is_nested(field.type):
            columns[field.name] = pc.fill_null(column.cast(pa.string()), "").to_pylist()
    return pd.DataFrame(columns, dtype=object)
