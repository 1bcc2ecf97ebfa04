"""From a file's bytes to model input: decode once, resize once per recipe, one thumbnail; a bad file is a status.

Formats are recognised in _sniff.py, resized in transform.py; fetching is download.py's. Pillow decodes, because the
published weights were trained on what it gives: alpha is dropped, not composited, CMYK is converted without a profile.
"""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images._sniff import describe, hazard, image_format, other_image, tiff_ends_early, webp_canvas
from aistudio.images.transform import resize, shrink
from aistudio.schema import Status

# What Pillow's decoders raise on damaged files, as seen with fuzzed files and in its sources.
_DECODER_ERRORS = (
    OSError,  # UnidentifiedImageError included
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)
_THUMBNAIL_QUALITY = 75
_FAST_FACTOR = 2  # scaled JPEG decoding keeps at least this many times the target size


@dataclass(frozen=True, slots=True)
class Decoded:
    """Outcome of one body. `pixels` has one uint8 (size, size, 3) per spec when `status` is ok, else it is ()."""

    status: Status
    error: str | None = None
    width: int | None = None  # of the file as stored, before EXIF rotation; known whenever the header was readable
    height: int | None = None
    content_hash: str | None = None  # sha256 of the body, hex
    pixels: tuple[np.ndarray, ...] = ()
    thumbnail: bytes | None = None  # JPEG, longer side `thumbnail_px`


class _Undecodable(Exception):
    def __init__(self, status: Status, error: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.size = status, error, size


def decode(body: bytes, specs: Sequence[ImageSpec], settings: ImagesSettings) -> Decoded:
    """Decode one image and make what the models and the report need of it. Never raises for a bad body.

    Safe to call from several threads; decoding, resizing and hashing release the GIL. Peak memory in `exact` mode is
    about 10 bytes per pixel of the original (WebP: 20), so 1 GB (2 GB) at the default max_pixels of 100 million.
    Time is bounded by max_pixels and the checks of `hazard`, not by a clock: a thread cannot be stopped.

    Args:
        body: the file's bytes; b"" is `empty`.
        specs: recipes of the models' inputs; may be empty (then the file is only checked).
        settings: `decode: exact` decodes at full resolution. `fast` lets libjpeg scale by 1/2, 1/4 or 1/8 while
            decoding, down to no less than twice the target size: other pixels, so other scores, see transform.py.
    """
    if not body:
        return Decoded(Status.EMPTY, "no bytes")
    digest = hashlib.sha256(body).hexdigest()
    try:
        image, size = _open(body, settings)
        rgb = _load_rgb(image, body, size, specs, settings)
        array = np.asarray(rgb)
        pixels = tuple(resize(array if s.resize == "opencv_bilinear" else rgb, s) for s in specs)
        thumbnail = _thumbnail(array, settings.thumbnail_px)
    except _Undecodable as e:
        width, height = e.size or (None, None)
        return Decoded(e.status, e.error, width, height, digest)
    except MemoryError:
        return Decoded(Status.IMAGE_TOO_LARGE, "not enough memory to decode it", content_hash=digest)
    return Decoded(Status.OK, None, *size, digest, pixels, thumbnail)


def _open(body: bytes, settings: ImagesSettings) -> tuple[Image.Image, tuple[int, int]]:
    """The image with only its header read, and its size; refuses what must not be decoded."""
    kind = image_format(body)
    if kind is None:
        other = other_image(body)
        if other is not None:
            raise _Undecodable(Status.UNSUPPORTED_IMAGE, f"{other} images are not decoded")
        raise _Undecodable(Status.NOT_AN_IMAGE, describe(body))
    danger = hazard(body, kind)
    if danger is not None:
        raise _Undecodable(Status.UNSUPPORTED_IMAGE, danger)
    _prepare_pillow()
    canvas = webp_canvas(body) if kind == "WEBP" else None
    if canvas is not None:
        _check_pixels(canvas, settings.max_pixels)
    try:
        image = Image.open(io.BytesIO(body), formats=(kind,))
    except _DECODER_ERRORS as e:
        raise _damaged(kind, body, e, None) from e
    _check_pixels(image.size, settings.max_pixels)
    return image, image.size


@cache
def _prepare_pillow() -> None:
    # Our own limit comes before any pixel is decoded. Pillow's is one number for the process, and between one and two
    # times that number only warns. Its warnings about odd files would fill the log: the row's error says it.
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        text = f"{width:,} x {height:,} pixels; images.max_pixels is {max_pixels:,}"
        raise _Undecodable(Status.IMAGE_TOO_LARGE, text, size)


def _load_rgb(
    image: Image.Image, body: bytes, size: tuple[int, int], specs: Sequence[ImageSpec], settings: ImagesSettings
) -> Image.Image:
    kind = image_format(body) or "image"
    try:
        if settings.decode == "fast" and kind == "JPEG":
            target = _FAST_FACTOR * max([settings.thumbnail_px, *(max(s.size, s.resize_shortest or 0) for s in specs)])
            image.draft(None, (target, target))
        image.load()
        if settings.apply_exif_orientation:
            image = ImageOps.exif_transpose(image)
        return _to_rgb(image, kind)
    except _DECODER_ERRORS as e:
        raise _damaged(kind, body, e, size, image) from e


def _to_rgb(image: Image.Image, kind: str) -> Image.Image:
    # 16-bit greyscale: Pillow's convert clips everything above 255 to white; the high byte is what a viewer shows.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):
        high = np.asarray(image).astype(np.uint32) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _thumbnail(rgb: np.ndarray, longer_px: int) -> bytes | None:
    if not longer_px:
        return None
    out = io.BytesIO()
    # WebP is 15 % smaller and takes seven times as long: 0.6 ms, as much as decoding the photograph.
    Image.fromarray(shrink(rgb, longer_px)).save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()


def _damaged(
    kind: str, body: bytes, e: Exception, size: tuple[int, int] | None, image: Image.Image | None = None
) -> _Undecodable:
    """Cut short, or otherwise not decodable: a person would download the first again and give up on the second."""
    reason = " ".join(str(e).split())[:200] or type(e).__name__
    if "truncated" in reason.lower() or isinstance(e, EOFError) or _ends_early(kind, body, image):
        return _Undecodable(Status.TRUNCATED_IMAGE, f"the {kind} ends early after {len(body):,} bytes", size)
    if isinstance(e, UnidentifiedImageError):
        reason = "its header cannot be read"
    return _Undecodable(Status.UNSUPPORTED_IMAGE, f"a damaged or unusual {kind}: {reason}", size)


def _ends_early(kind: str, body: bytes, image: Image.Image | None) -> bool:
    """Whether the end that the format prescribes is missing."""
    tail = body[-4096:].rstrip(b"\0\r\n ")
    if kind == "JPEG":
        return b"\xff\xd9" not in tail
    if kind == "PNG":
        return b"IEND" not in tail
    if kind == "WEBP":
        return len(body) < 8 + int.from_bytes(body[4:8], "little")
    if kind == "GIF":
        return not tail.endswith(b"\x3b")
    if kind == "BMP":
        return len(body) < int.from_bytes(body[2:6], "little")
    tags = getattr(image, "tag_v2", {})
    for offsets, counts in ((273, 279), (324, 325)):  # strips, tiles
        ends = [a + b for a, b in zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)]
        if ends and max(ends) > len(body):
            return True
    return tiff_ends_early(body)
