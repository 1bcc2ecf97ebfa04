"""Tar archives, walked from header to header without reading what the members hold.

Plain tar, GNU's and pax's long names. Sizes and names are an archive's own word, so each is checked: a header that is
none, one of absurd size or a member beyond the end of the file ends the walk with what is wrong. Unlike Python's
tarfile, which can be sent in circles by a negative size, the walk only goes forward.
"""

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from aistudio.catalogue.archives import Damage, Member, name_problem

BLOCK = 512
_MAX_HEADER = 1 << 20  # bytes of a long name or of pax's records
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_NO_DATA = (*_LINKS, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class Tar:
    """A tar archive in a seekable stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = stream.seek(0, io.SEEK_END)

    def members(self) -> Iterator[Member | Damage]:
        """See archives.Archive."""
        at, ended = 0, False
        own: dict[str, str] = {}  # of the next member: path and size, from the headers before it
        while at < self._size:
            block = self._read(at, BLOCK)
            if len(block) == BLOCK and not block.strip(b"\0"):
                at, ended = at + BLOCK, True  # the end, unless archives were put one behind the other
                continue
            ended = False
            header = _header(block, at)
            if isinstance(header, Damage):
                yield header
                return
            data, size = at + BLOCK, header.size
            if header.type in _LONG:
                found = self._long(header, data)
                if isinstance(found, Damage):
                    yield found
                    return
                own |= found
            else:
                name, own_size = own.get("path", header.name), own.get("size", "")
                size = int(own_size) if own_size.isdigit() else size
                own = {}
                if header.type in _FILES or header.type in _LINKS:
                    problem = "the member is a link" if header.type in _LINKS else None
                    yield Member(name, data, size, size, name_problem(name) or problem)
                if header.type in _NO_DATA:
                    size = 0
            at = data + -(-size // BLOCK) * BLOCK
            if data + size > self._size:
                yield Damage(f"the archive ends early: inside the member at byte {data:,}, of {size:,} bytes")
                return
        if not ended:
            cut = "the archive has no end mark: it may have been cut off here"
            yield Damage(cut if self._size else "the archive is empty: 0 bytes")

    def read(self, member: Member, limit: int) -> bytes:
        """See archives.Archive."""
        if member.size > limit:
            raise ValueError(f"{member.size:,} bytes; at most {limit:,} are read")
        data = self._read(member.at, member.size)
        if len(data) < member.size:
            raise ValueError("the archive ends inside it")
        return data

    def _read(self, at: int, num_bytes: int) -> bytes:
        self._stream.seek(at)
        return self._stream.read(num_bytes)

    def _long(self, header: tarfile.TarInfo, data: int) -> dict[str, str] | Damage:
        """Read the next member's long name from its header."""
        if header.size > _MAX_HEADER:
            return Damage(f"a header of {header.size:,} bytes at byte {data:,}")
        body = self._read(data, header.size)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return {"path": body.split(b"\0")[0].decode("utf-8", "surrogateescape")}
        if header.type not in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            return {}
        records = _pax(body)
        return Damage(f"a damaged pax header at byte {data:,}") if records is None else records


def _header(block: bytes, at: int) -> tarfile.TarInfo | Damage:
    if len(block) < BLOCK:
        return Damage(f"the archive ends early: inside a header at byte {at:,}")
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as e:
        return Damage(f"no header of a member at byte {at:,}: {e}")
    if header.size < 0 or header.type == tarfile.GNUTYPE_SPARSE:
        what = "a sparse file" if header.size >= 0 else "a negative size"
        return Damage(f"{what} at byte {at:,}, which cannot be read")
    return header


def _pax(body: bytes) -> dict[str, str] | None:
    """The path and size of pax's records (`<length> <keyword>=<value>\\n`), None where they are damaged."""
    found: dict[str, str] = {}
    while body.strip(b"\0"):
        length, blank, _ = body.partition(b" ")
        num = int(length) if length.isdigit() and len(length) < 10 else 0
        record = body[:num]
        if not blank or num <= len(length) + 1 or len(record) < num or not record.endswith(b"\n"):
            return None
        keyword, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals:
            return None
        if keyword in (b"path", b"size"):
            found[keyword.decode()] = value.decode("utf-8", "surrogateescape")
        body = body[num:]
    return found
