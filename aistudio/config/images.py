"""Settings of the section `images`."""

from typing import Literal

from pydantic import Field

from aistudio.config.base import Settings


class ImagesSettings(Settings):
    """Decoding."""

    apply_exif_orientation: bool = False  # the published weights were trained without it
    max_pixels: int = Field(100_000_000, ge=1)  # width x height, checked before decoding
    thumbnail_px: int = Field(160, ge=0, le=1024)  # longer side; 0: none stored
    decode: Literal["exact", "fast"] = "exact"  # fast: DCT-scaled JPEG, see docs/performance.md
    decode_timeout_s: float = Field(20.0, gt=0)  # one image; a decoder that hangs is a failed row
