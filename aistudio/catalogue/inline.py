"""Columns that hold the pictures themselves: bytes, or Hugging Face's struct {bytes, path}.

A row's picture gets an address that says where it lies (parts.py); its bytes are read when the row is scored, a few
rows at a time, and never stored. A column of bytes that are text holds addresses, as ever.
"""

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue.arrow_types import bare_type, is_binary, is_list
from aistudio.catalogue.lines import COMPRESSED_SUFFIXES, plain_name
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

PEEKED = 64  # values looked at
_ROWS = 16  # decoded at a time


def picture_column(parquet: pq.ParquetFile, file: str, settings: ManifestSettings) -> str:
    """Name of a Parquet file's column of pictures that image_url is; see `pictures_in`.

    Raises:
        ManifestError: damaged where it was looked at, or a file of which parts cannot be read.
    """

    def first_values(name: str) -> Iterable[pa.Array]:
        try:
            for batch in parquet.iter_batches(_ROWS, columns=[name], use_threads=False):
                yield batch.column(0)
        except (OSError, pa.ArrowException) as e:
            raise ManifestError(f"{file}: damaged Parquet file in column {name!r}: {e}") from None

    name = pictures_in(parquet.schema_arrow, first_values, file, settings)
    if name:
        refuse_compressed(file)
    return name


def pictures_in(
    schema: pa.Schema, first_values: Callable[[str], Iterable[pa.Array]], file: str, settings: ManifestSettings
) -> str:
    """Name of the column of pictures that image_url is: the one that is mapped to it or called so.

    Where there is none, the only column of Hugging Face's structs. "" where image_url holds addresses, or is missing.

    Args:
        first_values: gives a column's first values, some at a time; of a column of bytes they are looked at.

    Raises:
        ManifestError: manifest.image_separator, which pictures do not have.
    """
    wanted = settings.columns.get("image_url", "image_url")
    if not isinstance(wanted, str) or schema.names.count(wanted) > 1:
        return ""
    name = wanted
    if wanted not in schema.names:
        structs = [f.name for f in schema if is_picture_struct(f.type)]
        name = structs[0] if len(structs) == 1 and "image_url" not in settings.columns else ""
    kind = schema.field(name).type if name else pa.null()
    if not (is_picture_struct(kind) or (is_binary(bare_type(kind)) and _bytes_are_pictures(first_values(name)))):
        return ""
    if settings.image_separator:
        raise ManifestError(f"{file}: manifest.image_separator: {name!r} holds pictures, not addresses")
    return name


def is_picture_struct(kind: pa.DataType) -> bool:
    """Whether a type is Hugging Face's image: a struct with the field `bytes`."""
    kind = bare_type(kind)
    return bool(pa.types.is_struct(kind)) and any(f.name == "bytes" and is_binary(bare_type(f.type)) for f in kind)


def holds_pictures(kind: pa.DataType) -> bool:
    """Whether a column is one of such structs, or of lists of them."""
    kind = bare_type(kind)
    return is_picture_struct(kind.value_type if is_list(kind) else kind)


def is_picture_type(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold pictures."""
    return is_picture_struct(kind) or is_binary(bare_type(kind))


def place_of_parts(file: str, place: str | None) -> str:
    """Return where a file lies for who reads pictures inside it: at `place`, or where it was read.

    Raises:
        ManifestError: a web address, of which no copy is kept, or a compressed file.
    """
    if place is None and file.startswith(("http://", "https://")):
        raise ManifestError(
            f"{file}: pictures inside a file are read in ranges, which is not done over HTTP; copy the file to a disk "
            "or a bucket"
        )
    refuse_compressed(file)
    return file if place is None else place


def refuse_compressed(file: str) -> None:
    """Raises ManifestError for a file whose parts nobody can read by themselves."""
    if plain_name(file).endswith(COMPRESSED_SUFFIXES):
        raise ManifestError(f"{file}: pictures inside a compressed file cannot be read one by one; decompress it first")


def _bytes_are_pictures(first_values: Iterable[pa.Array]) -> bool:
    """Whether most of the first values are no text."""
    seen = pictures = 0
    for array in first_values:
        for value in array:
            data = value.as_py()
            if isinstance(data, bytes) and data.strip():
                seen += 1
                pictures += not _is_text(data)
        if seen >= PEEKED:
            break
    return pictures * 2 > seen


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False
