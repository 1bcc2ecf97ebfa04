"""Manifests from a PostgreSQL database by ADBC: the rows of one SELECT, streamed as record batches.

The query runs in a transaction that can only read. Its rows are numbered as they come, so a query that says ORDER BY
gives the same row ids each time; a run keeps the rows of its first reading in its snapshot and never asks again. The
password is the driver's business alone: what is stored and shown lacks it. Pictures that are in the database itself (a
column of bytes) are therefore copied into the run while the rows are read (picture_files.py).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from aistudio.catalogue import Batch, Columns, columns_of_schema, records_batch
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.picture_files import Pictures
from aistudio.secrets import HIDDEN, redact
from aistudio.storable import error_text

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Cursor

_BATCH_BYTES = 4 << 20  # of a record batch, about
_BATCH_ROWS = 1000  # candidate rows per batch
_CONNECT_S = 20
_SIZE_HINT = "adbc.postgresql.batch_size_hint_bytes"


def find_sql(settings: ManifestSettings) -> tuple[InputFile, Columns]:
    """Return the entry of a query in a run (its address, no content), and its columns; no row is read.

    Raises:
        ManifestError: no driver, no connection, a query that cannot be run, or a missing column.
    """
    file = InputFile(str(settings.path), 0, "")
    with _cursor(settings) as cursor:
        schema = cursor.adbc_execute_schema(_query(settings))
    names = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    wanted = settings.columns.get("image_url", "image_url")
    if wanted not in names or schema.names.count(wanted) > 1:
        return file, columns_of_schema(schema, settings, file.shown)
    if settings.image_separator:
        raise ManifestError(f"{file.shown}: manifest.image_separator: {wanted!r} holds pictures, not addresses")
    return file, columns_of_schema(schema, settings, file.shown, str(wanted))


def read_sql(
    settings: ManifestSettings, columns: Columns, batch_rows: int = _BATCH_ROWS, pictures: Pictures | None = None
) -> Iterator[Batch]:
    """Yield the rows of the query as batches; memory does not grow with their number.

    Args:
        pictures: takes the pictures themselves, where image_url is a column of bytes; what gives their addresses.

    Raises:
        ManifestError: as find_sql, and where the database ends the query half-way.
    """
    file, record = InputFile(str(settings.path), 0, "").shown, 1
    if columns.inline and pictures is None:
        raise ManifestError(f"{file}: column {columns.inline!r} holds pictures, which only a run can copy")
    with _cursor(settings) as cursor:
        cursor.execute(_query(settings))
        try:
            for found in cursor.fetch_record_batch():
                for start in range(0, found.num_rows, batch_rows):
                    piece = found.slice(start, batch_rows)
                    picture: Callable[[int], str] | None = None
                    if columns.inline and pictures is not None:
                        picture = partial(_address, pictures.add(piece.column(columns.inline)), record)
                        piece = piece.drop_columns([columns.inline])
                    yield records_batch(piece, columns, file, settings, record, "", picture)
                    record += piece.num_rows
        finally:
            cursor.adbc_cancel()  # who stops early waits for no further row


def _address(addresses: Sequence[str], first: int, record: int) -> str:
    return addresses[record - first]


def count_sql(settings: ManifestSettings) -> int:
    """Count the query's rows in the database. Raises as find_sql."""
    with _cursor(settings) as cursor:
        cursor.execute(f"SELECT count(*) FROM ({_query(settings)}) AS counted")
        return int(cursor.fetchone()[0])  # type: ignore[index]


def _query(settings: ManifestSettings) -> str:
    """The query as one statement."""
    return (settings.query or "").rstrip().rstrip(";")


@contextmanager
def _cursor(settings: ManifestSettings) -> Iterator["Cursor"]:
    """A cursor in a transaction that only reads; every failure of the database is a ManifestError."""
    try:
        import adbc_driver_postgresql.dbapi as postgresql
        from adbc_driver_manager.dbapi import Error
    except ImportError as e:
        what = (e.name or "it").partition(".")[0]
        raise ManifestError(
            f"manifest.format sql needs a driver ({what} is not installed): pip install 'aistudio-catalogue[sql]'"
        ) from None
    uri = str(settings.path)
    try:
        with postgresql.connect(_with_timeout(uri)) as connection:
            with connection.cursor() as setting:
                setting.execute("SET TRANSACTION READ ONLY")
            with connection.cursor(adbc_stmt_kwargs={_SIZE_HINT: str(_BATCH_BYTES)}) as cursor:
                yield cursor
    except (Error, pa.ArrowException, OSError) as e:
        raise ManifestError(f"manifest.path: {redact(uri)}: {_reason(e, uri)}") from None


def _with_timeout(uri: str) -> str:
    """The address with a limit for connecting, where it names none."""
    if "connect_timeout=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}connect_timeout={_CONNECT_S}"


def _reason(e: Any, uri: str) -> str:
    """Say why in a few lines' length, without the password: libpq quotes an address that it cannot read."""
    text = error_text(redact(str(e)), 1000)
    for secret in _secrets(uri):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> list[str]:
    """Passwords of an address, however they are spelt there."""
    rest = uri.partition("://")[2]
    netloc = re.split("[/?#]", rest)[0]
    user = (netloc if "@" in netloc else rest).rpartition("@")[0]
    found = [user.partition(":")[2], *re.findall(r"password=([^&#]*)", rest)]
    return sorted({p for one in found for p in (one, unquote(one)) if p}, key=len, reverse=True)
