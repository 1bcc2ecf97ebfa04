"""Zip archives: members by the archive's directory, which stands at its end. Nothing is unpacked to a disk."""

import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from aistudio.catalogue.archives import Damage, Member, name_problem

_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError, ValueError, KeyError)


class Zip:
    """A zip archive in a seekable stream. One whose directory cannot be read has one Damage and no members."""

    def __init__(self, stream: BinaryIO) -> None:
        self._damage: Damage | None = None
        self._infos: list[zipfile.ZipInfo] = []
        try:
            self._zip = zipfile.ZipFile(stream)
            self._infos = self._zip.infolist()
        except _ERRORS as e:
            self._damage = Damage(f"not a whole zip archive: {e}")
        self._by_place = {info.header_offset: info for info in self._infos}

    def members(self) -> Iterator[Member | Damage]:
        """See archives.Archive."""
        if self._damage is not None:
            yield self._damage
        for info in self._infos:
            name = info.orig_filename  # `filename` ends at a NUL, and may be empty
            if not name.endswith("/"):
                problem = "the member is encrypted" if info.flag_bits & 0x1 else name_problem(name)
                yield Member(name, info.header_offset, info.compress_size, info.file_size, problem)

    def read(self, member: Member, limit: int) -> bytes:
        """See archives.Archive."""
        if member.size > limit:
            raise ValueError(f"{member.size:,} bytes; at most {limit:,} are read")
        try:
            with self._zip.open(self._by_place[member.at]) as file:
                data = file.read(limit + 1)
        except _ERRORS as e:
            raise ValueError(str(e) or type(e).__name__) from None
        if len(data) > limit:  # the directory's size is the archive's own word
            raise ValueError(f"more than {limit:,} bytes")
        return data
