"""The parts of a JPEG file (ITU-T T.81, Annex B): segments up to the first scan, then scans up to the end marker."""

import re
from collections.abc import Iterator

from aistudio.images._exif import orientation
from aistudio.images._picture import Picture, Refused

_SCAN, _END, _APP0, _APP1, _APP14, _COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xFE
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})  # markers (and stuffing) that no length follows
_MARKER = re.compile(rb"\xff([^\xff])", re.DOTALL)
_MARKER_IN_SCAN = re.compile(rb"\xff([^\xff\x00\x01\xd0-\xd7])", re.DOTALL)
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"

_MAX_SCANS = 200  # encoders write about 10; each one makes libjpeg walk the whole picture
_MAX_SEGMENTS = 10_000  # before the first scan; Pillow walks them in Python. A profile of 16 MB is 255 of them
_MAX_JUNK_BYTES = 65_536  # between segments; Pillow passes over it byte by byte in Python


def picture(body: bytes) -> Picture:
    """The file without profiles, comments, camera data and other application segments before the first scan.

    JFIF and Adobe segments stay, since they tell the colour space. What follows the picture (a film, another picture)
    is left alone: decoders stop at the end marker.

    Raises:
        Refused: more segments or scans than a decoder could walk in time.
    """
    kept, start = [], 0
    exif = xmp = b""
    for num_segments, (marker, at, end) in enumerate(_segments(body)):
        if num_segments >= _MAX_SEGMENTS:
            raise Refused(f"a JPEG with more than {_MAX_SEGMENTS:,} segments")
        data = body[at + 4 : end] if _APP0 <= marker <= 0xEF else b""
        if marker == _APP1 and data.startswith(_EXIF):
            exif = exif or data
        elif marker == _APP1 and data.startswith(_XMP):
            xmp = xmp or data[len(_XMP) :]
        if not _needed(marker, data):
            kept.append(body[start:at])
            start = end
    _count_scans(body)
    return Picture(b"".join([*kept, body[start:]]) if kept else body, orientation(exif, xmp))


def ends_early(body: bytes) -> bool:
    """Whether the picture's end marker is missing; one in a thumbnail or in what follows the picture does not count."""
    return all(marker != _END for marker, _ in _markers_of_scans(body))


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where it begins, where it ends) of the segments before the first scan, as far as they are in order."""
    at, junk = 2, 0
    while at < len(body):
        match = _MARKER.search(body, at)
        begin = match.start() if match else len(body)
        marker = match[1][0] if match else 0
        junk += begin - at + (2 if marker in _ALONE else 0)
        if junk > _MAX_JUNK_BYTES:
            raise Refused(f"a JPEG with more than {_MAX_JUNK_BYTES:,} bytes between its segments")
        if marker in _ALONE:
            at = begin + 2
            continue
        end = begin + 2 + max(2, int.from_bytes(body[begin + 2 : begin + 4], "big"))
        if marker == _SCAN or end > len(body):
            return
        yield marker, begin, end
        at = end


def _needed(marker: int, data: bytes) -> bool:
    if marker == _APP0:
        return data.startswith(b"JFIF\0") and len(data) >= 14  # shorter ones mean nothing to libjpeg
    if marker == _APP14:
        return data.startswith(b"Adobe") and len(data) >= 12
    return not (_APP0 <= marker <= 0xEF or marker == _COMMENT)


def _count_scans(body: bytes) -> None:
    if body.count(b"\xff\xda") <= _MAX_SCANS:  # also counts those behind the picture, in thumbnails and by chance
        return
    num_scans = 0
    for marker, _ in _markers_of_scans(body):
        num_scans += marker == _SCAN
        if marker == _END:
            return
        if num_scans > _MAX_SCANS:
            raise Refused(f"a JPEG with more than {_MAX_SCANS} scans")


def _markers_of_scans(body: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its data begin) from the first scan to the end of the picture, tables between scans included."""
    at = 2
    for _, _, at in _segments(body):  # noqa: B007 - the end of the last one
        pass
    while match := _MARKER_IN_SCAN.search(body, at):
        yield match[1][0], match.end()
        if match[1][0] == _END:
            return
        at = match.end() + int.from_bytes(body[match.end() : match.end() + 2], "big")
