"""The parts of an AVIF file (AVIF 1.1 on ISO/IEC 23008-12): boxes of length, kind and content."""

import re
import struct

from aistudio.images._picture import Picture

# Item entries, version 2 (16-bit numbers) and 3 (32-bit), of the kind Exif.
_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2})Exif", re.DOTALL)
_SIZE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
_MAX_BOXES = 1_000  # on the top level; files have about four


def picture(body: bytes) -> Picture:
    """The file with its EXIF data unnamed, so that no decoder reads them.

    Only an AVIF's own properties say how it is rotated (ISO/IEC 23000-22); Pillow would read the EXIF data first, and
    refuse the picture when they are damaged.
    """
    start, stop = _meta(body)
    meta = body[start:stop]
    unnamed = _EXIF_ITEM.sub(rb"\1skip", meta)
    return Picture(body if unnamed == meta else body[:start] + unnamed + body[stop:])


def canvas(body: bytes) -> tuple[int, int] | None:
    """Return (width, height) of the largest picture that the header announces; None when it announces none."""
    start, stop = _meta(body)
    sizes = [struct.unpack(">LL", m[1] + m[2]) for m in _SIZE.finditer(body, start, stop)]
    return max(sizes, key=lambda s: s[0] * s[1], default=None)


def ends_early(body: bytes) -> bool:
    """Whether a box of the top level is cut."""
    return any(end > len(body) for _, _, end in _boxes(body))


def _meta(body: bytes) -> tuple[int, int]:
    return next(((at, end) for kind, at, end in _boxes(body) if kind == b"meta"), (0, 0))


def _boxes(body: bytes) -> list[tuple[bytes, int, int]]:
    found: list[tuple[bytes, int, int]] = []
    at = 0
    while at + 8 <= len(body) and len(found) < _MAX_BOXES:
        size, kind = struct.unpack_from(">L4s", body, at)
        if size == 1 and at + 16 <= len(body):
            (size,) = struct.unpack_from(">Q", body, at + 8)
        end = at + size if size else len(body)  # 0: up to the end of the file
        if end < at + 8:
            break
        found.append((kind, at, end))
        at = end
    return found
