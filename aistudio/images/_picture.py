"""What the decoder is given of a file: the picture without the parts beside it, and what those parts say about it.

Profiles, texts, comments, thumbnails and camera data cost images when they are damaged or large, although nothing here
needs them: the decoder never sees them. _jpeg.py, _png.py, _gif.py, _tiff.py and _avif.py cut them off.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """A file's picture, ready for a decoder."""

    body: bytes
    orientation: int = 1  # 1 to 8 as in EXIF: what turning would have to undo
    bits: int = 8  # per sample, as declared
    white_is_zero: bool = False  # grey of more than 8 bits whose 0 is white


class Refused(ValueError):
    """The file would cost a decoder far more than its size, or its pixels have no known look; the text says which.

    `size` is (width, height) where it is known by then.
    """

    def __init__(self, text: str, size: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.size = size
