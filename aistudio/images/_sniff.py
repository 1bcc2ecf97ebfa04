"""What a body is, from its first bytes; and the checks that must come before a decoder sees it.

Pillow is never asked to guess: only the six formats below are decoded, by the decoder that the magic number names.
"""

import re
import struct

DECODED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# Images that are known and not decoded: vector and document formats run code or other programs (EPS, SVG), the rest
# does not occur in catalogues. Prefix -> name.
_OTHER_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x02\x00", "CUR"),
    (b"icns", "ICNS"),
    (b"8BPS", "Photoshop"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "GIMP"),
    (b"/* XPM */", "XPM"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x01\x00\x00\x00", "EMF"),
    (b"SIMPLE  =", "FITS"),
    (b"\x01\xda\x00", "SGI"),
    (b"\x01\xda\x01", "SGI"),
)
_PNM = re.compile(rb"P[1-7]\s")
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIF"}
_DOCUMENTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"OggS", "audio or video"),
    (b"ID3", "audio"),
)
_TIFF_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_MAX_TIFF_TAGS = 1000  # real files have 10 to 60
_MAX_PNG_CHUNKS = 100_000
_MAX_JPEG_SCANS = 200  # encoders write about 10


def image_format(body: bytes) -> str | None:
    """One of DECODED, by magic number; None for everything else."""
    if body[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if body[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "WEBP"
    if body[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if body[:2] == b"BM" and len(body) >= 18 and body[14:18] in _BMP_HEADERS:
        return "BMP"
    if body[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    return None


_BMP_HEADERS = {struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)}


def other_image(body: bytes) -> str | None:
    """Name of an image format that is recognised and not decoded, else None."""
    for prefix, name in _OTHER_IMAGES:
        if body.startswith(prefix):
            return name
    if body[4:8] == b"ftyp":
        return _BRANDS.get(body[8:12])
    if _PNM.match(body):
        return "PNM"
    head = _text_head(body).lower()
    if head.startswith(("<svg", "<?xml", "<!--", "<!doctype svg")) and "<svg" in head and "<html" not in head:
        return "SVG"
    return None


def describe(body: bytes) -> str:
    """What a body that is no image seems to be, for people: "looks like HTML: '<html><body>Please log in'"."""
    for prefix, name in _DOCUMENTS:
        if body.startswith(prefix):
            return f"looks like {name}"
    if body[4:8] == b"ftyp":
        return "looks like a video"
    head = _text_head(body)
    if not head:
        return "binary data of no known image format" if body.strip(b"\0 \r\n\t") else "only blanks or zeros"
    low = head.lower()
    if low.startswith(("<!doctype html", "<html", "<head", "<body", "<script")) or "<html" in low:
        kind = "HTML"
    elif low.startswith(("<?xml", "<")):
        kind = "XML"
    elif low.startswith(("{", "[")):
        kind = "JSON"
    else:
        kind = "text"
    return f"looks like {kind}: {' '.join(head[:80].split())!r}"


def _text_head(body: bytes) -> str:
    """The first kilobyte when it is text, else ""."""
    head = body[:1024]
    for encoding in ("utf-8-sig", "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "gb18030"):
        text = head.decode(encoding, errors="ignore")
        controls = sum(c < " " and c not in "\r\n\t\f" for c in text)
        if len(text.encode(errors="ignore")) >= len(head) * 0.9 and not controls:
            return text.strip()
    return ""


def hazard(body: bytes, image_format: str) -> str | None:
    """Why a file would cost a decoder far more than its size, before one looks at it; None when it would not.

    Pillow reads all of a TIFF's tags, overlapping or not, and walks PNG chunks in Python, holding the GIL (4 s for the
    1.6 million empty ones that fit into 20 MB). Each scan of a progressive JPEG, a few bytes when empty, is a pass of
    libjpeg over the whole picture.
    """
    if image_format == "TIFF":
        return _tiff_hazard(body)
    if image_format == "PNG":
        return _png_hazard(body)
    if image_format == "JPEG":
        num_scans = body.count(b"\xff\xda")  # compressed data holds no such pair, markers do
        return f"a JPEG with {num_scans:,} scans" if num_scans > _MAX_JPEG_SCANS else None
    return None


def webp_canvas(body: bytes) -> tuple[int, int] | None:
    """(width, height) from a WebP's header: libwebp allocates twice the canvas before it tells its size."""
    kind, data = body[12:16], body[20:30]
    if len(data) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


def _tiff_tags(body: bytes) -> tuple[int, list[tuple[int, int, int]]]:
    """(number of tags announced, [(bytes of data, where it is, bytes that fit into the tag itself)]) of the first page.

    Raises:
        struct.error: the file ends before its tags do (or there are too many to look at).
    """
    order = "<" if body[:2] == b"II" else ">"
    big = 43 in (body[2], body[3])
    entry, count, offset = (order + "HHQQ", order + "Q", "Q") if big else (order + "HHLL", order + "H", "L")
    try:
        (start,) = struct.unpack_from(order + offset, body, 8 if big else 4)
        (num_tags,) = struct.unpack_from(count, body, start)
        if num_tags > _MAX_TIFF_TAGS:
            return num_tags, []
        at, size = start + struct.calcsize(count), struct.calcsize(entry)
        tags = [struct.unpack_from(entry, body, at + i * size) for i in range(num_tags)]
    except OverflowError as e:  # an offset beyond what Python can index
        raise struct.error(str(e)) from None
    return num_tags, [(_TIFF_TYPE_BYTES.get(kind, 1) * n, where, 8 if big else 4) for _, kind, n, where in tags]


def _tiff_hazard(body: bytes) -> str | None:
    try:
        num_tags, tags = _tiff_tags(body)
    except struct.error:
        return None  # the decoder will find it cut
    if num_tags > _MAX_TIFF_TAGS:
        return f"a TIFF with {num_tags:,} tags"
    if sum(size for size, *_ in tags) > len(body) and not tiff_ends_early(body):
        return "a TIFF whose tags claim more data than the file has"
    return None


def tiff_ends_early(body: bytes) -> bool:
    """Whether the tags, or the data that they point to, lie beyond the end of the file."""
    try:
        _, tags = _tiff_tags(body)
    except struct.error:
        return True
    return any(size > inline and where + size > len(body) for size, where, inline in tags)


def _png_hazard(body: bytes) -> str | None:
    at, num_chunks = 8, 0
    while at + 8 <= len(body):
        num_chunks += 1
        if num_chunks > _MAX_PNG_CHUNKS:
            return f"a PNG with more than {_MAX_PNG_CHUNKS:,} chunks"
        at += 12 + int.from_bytes(body[at : at + 4], "big")
    return None
