"""Settings of the section `images`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings


class ImagesSettings(Settings):
    """Decoding."""

    apply_exif_orientation: bool = False
    """Whether a picture is turned as its EXIF says; the published weights were trained without it."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Most pixels (width x height) of a picture, checked before it is decoded."""
    thumbnail_px: int = Field(160, ge=0, le=1024)
    """Longer side of the stored thumbnail; 0: none is stored."""
    decode: Literal["exact", "fast"] = "exact"
    """`exact` gives the published preprocessing bit for bit; `fast` decodes large JPEGs at a smaller scale
    (docs/performance.md).
    """
    decode_timeout_s: float = Field(20.0, gt=0)
    """Longest time for decoding one picture; a decoder that hangs longer is a failed row."""
