"""Which way up a picture is: the orientation of EXIF and XMP, read alone and past whatever else they hold."""

import re
import struct

from PIL import Image

_TAG = 0x0112
_MAX_TAGS = 1_000  # real files have 10 to 60
_MARK = b"Exif\0\0"
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])")
_INTEGERS = {1: "B", 3: "H", 4: "L"}  # EXIF's types of whole numbers

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, from EXIF data, else from XMP, else 1.

    Args:
        exif: a TIFF structure, with or without "Exif" in front; may be empty, cut or damaged anywhere.
        xmp: an XMP packet; may be empty.
    """
    while exif.startswith(_MARK):
        exif = exif[len(_MARK) :]
    try:
        found = _from_exif(exif)
    except (struct.error, OverflowError):
        found = None
    if found is None and (match := _XMP.search(xmp)):
        found = int(match[1])
    return found if found in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """`image` turned and mirrored so that it stands as its orientation (1 to 8) says."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _from_exif(exif: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    (start,) = struct.unpack_from(order + "L", exif, 4)
    (num_tags,) = struct.unpack_from(order + "H", exif, start)
    for i in range(min(num_tags, _MAX_TAGS)):
        at = start + 2 + 12 * i
        tag, kind, count = struct.unpack_from(order + "HHL", exif, at)
        if tag == _TAG:
            code = _INTEGERS.get(kind)
            return struct.unpack_from(order + code, exif, at + 8)[0] if code and count else None
    return None
