"""Column names, Arrow schemas of every hop and the status codes: the data contract in one place.

Nothing here reads or computes anything. A column is written down once, here, with its type and meaning.
"""

import re
from enum import StrEnum

import pyarrow as pa


class Status(StrEnum):
    """Outcome of one manifest row. Never null; everything but `ok` comes with an `error` text."""

    OK = "ok"
    HTTP_ERROR = "http_error"  # the server answered with an error; see http_status
    TIMEOUT = "timeout"  # connect, read or total time limit
    CONNECTION_ERROR = "connection_error"  # refused, reset, closed early, not HTTP
    DNS_ERROR = "dns_error"
    TLS_ERROR = "tls_error"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TOO_LARGE = "too_large"  # more than download.max_bytes, on the wire or after decompression
    EMPTY = "empty"  # a good answer without a body
    BLOCKED_ADDRESS = "blocked_address"  # loopback, link-local or private address
    BAD_URL = "bad_url"  # not a URL, or a scheme that is not allowed
    NOT_FOUND = "not_found"  # local path or S3 key
    ACCESS_DENIED = "access_denied"  # local path or S3 key
    NOT_AN_IMAGE = "not_an_image"  # HTML, JSON, noise, ...
    TRUNCATED_IMAGE = "truncated_image"
    UNSUPPORTED_IMAGE = "unsupported_image"  # an image that cannot be decoded here
    IMAGE_TOO_LARGE = "image_too_large"  # more pixels than images.max_pixels
    MODEL_ERROR = "model_error"


# The candidate table: what every manifest becomes, whatever its format.
CANDIDATE_FIELDS: tuple[pa.Field, ...] = (
    # Unique in the manifest: <file prefix><line or record>[:<position in the list>], or mapped; of a folder, the path.
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("item_id", pa.string(), nullable=False),
    pa.field("image_url", pa.string(), nullable=False),
    pa.field("fallback_url", pa.string()),
    pa.field("text", pa.string(), nullable=False),  # "" when the manifest has none
    pa.field("poi_names", pa.string()),  # comma-joined, as the ranking model wants them
)
CANDIDATE_COLUMNS: tuple[str, ...] = tuple(f.name for f in CANDIDATE_FIELDS)

# Where a row came from, counted as in REJECTED_SCHEMA. Stored with the manifest's own columns, before them; runs made
# by earlier versions lack these.
SOURCE_FIELDS: tuple[pa.Field, ...] = (
    pa.field("source_file", pa.string(), nullable=False),  # a folder of images: the folder
    pa.field(
        "source_line", pa.int64(), nullable=False
    ),  # from 1: line; Parquet: record; folder: place among the images
    pa.field("image_position", pa.int32()),  # from 1: place in the item's list of images; null: there is no list
)

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line_number", pa.int64(), nullable=False),  # 1-based line (record number for Parquet)
        pa.field("raw", pa.string(), nullable=False),  # at most 10,000 characters
        pa.field("reason", pa.string(), nullable=False),
    ]
)

# What scoring adds to a candidate row, in the order in which it is stored.
OUTCOME_FIELDS: tuple[pa.Field, ...] = (
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("http_status", pa.int32()),
    pa.field("num_bytes", pa.int64()),
    pa.field("final_url", pa.string()),  # only when it differs from image_url (redirect, fallback)
    pa.field("width", pa.int32()),  # of the original image, pixels
    pa.field("height", pa.int32()),
    pa.field("content_hash", pa.string()),  # sha256 of the file's bytes, hex
    pa.field("recall_score", pa.float32()),  # cosine of the row's image and its own text
    pa.field("rank_score", pa.float32()),
)
VECTOR_COLUMNS = ("embedding", "rank_embedding")  # fixed_size_list; the second only when towers differ
THUMBNAIL_FIELD = pa.field("thumbnail", pa.binary())  # JPEG file

RESERVED_COLUMNS: frozenset[str] = frozenset(
    (
        *CANDIDATE_COLUMNS,
        *(f.name for f in SOURCE_FIELDS),
        *(f.name for f in OUTCOME_FIELDS),
        *VECTOR_COLUMNS,
        THUMBNAIL_FIELD.name,
    )
)
# Names kept free for columns to come: a new run stores no column of the user's under them.
_KEPT_FREE = re.compile(r"(embedding|crop|source)_.*|reused|etag|last_modified")


def passthrough_name(column: str) -> str:
    """Name under which a manifest column of the user's is stored.

    A column named like one of ours (`width`, `status`, ...), or like one that may come, is kept as `manifest_<name>`.
    """
    return f"manifest_{column}" if column in RESERVED_COLUMNS or _KEPT_FREE.fullmatch(column) else column


def vector_type(dim: int, dtype: str = "float32") -> pa.DataType:
    """`fixed_size_list<float32 or float16, dim>`: keeps its width for readers without Ray."""
    return pa.list_({"float32": pa.float32(), "float16": pa.float16()}[dtype], dim)


def candidate_schema(passthrough: list[pa.Field]) -> pa.Schema:
    """Schema of the manifest snapshot: the candidate columns, then SOURCE_FIELDS and the passthrough columns."""
    return pa.schema([*CANDIDATE_FIELDS, *passthrough])


def score_schema(
    passthrough: list[pa.Field], dim: int, dtype: str = "float32", rank_dim: int | None = None
) -> pa.Schema:
    """Schema of a score file.

    Args:
        passthrough: the manifest's own columns.
        dim: width of `embedding`.
        dtype: stored type of the vectors, "float32" or "float16".
        rank_dim: width of `rank_embedding` when the ranking model has an image tower of its own, else None.
    """
    vectors = [pa.field("embedding", vector_type(dim, dtype))]
    if rank_dim is not None:
        vectors.append(pa.field("rank_embedding", vector_type(rank_dim, dtype)))
    return pa.schema([*CANDIDATE_FIELDS, *OUTCOME_FIELDS, *vectors, THUMBNAIL_FIELD, *passthrough])


def text_schema(dim: int) -> pa.Schema:
    """Schema of texts/*.parquet: one row per distinct text of a shard and its recall-model vector."""
    return pa.schema([pa.field("text", pa.string(), nullable=False), pa.field("embedding", vector_type(dim))])


def poi_table_schema(dim: int) -> pa.Schema:
    """Schema of a POI table (one row per POI name): vectors are null and counts zero where unknown."""
    return pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("image_vector", vector_type(dim)),
            pa.field("name_vector", vector_type(dim)),
            pa.field("counts", pa.list_(pa.int64(), 3)),  # n0, n1, n2 of the paper
        ]
    )
