"""From a file's bytes to model input: decode once, resize once per recipe, one thumbnail; a bad file is a status.

Formats are recognised in _sniff.py, cut down to the picture by _jpeg.py and its neighbours, decoded in _load.py and
resized in transform.py; fetching is download.py's. Pillow decodes, because the published weights were trained on what
it gives: alpha is dropped, not composited, CMYK is converted without a profile.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aistudio.config import DetectorSettings, ImageSpec, ImagesSettings
from aistudio.images._load import Undecodable, load_rgb
from aistudio.images.crop import Cropper, cropper
from aistudio.images.transform import resize, shrink
from aistudio.schema import Crop, Status
from aistudio.storable import error_text, storable_int, storable_text

_THUMBNAIL_QUALITY = 75
_FAST_FACTOR = 2  # scaled JPEG decoding keeps at least this many times the target size


@dataclass(frozen=True, slots=True)
class Decoded:
    """Outcome of one body. `pixels` has one uint8 (size, size, 3) per spec when `status` is ok, else it is ().

    Text and sizes come from the file, so they are made storable here; a side beyond int32 is None.
    """

    status: Status
    error: str | None = None
    width: int | None = None  # of the file as stored, before EXIF rotation; known whenever the header was readable
    height: int | None = None
    content_hash: str | None = None  # sha256 of the body, hex
    pixels: tuple[np.ndarray, ...] = ()
    thumbnail: bytes | None = None  # JPEG, longer side `thumbnail_px`; of the whole picture
    crops: tuple[Crop | None, ...] = ()  # one per spec when ok: in pixels of what was decoded; None: crop is none

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", storable_int(self.width, 32))
        object.__setattr__(self, "height", storable_int(self.height, 32))
        if self.error is not None:
            object.__setattr__(self, "error", storable_text(self.error))


def decode(
    body: bytes,
    specs: Sequence[ImageSpec],
    settings: ImagesSettings,
    detectors: Mapping[DetectorSettings, Cropper] | None = None,
) -> Decoded:
    """Decode one image and make what the models and the report need of it. Never raises for a bad body.

    Safe to call from several threads; decoding, resizing and hashing release the GIL. Peak memory in `exact` mode is
    about 10 bytes per pixel of the original (WebP: 20), so 1 GB (2 GB) at the default max_pixels of 100 million.
    Time is bounded by max_pixels and by what _picture.Refused refuses, not by a clock: a thread cannot be stopped.

    Args:
        body: the file's bytes; b"" is `empty`.
        specs: recipes of the models' inputs; may be empty (then the file is only checked).
        settings: `decode: exact` decodes at full resolution. `fast` lets libjpeg scale by 1/2, 1/4 or 1/8 while
            decoding, down to no less than twice the target size: other pixels, so other scores, see transform.py.
            Where a spec crops, decoding is exact: the object may be a small part of the picture.
        detectors: what crops for the specs with `crop: model`.
    """
    if not body:
        return Decoded(Status.EMPTY, "no bytes")
    digest = hashlib.sha256(body).hexdigest()
    width = height = None
    least_px = _FAST_FACTOR * max([settings.thumbnail_px, *(max(s.size, s.resize_shortest or 0) for s in specs)])
    if any(s.crop != "none" for s in specs):
        settings = settings.model_copy(update={"decode": "exact"})
    try:
        rgb, (width, height) = load_rgb(body, settings, least_px)
        array = np.asarray(rgb)
        crops = _crops(array, specs, detectors or {})
        pixels = tuple(_resized(rgb, array, s, crops) for s in specs)
        thumbnail = _thumbnail(array, settings.thumbnail_px)
    except Undecodable as e:
        return Decoded(e.status, e.error, e.width, e.height, digest)
    except MemoryError:
        return Decoded(Status.IMAGE_TOO_LARGE, "not enough memory to decode it", width, height, digest)
    except (OSError, ValueError) as e:  # sides that are not resized, or that the thumbnail's encoder does not take
        return Decoded(Status.UNSUPPORTED_IMAGE, f"it cannot be resized: {error_text(e)}", width, height, digest)
    boxes = tuple(crops[s.crop, s.detector][1] if s.crop != "none" else None for s in specs)
    return Decoded(Status.OK, None, width, height, digest, pixels, thumbnail, boxes)


_Crops = dict[tuple[str, DetectorSettings | None], tuple[np.ndarray, Crop]]


def _crops(array: np.ndarray, specs: Sequence[ImageSpec], detectors: Mapping[DetectorSettings, Cropper]) -> _Crops:
    """Crop once in each way that a spec wants."""
    ways = dict.fromkeys((s.crop, s.detector) for s in specs if s.crop != "none")
    return {(way, d): (cropper(way) if d is None else detectors[d])(array) for way, d in ways}


def _resized(rgb: np.ndarray | Image.Image, array: np.ndarray, spec: ImageSpec, crops: _Crops) -> np.ndarray:
    if spec.crop != "none":
        return resize(np.ascontiguousarray(crops[spec.crop, spec.detector][0]), spec)
    return resize(array if spec.resize == "opencv_bilinear" else rgb, spec)


def _thumbnail(rgb: np.ndarray, longer_px: int) -> bytes | None:
    if not longer_px:
        return None
    out = io.BytesIO()
    # WebP is 15 % smaller and takes seven times as long: 0.6 ms, as much as decoding the photograph.
    Image.fromarray(shrink(rgb, longer_px)).save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()
