"""What a body is, from its first bytes.

Pillow is never asked to guess: only the seven formats below are decoded, by the decoder that the magic number names.
"""

import re
import struct

DECODED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Images that are known and not decoded: vector and document formats run code or other programs (EPS, SVG), the rest
# does not occur in catalogues. Prefix -> name.
_OTHER_IMAGES: tuple[tuple[bytes, str], ...] = (
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"icns", "ICNS"),
    (b"8BPS", "Photoshop"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "GIMP"),
    (b"/* XPM */", "XPM"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"SIMPLE  =", "FITS"),
    (b"\x01\xda\x00", "SGI"),
    (b"\x01\xda\x01", "SGI"),
)
_PNM = re.compile(rb"P(?:[1-6]\s+(?:#|\d)|7\s+(?:#|[A-Z]|\d))")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
}
_TGA_TYPES = frozenset({1, 2, 3, 9, 10, 11})
_TGA_DEPTHS = frozenset({8, 15, 16, 24, 32})
_DOCUMENTS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "a program"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"OggS", "audio or video"),
    (b"ID3", "audio"),
)


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
    if _AVIF_BRANDS & set(_brands(body)):
        return "AVIF"
    return None


_BMP_HEADERS = {struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)}


def other_image(body: bytes) -> str | None:
    """Name of an image format that is recognised and not decoded, else None."""
    for prefix, name in _OTHER_IMAGES:
        if body.startswith(prefix):
            return name
    known = [_BRANDS[brand] for brand in _brands(body) if brand in _BRANDS]
    if known:
        return min(known)  # HEIC is a kind of HEIF
    if _cursor_or_icon(body):
        return "ICO" if body[2] == 1 else "CUR"
    if body[:4] == b"\1\0\0\0" and body[40:44] == b" EMF":
        return "EMF"
    if _targa(body):
        return "TGA"
    if _PNM.match(body):
        return "PNM"
    head = _text_head(body).lower()
    if head.startswith(("<svg", "<?xml", "<!--", "<!doctype svg")) and "<svg" in head and "<html" not in head:
        return "SVG"
    return None


def _brands(body: bytes) -> list[bytes]:
    """The brands of a file of ISO boxes (ISO/IEC 14496-12), the major one first; [] for all other files."""
    if body[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(body[:4], "big"), len(body), 400)
    return [body[8:12], *(body[at : at + 4] for at in range(16, end - 3, 4))]


def _cursor_or_icon(body: bytes) -> bool:
    """Whether a directory of at least one icon or cursor follows; four zero bytes alone begin other files, too."""
    if body[:4] not in (b"\0\0\1\0", b"\0\0\2\0") or len(body) < 22:
        return False
    count, size, start = (int.from_bytes(body[a:b], "little") for a, b in ((4, 6), (14, 18), (18, 22)))
    return count > 0 and body[9] == 0 and size > 0 and start >= 6 + 16 * count


def _targa(body: bytes) -> bool:
    """Whether the header makes sense as that of a TGA, which has no magic number."""
    if len(body) < 19 or body[1] > 1 or body[2] not in _TGA_TYPES or body[16] not in _TGA_DEPTHS:
        return False
    has_map = body[2] in (1, 9)
    size = int.from_bytes(body[12:14], "little"), int.from_bytes(body[14:16], "little")
    return 0 not in size and body[17] & 0xC0 == 0 and body[17] & 0x0F <= 8 and (body[1] == 1 or not has_map)


def describe(body: bytes) -> str:
    """Describe a body that is no image, for people: "looks like HTML: '<html><body>Please log in'"."""
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


def webp_canvas(body: bytes) -> tuple[int, int] | None:
    """(width, height) from a WebP's header: libwebp allocates twice the canvas before it reports its size."""
    kind, data = body[12:16], body[20:30]
    if len(data) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
