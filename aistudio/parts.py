"""Addresses of pictures that lie inside a file: a row of a Parquet file, a member of a tar or zip archive.

    /data/train.parquet#row=12&column=image                    record 12, from 1
    s3://shop/00000.tar#tar=dir/000012.jpg&at=1536&bytes=2000  the member's data begin at byte 1536
    /data/photos.zip#zip=dir/a.jpg&at=0&bytes=1800             its local header begins there; bytes: as stored

Nothing of a picture is in its address, and nothing is opened here. A path that happens to hold a `#` stays a path.
"""

import re
from typing import Literal, NamedTuple, cast
from urllib.parse import quote, unquote

_ROW = re.compile(r"(?P<place>.+)#row=(?P<at>\d{1,18})&column=(?P<name>[^&#\s]+)", re.DOTALL)
_MEMBER = re.compile(
    r"(?P<place>.+)#(?P<kind>tar|zip)=(?P<name>[^&#\s]+)&at=(?P<at>\d{1,18})&bytes=(?P<size>\d{1,18})", re.DOTALL
)


class Part(NamedTuple):
    """Where in its file a picture lies."""

    kind: Literal["row", "tar", "zip"]
    name: str  # the column, or the archive's member
    at: int  # row: its number, from 1; archive: byte at which the data (tar) or the local header (zip) begins
    num_bytes: int = 0  # of an archive's member, as stored there


def part_address(place: str, part: Part) -> str:
    """Return the address of a part of the file at `place`. Names are percent-encoded."""
    name = quote(part.name, safe="/")
    if part.kind == "row":
        return f"{place}#row={part.at}&column={name}"
    return f"{place}#{part.kind}={name}&at={part.at}&bytes={part.num_bytes}"


def split_part(address: str) -> tuple[str, Part | None]:
    """Return the file's place and which part of it is meant; None where the address is that of a whole file.

    >>> split_part("/a/b.parquet#row=3&column=image")
    ('/a/b.parquet', Part(kind='row', name='image', at=3, num_bytes=0))
    >>> split_part("/a/photo#1.jpg")
    ('/a/photo#1.jpg', None)
    """
    if "#" not in address:
        return address, None
    if match := _ROW.fullmatch(address):
        return match["place"], Part("row", unquote(match["name"]), int(match["at"]))
    if match := _MEMBER.fullmatch(address):
        kind = cast(Literal["tar", "zip"], match["kind"])
        return match["place"], Part(kind, unquote(match["name"]), int(match["at"]), int(match["size"]))
    return address, None
