"""Reads a query table: CSV, TSV, JSON lines or Parquet, local or S3, plain or compressed; or a data set's queries.

Columns: query_id (else the queries are numbered from 1), and any of text, image_url, row_id, item_id; `relevant` with
row ids or item ids as a list or separated by `|`; further columns are kept for filters. A line that cannot be used is a
query with a problem: it costs itself, never the search.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue import DATASET_FORMATS
from aistudio.catalogue import read_queries as read_dataset
from aistudio.config import JobConfig, ManifestSettings, StoreSettings
from aistudio.errors import ConfigError, ManifestError
from aistudio.runs.dataset_files import dataset_files
from aistudio.schema import has_text
from aistudio.search.searched import text_of
from aistudio.search.table_files import SUFFIXES, opened_table, read_records, table_kind
from aistudio.storable import storable_text
from aistudio.values import table_rows

ASKED_COLUMNS = ("text", "image_url", "row_id", "item_id")
SEPARATOR = "|"  # of several relevant ids in one text
MAX_CHARS = 10_000  # of a text or address


@dataclass(frozen=True)
class Query:
    """One line of a query table. `problem`: why it cannot be asked, None where it can."""

    query_id: str
    text: str | None = None
    image_url: str | None = None
    row_id: str | None = None
    item_id: str | None = None
    relevant: tuple[str, ...] | None = None  # None: not known
    values: Mapping[str, str | None] = field(default_factory=dict)  # further columns
    problem: str | None = None


@dataclass(frozen=True)
class QueryTable:
    """Queries with distinct ids, and the data set that they are of, if any."""

    queries: list[Query]
    dataset: str | None = None
    notes: tuple[str, ...] = ()


def read_query_table(place: str, config: JobConfig) -> QueryTable:
    """Read the queries of a file, or of `fashioniq:ROOT` and its like.

    A data set's split and categories are the run's manifest's where both come from the same data set: queries of
    the gallery that was scored, their texts as published for these categories.

    Args:
        config: of the run that is searched.

    Raises:
        ConfigError: no such file, not a table, or no column that could be asked with; a data set with another layout.
    """
    name, _, root = place.partition(":")
    return _dataset(name, root, config) if name in DATASET_FORMATS and root else read_own_queries(place, config.store)


def read_own_queries(place: str, settings: StoreSettings) -> QueryTable:
    """Read the queries of a CSV, TSV, JSON lines or Parquet file, local or on S3. Raises as `read_query_table`."""
    kind = _kind(place)
    with opened_table(place, "--queries", settings) as stream:
        rows = list(_parquet(stream) if kind == "parquet" else read_records(stream, place, kind))
    known = {column for row in rows if isinstance(row, dict) for column in row}
    if not known & set(ASKED_COLUMNS):
        raise ConfigError(
            f"--queries {place}: needs a column to ask with: {', '.join(ASKED_COLUMNS)}; found "
            f"{', '.join(sorted(known)[:20]) or 'no queries'}"
        )
    return QueryTable(_distinct([_query(number, row) for number, row in enumerate(rows, 1)]))


def _kind(place: str) -> str:
    if (kind := table_kind(place)) is not None:
        return kind
    sets = ", ".join(f"{name}:ROOT" for name in DATASET_FORMATS)
    raise ConfigError(f"--queries {place}: expected a file that ends in {', '.join(SUFFIXES)}, or {sets}")


def _dataset(name: str, root: str, config: JobConfig) -> QueryTable:
    same = config.manifest.format == name
    chosen = {key: getattr(config.manifest, key) for key in ("split", "categories", "encoding")} if same else {}
    asked = ManifestSettings.model_validate({"path": root, "format": name, **chosen})
    try:
        found = read_dataset(dataset_files(root, config.store), asked)
    except ManifestError as e:
        raise ConfigError(f"--queries {name}:{root}: {e}") from None
    queries = []
    for row in found.table.to_pylist():
        text = row["complete_text"] if config.search.text == "complete" else row["text"]
        values = {c: row[c] for c in ("category", "source_caption", "target_caption")}
        problem = None if text else f"{name} has no complete text (search.text)"
        relevant = None if row["relevant"] is None else tuple(row["relevant"])
        queries.append(Query(row["query_id"], text, None, row["row_id"], None, relevant, values, problem))
    notes = tuple(f"{count:,} queries of {name} left out: {reason}" for reason, count in found.left_out.items())
    return QueryTable(queries, name, notes)


def _parquet(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(stream).iter_batches(10_000):
        yield from table_rows(pa.Table.from_batches([batch]))


def _query(number: int, row: dict[str, Any] | str) -> Query:
    if isinstance(row, str):
        return Query(str(number), problem=row)
    asked = {c: _text(row.get(c)) for c in ("query_id", *ASKED_COLUMNS)}
    problem = None
    for column in ASKED_COLUMNS:
        if isinstance(row.get(column), list | dict):
            problem = f"{column} is not a text"
    text = asked["text"]
    if text is not None and not has_text(pa.array([text], pa.string()))[0].as_py():
        text = None
    if problem is None and not (text or asked["image_url"] or asked["row_id"] or asked["item_id"]):
        problem = f"nothing to ask with: {', '.join(ASKED_COLUMNS)} are all empty"
    if problem is None and text and asked["item_id"] and not (asked["image_url"] or asked["row_id"]):
        problem = "a text beside item_id needs one picture of the item, named by row_id or image_url"
    values = {c: _text(v) for c, v in row.items() if c not in ("query_id", "relevant", *ASKED_COLUMNS)}
    return Query(
        asked["query_id"] or str(number), text, asked["image_url"], asked["row_id"], asked["item_id"],
        _relevant(row.get("relevant")), values, problem,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    """A cell as storable text without blanks around it, None where it is empty."""
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else text_of(value)
    return storable_text((text or "").strip(), MAX_CHARS) or None


def _relevant(value: Any) -> tuple[str, ...] | None:
    """The ids of a cell: a list, its JSON, or texts separated by `|`; None for an empty cell."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return (value.strip(),)
    if isinstance(value, list):
        ids = [_text(v) for v in value]
    else:
        ids = [_text(part) for part in (text_of(value) or "").split(SEPARATOR)]
    found = tuple(dict.fromkeys(one for one in ids if one is not None))
    return found or (() if isinstance(value, list) else None)


def _distinct(queries: list[Query]) -> list[Query]:
    """Queries whose id was there before get a number behind it."""
    seen: set[str] = set()
    out = []
    for query in queries:
        name, number = query.query_id, 2
        while name in seen:
            name, number = f"{query.query_id}#{number}", number + 1
        seen.add(name)
        out.append(query if name == query.query_id else Query(**{**query.__dict__, "query_id": name}))
    return out
