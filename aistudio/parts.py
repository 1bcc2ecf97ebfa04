"""Addresses of pictures that lie inside a file: a row of a Parquet file or Lance data set, a member of an archive.

    /data/train.parquet#row=12&column=image&footer=1a2b3c4d    record 12, from 1, of the file with this footer
    /data/shop.lance#lance=12&column=image&version=3-1a2b3c4d  row 12, from 1, of this version of the data set
    s3://shop/00000.tar#tar=dir/000012.jpg&at=1536&bytes=2000  the member's data begin at byte 1536
    /data/photos.zip#zip=dir/a.jpg&at=0&bytes=1800             its local header begins there; bytes: as stored

Nothing of a picture is in its address. A Parquet file that was replaced is known by its footer, a Lance data set by its
version and that version's files, an archive by its headers. A path that happens to hold a `#` stays a path.
"""

import io
import re
import zlib
from typing import BinaryIO, Literal, NamedTuple, cast
from urllib.parse import quote, unquote

_MAX_FOOTER = 64 << 20  # bytes looked at
_ROW = re.compile(
    r"(?P<place>.+)#row=(?P<at>\d{1,18})&column=(?P<name>[^&#\s]+?)(?:&footer=(?P<mark>[0-9a-f]{8}))?"
    r"(?:&bytes=(?P<size>\d{1,18}))?",
    re.DOTALL,
)
_LANCE = re.compile(
    r"(?P<place>.+)#lance=(?P<at>\d{1,18})&column=(?P<name>[^&#\s]+)&version=(?P<mark>\d{1,18}-[0-9a-f]{8})", re.DOTALL
)
_MEMBER = re.compile(
    r"(?P<place>.+)#(?P<kind>tar|zip)=(?P<name>[^&#\s]+)&at=(?P<at>\d{1,18})&bytes=(?P<size>\d{1,18})", re.DOTALL
)


class Part(NamedTuple):
    """Where in its file a picture lies."""

    kind: Literal["row", "lance", "tar", "zip"]
    name: str  # the column, or the archive's member
    at: int  # row, lance: the row's number, from 1; archive: byte at which the data (tar) or local header (zip) begins
    num_bytes: int = 0  # of an archive's member, as stored there; of a row's picture that was too large to be kept
    # row: checksum of the file's footer (footer_mark), "" of whichever file is there; lance: the version's number and
    # the checksum of its files' names
    mark: str = ""


def part_address(place: str, part: Part) -> str:
    """Return the address of a part of the file at `place`. Names are percent-encoded."""
    name = quote(part.name, safe="/")
    if part.kind == "row":
        mark = f"&footer={part.mark}" if part.mark else ""
        return f"{place}#row={part.at}&column={name}{mark}" + (f"&bytes={part.num_bytes}" if part.num_bytes else "")
    if part.kind == "lance":
        return f"{place}#lance={part.at}&column={name}&version={part.mark}"
    return f"{place}#{part.kind}={name}&at={part.at}&bytes={part.num_bytes}"


def split_part(address: str) -> tuple[str, Part | None]:
    """Return the file's place and which part of it is meant; None where the address is that of a whole file.

    >>> split_part("/a/b.parquet#row=3&column=image")
    ('/a/b.parquet', Part(kind='row', name='image', at=3, num_bytes=0, mark=''))
    >>> split_part("/a/photo#1.jpg")
    ('/a/photo#1.jpg', None)
    """
    if "#" not in address:
        return address, None
    if match := _ROW.fullmatch(address):
        row, size = int(match["at"]), int(match["size"] or 0)
        return match["place"], Part("row", unquote(match["name"]), row, size, match["mark"] or "")
    if match := _LANCE.fullmatch(address):
        return match["place"], Part("lance", unquote(match["name"]), int(match["at"]), 0, match["mark"])
    if match := _MEMBER.fullmatch(address):
        kind = cast(Literal["tar", "zip"], match["kind"])
        return match["place"], Part(kind, unquote(match["name"]), int(match["at"]), int(match["size"]))
    return address, None


def footer_mark(stream: BinaryIO) -> str:
    """Return a checksum of a Parquet file's footer, which says where its pages lie; the stream stays where it ends up.

    Raises:
        OSError: the stream cannot be read.
    """
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - 8))
    length = int.from_bytes(stream.read(4), "little")
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 8 - length))
    return f"{zlib.crc32(stream.read(min(length, size, _MAX_FOOTER))):08x}"
