"""Answers of the API: results as JSON, CSV and Parquet, and where a result's original is."""

import io
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlencode, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from aistudio.reports.safe import csv_bytes, plain, safe_link
from aistudio.search.searcher import Found
from aistudio.serving.engine import Engine
from aistudio.store import storable_json
from aistudio.values import column_values, table_rows

HIDDEN = frozenset(["source_file"])  # paths of this machine
PLACES = frozenset(["image_url", "fallback_url", "final_url"])
OURS = ("rank", "item_id", "row_id", "score", "why")


class ResultAnswer(BaseModel):
    """One result."""

    rank: int
    item_id: str
    row_id: str
    score: float
    why: str
    thumbnail: str  # address on this server
    original: str | None  # where the picture itself is; null: only what is stored
    columns: dict[str, Any]


class SearchAnswer(BaseModel):
    """One page of results, best first."""

    index: str
    results: list[ResultAnswer]
    more: bool  # there are results behind them
    gallery_rows: int  # that pass the filter
    ms: float


class IndexAnswer(BaseModel):
    """A run's model that can be searched."""

    index: str
    run: str
    model: str
    kind: str
    rows: int
    dim: int
    asks: list[str]
    columns: list[str]


class FacetAnswer(BaseModel):
    """A column to filter by: choices with counts, or the ends of its range."""

    column: str
    choices: list[tuple[str, int]]
    min: float | None
    max: float | None


class PhotoAnswer(BaseModel):
    """An uploaded picture, kept for a while."""

    photo: str
    width: int | None
    height: int | None


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    error: str


def search_answer(engine: Engine, found: Found, columns: list[str] | None, seconds: float) -> SearchAnswer:
    """Return a page of results. Raises ConfigError for a column that is not held."""
    table = public_table(engine, found, columns)
    rows = [{k: v for k, v in row.items() if k not in OURS} for row in table_rows(table)]
    addresses = _addresses(engine, found)
    results = [
        ResultAnswer(
            rank=r.rank, item_id=r.item_id, row_id=r.row_id, score=r.score, why=r.why,
            thumbnail=address("/v1/thumbnail", engine, r.row_id), original=original(engine, r.row_id, url),
            columns=storable_json(plain(row)),
        )
        for r, row, url in zip(found.results, rows, addresses, strict=True)
    ]  # fmt: skip
    return SearchAnswer(
        index=engine.name,
        results=results,
        more=found.more,
        gallery_rows=found.gallery_rows,
        ms=round(1000 * seconds, 2),
    )


def public_table(engine: Engine, found: Found, columns: list[str] | None) -> pa.Table:
    """Return a page's results with stored columns, but no path of this machine: of a local picture only its name.

    Raises ConfigError for a column that is not held.
    """
    table = found.table([c for c in engine.searcher.columns if c not in HIDDEN] if columns is None else columns)
    for column in HIDDEN.intersection(table.column_names):
        table = table.drop_columns([column])
    for column in PLACES.intersection(table.column_names):
        shown = pa.array([_shown(value) for value in column_values(table[column])], pa.string())
        table = table.set_column(table.column_names.index(column), column, shown)
    return table


def _shown(place: Any) -> str | None:
    """An address as it is; of a path the file's name."""
    if place is None or str(place).startswith(("http://", "https://", "s3://")):
        return place if place is None else str(place)
    return PurePosixPath(str(place)).name


def _addresses(engine: Engine, found: Found) -> list[Any]:
    if "image_url" not in engine.searcher.columns:
        return [None] * len(found.results)
    return column_values(found.table(["image_url"])["image_url"])


def address(path: str, engine: Engine, row_id: str) -> str:
    """Return an address on this server that names a row."""
    return f"{path}?{urlencode({'in': engine.name, 'row': row_id}, errors='replace')}"


def original(engine: Engine, row_id: str, url: object) -> str | None:
    """Return where a result's original may be looked at: its web address, or ours for what lies on S3."""
    if (link := safe_link(url)) is not None:
        host = urlsplit(link).hostname or ""
        return None if host.endswith(".invalid") else link  # RFC 2606: nothing is ever there, as in the demo
    return address("/v1/original", engine, row_id) if str(url or "").startswith("s3://") else None


def csv_answer(engine: Engine, found: Found, columns: list[str] | None) -> bytes:
    """Return results as CSV for spreadsheets: UTF-8 with BOM, no cell can become a formula."""
    table = public_table(engine, found, columns)
    rows = table_rows(table)
    return csv_bytes(table.column_names, ([row[name] for name in table.column_names] for row in rows))


def parquet_answer(engine: Engine, found: Found, columns: list[str] | None) -> bytes:
    """Return results as Parquet, with the stored columns' types."""
    table = public_table(engine, found, columns)
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except pa.ArrowException:  # a type that Parquet does not have
        sink = io.BytesIO()
        texts = {
            n: pa.array([None if v is None else str(v) for v in column_values(table[n])]) for n in table.column_names
        }
        pq.write_table(pa.table(texts), sink)
    return sink.getvalue()
