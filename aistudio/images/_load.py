"""From a file's bytes to an RGB image of full size, or to the reason why there is none."""

import io
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from aistudio.config import ImagesSettings
from aistudio.images import _avif, _gif, _jpeg, _png, _tiff
from aistudio.images._exif import orientation, upright
from aistudio.images._picture import Picture, Refused
from aistudio.images._sniff import describe, image_format, other_image, webp_canvas
from aistudio.schema import Status
from aistudio.storable import error_text

_DARK = 16  # of 256: where the brightest of 16-bit samples stays below it, they were meant for 12 bits or fewer

_PICTURES: dict[str, Callable[[bytes], Picture]] = {
    "AVIF": _avif.picture,
    "GIF": _gif.picture,
    "JPEG": _jpeg.picture,
    "PNG": _png.picture,
    "TIFF": _tiff.picture,
}
_CANVASES: dict[str, Callable[[bytes], tuple[int, int] | None]] = {"AVIF": _avif.canvas, "WEBP": webp_canvas}
_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "AVIF": _avif.ends_early,
    "BMP": lambda body: len(body) < int.from_bytes(body[2:6], "little"),
    "GIF": lambda body: not body[-4096:].rstrip(b"\0\r\n ").endswith(b"\x3b"),
    "JPEG": _jpeg.ends_early,
    "PNG": _png.ends_early,
    "TIFF": _tiff.ends_early,
    "WEBP": lambda body: len(body) < 8 + int.from_bytes(body[4:8], "little"),
}


class Undecodable(Exception):
    """There is no picture: the row's status, its error, and width and height where the header was readable."""

    def __init__(self, status: Status, error: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(error)
        self.status, self.error = status, error
        self.width = size[0] if size else None
        self.height = size[1] if size else None


def load_rgb(body: bytes, settings: ImagesSettings, least_px: int) -> tuple[Image.Image, tuple[int, int]]:
    """The picture in mode RGB, and its (width, height) as stored, before turning and scaling.

    Args:
        body: the file's bytes, at least one.
        settings: `decode: fast` lets libjpeg scale while decoding, down to no less than `least_px` on both sides.
        least_px: see there.

    Raises:
        Undecodable: for every body that is no picture, or none that may be decoded.
        MemoryError: the picture does not fit.
    """
    kind = image_format(body)
    if kind is None:
        other = other_image(body)
        if other is not None:
            raise Undecodable(Status.UNSUPPORTED_IMAGE, f"{other} images are not decoded")
        raise Undecodable(Status.NOT_AN_IMAGE, describe(body))
    if kind == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise Undecodable(Status.UNSUPPORTED_IMAGE, "AVIF images are not decoded: this Pillow was built without AVIF")
    try:
        picture = _PICTURES[kind](body) if kind in _PICTURES else Picture(body)
    except Refused as e:
        raise Undecodable(Status.UNSUPPORTED_IMAGE, str(e), e.size) from None
    image = _open(picture, kind, body, settings)
    size = image.size
    try:
        if settings.decode == "fast" and kind == "JPEG":
            image.draft(None, (least_px, least_px))
        image.load()
        if settings.apply_exif_orientation:
            image = upright(image, _orientation(image, picture))
        return _to_rgb(image, picture, kind), size
    except Refused as e:
        raise Undecodable(Status.UNSUPPORTED_IMAGE, str(e), size) from None
    except MemoryError:
        raise
    except Exception as e:  # decoders raise some twenty kinds; one odd file must not end a shard
        raise _damaged(kind, body, e, size) from e


def _open(picture: Picture, kind: str, body: bytes, settings: ImagesSettings) -> Image.Image:
    """The image with only its header read; refuses what has too many pixels."""
    _prepare_pillow()
    canvas = _CANVASES[kind](body) if kind in _CANVASES else None
    if canvas is not None:  # these decoders allocate before they tell the size
        _check_pixels(canvas, settings.max_pixels)
    try:
        image = Image.open(io.BytesIO(picture.body), formats=(kind,))
    except MemoryError:
        raise
    except Exception as e:  # as above
        raise _damaged(kind, body, e, canvas) from e
    _check_pixels(image.size, settings.max_pixels)
    return image


@cache
def _prepare_pillow() -> None:
    # Our own limit comes before any pixel is decoded. Pillow's is one number for the process, and between one and two
    # times that number only warns. Its warnings about odd files would fill the log: the row's error says it.
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # images are decoded side by side already


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        text = f"{width:,} x {height:,} pixels; images.max_pixels is {max_pixels:,}"
        raise Undecodable(Status.IMAGE_TOO_LARGE, text, size)


def _orientation(image: Image.Image, picture: Picture) -> int:
    """Return the EXIF orientation: from the file's own parts, else from what its decoder returns as EXIF and XMP."""
    if picture.orientation != 1:
        return picture.orientation
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    xmp = xmp if isinstance(xmp, bytes) and image.format != "AVIF" else b""
    return orientation(exif if isinstance(exif, bytes) else b"", xmp)


def _to_rgb(image: Image.Image, picture: Picture, kind: str) -> Image.Image:
    """Raises Refused for samples of more than 8 bits that are next to black at their declared depth."""
    bits = picture.bits
    # Grey of 16 bits: Pillow's convert clips everything above 255 to white; the high byte is what a viewer shows.
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):
        grey = np.asarray(image).astype(np.uint32)
        if 0 < grey.max() < _DARK << (bits - 8):
            raise _too_dark(kind, bits)
        high = (grey >> (bits - 8)).astype(np.uint8)
        return Image.fromarray(255 - high if picture.white_is_zero else high).convert("RGB")
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if bits > 8 and np.asarray(rgb).max() < _DARK:
        raise _too_dark(kind, bits)
    return rgb


def _too_dark(kind: str, bits: int) -> Refused:
    return Refused(f"a {kind} of {bits}-bit samples that is black at this depth: fewer bits are used; store 8 bits")


def _damaged(kind: str, body: bytes, e: Exception, size: tuple[int, int] | None) -> Undecodable:
    """Cut short, or otherwise not decodable: a person would download the first again and give up on the second."""
    reason = error_text(e, 200)
    if "truncated" in reason.lower() or isinstance(e, EOFError) or _ENDS_EARLY[kind](body):
        return Undecodable(Status.TRUNCATED_IMAGE, f"the {kind} ends early after {len(body):,} bytes", size)
    if isinstance(e, UnidentifiedImageError):
        reason = "its header cannot be read"
    return Undecodable(Status.UNSUPPORTED_IMAGE, f"a damaged or unusual {kind}: {reason}", size)
