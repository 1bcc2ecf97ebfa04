"""The parts of a GIF file (GIF89a specification) up to its first image: that is the one which is decoded."""

from aistudio.images._picture import Picture, Refused

_EXTENSION, _IMAGE, _CONTROL = 0x21, 0x2C, 0xF9
_MAX_BLOCKS = 100_000  # before the first image, bytes of no meaning included; Pillow walks them in Python


def picture(body: bytes) -> Picture:
    """The file without comments and other extensions before its first image; the image's own control block stays.

    Raises:
        Refused: more blocks than a decoder could walk in time.
    """
    at = head_end = 13 + (3 << ((body[10] & 7) + 1) if len(body) > 10 and body[10] & 0x80 else 0)
    controls, num_blocks = b"", 0
    while at < len(body) and body[at] != _IMAGE and body[at] != 0x3B:
        begin, at = at, at + 1
        num_blocks += 1
        if body[begin] == _EXTENSION:
            at += 1
            while at < len(body) and body[at] and num_blocks <= _MAX_BLOCKS:
                at += 1 + body[at]
                num_blocks += 1
            at += 1
            if body[begin + 1 : begin + 3] == bytes([_CONTROL, 4]) and at == begin + 8:
                controls = body[begin:at]
        if num_blocks > _MAX_BLOCKS:
            raise Refused(f"a GIF with more than {_MAX_BLOCKS:,} blocks before its first image")
    if at >= len(body) or at == head_end:
        return Picture(body)
    return Picture(body[:head_end] + controls + body[at:])
