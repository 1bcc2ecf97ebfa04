"""Column names, Arrow schemas of every hop and the status codes: the data contract in one place.

A column is written down once, here, with its type and meaning; so is the layout of vector columns, which
`vector_array` writes and `vector_matrix` reads. Nothing here reads files.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


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


class Reused(StrEnum):
    """Whether a row's picture was taken from the base run, and what showed that it is the same one."""

    NO = "no"
    URL = "url"  # its address; nothing was asked
    VALIDATORS = "validators"  # the server said that it has not changed
    CONTENT = "content"  # its bytes


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
    ),  # from 1: line; Parquet, SQL: record; archive: sample; folder: place among the images
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
    pa.field("recall_score", pa.float32()),  # cosine of the row's image and its own text; null without a text
    pa.field("rank_score", pa.float32()),
)
# What a later run takes a row over by (docs/run_folder.md); stored after the scores. Runs made by earlier versions lack
# these.
DELTA_FIELDS: tuple[pa.Field, ...] = (
    pa.field("etag", pa.string()),  # that the server gave with the picture
    pa.field("last_modified", pa.string()),  # likewise, as HTTP writes dates
    pa.field("reused", pa.string(), nullable=False),  # of the base run: no, url, validators or content (Reused)
)
EMBEDDING = "embedding"  # of the recall model
RANK_EMBEDDING = "rank_embedding"  # of the ranking model, when its image tower is its own
ENCODER_PREFIX = "embedding_"  # of an encoder, then its name
CROP_PREFIX = "crop_"  # of the box that a model's picture was cropped to, then the encoder's name, recall or ranking
# In pixels of the picture as decoded, x1 and y1 excluded; method and score as in Crop. Null where the row failed.
CROP_TYPE = pa.struct(
    [
        *(pa.field(side, pa.int32()) for side in ("x0", "y0", "x1", "y1")),
        pa.field("method", pa.string()),
        pa.field("score", pa.float32()),
    ]
)
VECTOR_COLUMNS = (EMBEDDING, RANK_EMBEDDING)  # see vector_field
VECTOR_WIDTH = b"aistudio.width"  # metadata of a vector field: how many numbers each vector has
THUMBNAIL_FIELD = pa.field("thumbnail", pa.binary())  # JPEG file

RESERVED_COLUMNS: frozenset[str] = frozenset(
    (
        *CANDIDATE_COLUMNS,
        *(f.name for f in SOURCE_FIELDS),
        *(f.name for f in OUTCOME_FIELDS),
        *(f.name for f in DELTA_FIELDS),
        *VECTOR_COLUMNS,
        THUMBNAIL_FIELD.name,
    )
)
# Names kept free for columns to come: a new run stores no column of the user's under them.
_KEPT_FREE = re.compile(r"(embedding|crop|source)_.*")


def passthrough_name(column: str) -> str:
    """Name under which a manifest column of the user's is stored.

    A column named like one of ours (`width`, `status`, ...), or like one that may come, is kept as `manifest_<name>`.
    """
    ours = column in RESERVED_COLUMNS or column.startswith(ENCODER_PREFIX) or _KEPT_FREE.fullmatch(column)
    return f"manifest_{column}" if ours else column


def encoder_column(name: str) -> str:
    """Return the column that holds the vectors of the encoder `name`."""
    return f"{ENCODER_PREFIX}{name}"


def crop_column(role: str) -> str:
    """Return the column of the boxes of one model: `recall`, `ranking` or `encoders.<name>`."""
    return f"{CROP_PREFIX}{role.removeprefix('encoders.')}"


def is_vector_column(column: str) -> bool:
    """Whether a stored column holds image vectors."""
    return column in VECTOR_COLUMNS or column.startswith(ENCODER_PREFIX)


def vector_type(dtype: str = "float32") -> pa.DataType:
    """Return the stored type of vectors, `list<float32>` or `list<float16>`.

    Not `fixed_size_list`: no pyarrow before 26 reads a Parquet file that holds null ones.
    """
    return pa.list_({"float32": pa.float32(), "float16": pa.float16()}[dtype])


def vector_field(name: str, width: int, dtype: str = "float32") -> pa.Field:
    """Return the field of a column of vectors: null where there is none, else `width` numbers each."""
    return pa.field(name, vector_type(dtype), metadata={VECTOR_WIDTH: str(width).encode()})


def vector_array(
    vectors_ND: NDArray[np.floating], valid_N: NDArray[np.bool_] | None = None, dtype: str = "float32"
) -> pa.ListArray:
    """Return a column of N vectors of type `vector_type(dtype)`, null where `valid_N` is false.

    Raises:
        pa.ArrowInvalid: more than 2**31 - 1 numbers.
    """
    num, width = vectors_ND.shape
    lengths = np.full(num, width, np.int64) if valid_N is None else np.where(valid_N, width, 0)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])).cast(pa.int32())
    rows_MD = vectors_ND if valid_N is None else vectors_ND[valid_N]
    values = pa.array(np.ascontiguousarray(rows_MD, dtype=dtype).reshape(-1))
    mask = None if valid_N is None else pa.array(~valid_N)
    return pa.ListArray.from_arrays(offsets, values, mask=mask)


