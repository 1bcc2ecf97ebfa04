"""The parts of a PNG file (ISO/IEC 15948): chunks of length, kind, data and checksum."""

import zlib
from collections.abc import Iterator

from aistudio.images._exif import orientation
from aistudio.images._picture import Picture, Refused

_MAX_CHUNKS = 100_000  # Pillow walks them in Python, holding the GIL: 4 s for the 1.6 million that fit into 20 MB
_PALETTE = 3  # colour type
_XMP = b"XML:com.adobe.xmp\0\0"  # keyword, and "not compressed": what is compressed is never inflated


def picture(body: bytes) -> Picture:
    """The chunks that make the picture: ancillary ones (profile, texts, time, animation, ...) and what follows are cut.

    Transparency goes too, because alpha is dropped anyway. Damaged ancillary chunks are passed over, as libpng does;
    a damaged kind or length before the image data leaves the rest as it is, for the decoder to refuse.

    Raises:
        Refused: more chunks than a decoder could walk in time, or indices into a palette that is not there.
    """
    kept: list[tuple[int, int]] = [(0, 8)]
    exif = xmp = b""
    indexed = body[25:26] == bytes([_PALETTE])
    seen_data, seen_palette = False, not indexed
    for num_chunks, (kind, at, end) in enumerate(_chunks(body)):
        if num_chunks >= _MAX_CHUNKS:
            raise Refused(f"a PNG with more than {_MAX_CHUNKS:,} chunks")
        if end > len(body) and not (_ancillary(kind) and seen_data):
            _keep(kept, at, len(body))
            break
        seen_data, seen_palette = seen_data or kind == b"IDAT", seen_palette or kind == b"PLTE"
        if seen_data and not seen_palette:  # Pillow makes up a grey one
            raise Refused("a PNG of palette indices without a palette")
        if kind == b"eXIf" and _whole(body, at, end):
            exif = exif or body[at + 8 : end - 4]
        elif kind == b"iTXt" and body.startswith(_XMP, at + 8) and _whole(body, at, end):
            xmp = xmp or body[at + 8 : end - 4]
        elif not _ancillary(kind) and (kind != b"PLTE" or indexed):
            _keep(kept, at, end)
    alone = b"".join(body[start:stop] for start, stop in kept) if len(kept) > 1 or kept[0][1] < len(body) else body
    return Picture(alone, orientation(exif, xmp), bits=16 if body[24:25] == b"\x10" else 8)


def ends_early(body: bytes) -> bool:
    """Whether the file is cut before the chunk that ends a PNG."""
    return all(kind != b"IEND" for kind, _, _ in _chunks(body))


def _chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where it begins, where it ends) of each chunk; the last one is IEND, cut, or followed by no chunk."""
    at, kind = 8, b""
    while at + 8 <= len(body) and kind != b"IEND":
        kind = body[at + 4 : at + 8]
        length = int.from_bytes(body[at : at + 4], "big")
        end = at + 12 + length if kind.isalpha() else len(body) + 1
        yield kind, at, end
        at = end


def _ancillary(kind: bytes) -> bool:
    return bool(kind[0] & 0x20) and kind.isalpha()


def _whole(body: bytes, at: int, end: int) -> bool:
    return end <= len(body) and zlib.crc32(body[at + 4 : end - 4]) == int.from_bytes(body[end - 4 : end], "big")


def _keep(kept: list[tuple[int, int]], start: int, stop: int) -> None:
    if kept[-1][1] == start:
        kept[-1] = (kept[-1][0], stop)
    else:
        kept.append((start, stop))