def vector_matrix(column: pa.Array | pa.ChunkedArray) -> NDArray[np.floating]:
    """Return the vectors that are not null as a matrix (M, D) of the stored dtype, without a copy where possible.

    Takes lists and, of runs before November 2026, fixed-size lists; (0, 0) when there is no vector.

    Raises:
        ValueError: the column holds no vectors of floats, or vectors of several widths, or numbers that are null.
    """
    parts = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    matrices = [m for m in (_chunk_matrix(part) for part in parts) if len(m)]
    if len({m.shape[1] for m in matrices}) > 1:
        raise ValueError(f"vectors of several widths: {sorted({m.shape[1] for m in matrices})}")
    if not matrices:
        return np.zeros((0, 0), np.float32)
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def _chunk_matrix(array: pa.Array) -> NDArray[np.floating]:
    if not is_vector(array.type):
        raise ValueError(f"{array.type} is no column of vectors")
    values = array.flatten()
    if values.null_count:
        raise ValueError(f"vectors with {values.null_count} numbers missing")
    num = len(array) - array.null_count
    if pa.types.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:
        widths = pc.min_max(array.value_lengths())
        width = widths["max"].as_py() or 0
        if num and widths["min"].as_py() != width:
            raise ValueError(f"vectors of several widths: {widths['min']} to {width}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(num, width)


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds vectors, in today's layout or in that of older runs."""
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def with_list_vectors(table: pa.Table) -> pa.Table:
    """Return the table with vectors that older runs stored as fixed-size lists in today's layout.

    Other columns stay as they are. Files of both layouts can be put together then.
    """
    for position, (field, new) in enumerate(zip(table.schema, list_vector_schema(table.schema), strict=True)):
        if new.type != field.type:
            table = table.set_column(position, new, table[field.name].cast(new.type))
    return table


def list_vector_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that `with_list_vectors` gives a table of this schema, without the file's own metadata."""
    fields = []
    for field in schema:
        if pa.types.is_fixed_size_list(field.type) and is_vector(field.type):
            dtype = "float16" if pa.types.is_float16(field.type.value_type) else "float32"
            field = vector_field(field.name, field.type.list_size, dtype)
        fields.append(field)
    return pa.schema(fields)


def vector_width(field: pa.Field) -> int | None:
    """Return how many numbers each vector of a stored column has, None when the field does not say."""
    if pa.types.is_fixed_size_list(field.type):
        return int(field.type.list_size)
    stored = (field.metadata or {}).get(VECTOR_WIDTH, b"")
    return int(stored) if stored.isdigit() else None


_SAYS_SOMETHING = r"[^\p{Z}\p{C}]"  # RE2: a character that is neither blank nor invisible


def has_text(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Say of each text whether a model can be asked with it: boolean, false for null, blanks, invisible characters."""
    return pc.fill_null(pc.match_substring_regex(texts, _SAYS_SOMETHING), False)


def candidate_schema(passthrough: list[pa.Field]) -> pa.Schema:
    """Schema of the manifest snapshot: the candidate columns, then SOURCE_FIELDS and the passthrough columns."""
    return pa.schema([*CANDIDATE_FIELDS, *passthrough])


def score_schema(
    passthrough: list[pa.Field],
    widths: Mapping[str, int],
    dtype: str = "float32",
    crops: Iterable[str] = (),
    *,
    delta: bool = False,
) -> pa.Schema:
    """Schema of a score file.

    Args:
        passthrough: the manifest's own columns.
        widths: vector column -> its width, in the order in which they are stored.
        dtype: stored type of the vectors, "float32" or "float16".
        crops: columns of boxes (CROP_TYPE).
        delta: with DELTA_FIELDS, as every run has them but those that earlier versions began.
    """
    vectors = [vector_field(column, width, dtype) for column, width in widths.items()]
    boxes = [pa.field(column, CROP_TYPE) for column in crops]
    outcome = (*OUTCOME_FIELDS, *(DELTA_FIELDS if delta else ()))
    return pa.schema([*CANDIDATE_FIELDS, *outcome, *vectors, *boxes, THUMBNAIL_FIELD, *passthrough])


def text_schema(dim: int) -> pa.Schema:
    """Schema of texts/*.parquet: one row per distinct text of a shard and its recall-model vector."""
    return pa.schema([pa.field("text", pa.string(), nullable=False), vector_field("embedding", dim)])


def poi_table_schema(dim: int) -> pa.Schema:
    """Schema of a POI table (one row per POI name): vectors are null and counts zero where unknown."""
    return pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            vector_field("image_vector", dim),
            vector_field("name_vector", dim),
            pa.field("counts", pa.list_(pa.int64(), 3)),  # n0, n1, n2 of the paper
        ]
    )


class Crop(NamedTuple):
    """The part of a picture that shows the object: x0, y0, x1, y1 in its pixels (x1, y1 excluded), how and how surely.

    method: "border", "grabcut", "model", or "whole" where nothing was cut. score: 0 .. 1, as the method defines it;
    None for whole pictures.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    method: str
    score: float | None

    @classmethod
    def whole(cls, height: int, width: int) -> "Crop":
        """The whole picture."""
        return cls(0, 0, width, height, "whole", None)
