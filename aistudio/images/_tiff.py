"""The first page of a TIFF or BigTIFF file (TIFF 6.0): a directory of tags that point into the file."""

import struct
from dataclasses import dataclass

from aistudio.images._picture import Picture, Refused

_TYPE_BYTES = {
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
_INTEGERS = {1: "B", 3: "H", 4: "L", 16: "Q"}  # types of whole numbers
_MAX_TAGS = 1_000  # real files have 10 to 60

_WIDTH, _HEIGHT, _BITS, _LOOK, _ORIENTATION, _FORMAT = 256, 257, 258, 262, 274, 339
# What decoders need: size, samples, compression and its tables, where the data are, colours. Resolution, texts, camera
# data, profiles, previews and further pages are not among them, and cost images where they are damaged.
_NEEDED = frozenset(
    {
        *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
        *(332, 333, 334, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
    }
)


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    kind: int
    count: int
    where: int
    at: int  # of the entry

    @property
    def size(self) -> int:
        return _TYPE_BYTES.get(self.kind, 1) * self.count


@dataclass(frozen=True, slots=True)
class _Directory:
    order: str  # "<" or ">"
    inline: int  # bytes that fit into an entry: 4, in BigTIFF 8
    num_tags: int  # as announced; `tags` is empty when there are too many to look at
    tags: tuple[_Tag, ...]

    @property
    def entry_size(self) -> int:
        return 4 + 2 * self.inline

    def values(self, body: bytes, number: int, limit: int = 8) -> tuple[int, ...]:
        """The whole numbers of a tag, at most `limit` of them; () when it is absent or odd."""
        tag = next((t for t in self.tags if t.number == number), None)
        code = _INTEGERS.get(tag.kind) if tag else None
        if tag is None or code is None:
            return ()
        at = tag.at + 4 + self.inline if tag.size <= self.inline else tag.where
        try:
            return struct.unpack_from(f"{self.order}{min(tag.count, limit)}{code}", body, at)
        except (struct.error, OverflowError):
            return ()


def picture(body: bytes) -> Picture:
    """The first page with the tags alone that decoders need, written as a new directory behind the file.

    The orientation is cut off as well: Pillow would turn the picture whether it is asked to or not. A directory that
    is cut is left as it is, for the decoder to refuse.

    Raises:
        Refused: tags that claim more than the file has, or samples that are measurements rather than shades.
    """
    try:
        directory = _directory(body)
    except struct.error:
        return Picture(body)
    if directory.num_tags > _MAX_TAGS:
        raise Refused(f"a TIFF with {directory.num_tags:,} tags")
    tags = [t for t in directory.tags if t.number in _NEEDED]
    if sum(t.size for t in tags) > len(body) and not _beyond(tags, directory, body):
        raise Refused("a TIFF whose tags claim more data than the file has")
    bits = max(directory.values(body, _BITS), default=1)
    unknown = _unknown_look(directory.values(body, _FORMAT), bits)
    if unknown:
        sides = directory.values(body, _WIDTH)[:1] + directory.values(body, _HEIGHT)[:1]
        raise Refused(unknown, (sides[0], sides[1]) if len(sides) == 2 else None)
    (turn, *_) = directory.values(body, _ORIENTATION) or (1,)
    alone = _rewritten(body, directory, tags)
    return Picture(alone, turn, bits, white_is_zero=directory.values(body, _LOOK)[:1] == (0,))


def ends_early(body: bytes) -> bool:
    """Whether the tags, the data that they point to, or strips and tiles lie beyond the end of the file."""
    try:
        directory = _directory(body)
    except struct.error:
        return True
    for starts, sizes in ((273, 279), (324, 325)):  # strips, tiles
        places = zip(*(directory.values(body, number, len(body)) for number in (starts, sizes)), strict=False)
        if any(start + size > len(body) for start, size in places):
            return True
    return _beyond(directory.tags, directory, body)


def _beyond(tags: "list[_Tag] | tuple[_Tag, ...]", directory: _Directory, body: bytes) -> bool:
    return any(t.size > directory.inline and t.where + t.size > len(body) for t in tags)


def _unknown_look(formats: tuple[int, ...], bits: int) -> str | None:
    """Why it is not known how the samples look. Pillow would clip or wrap them, to black or white."""
    if 3 in formats:
        return "a TIFF of floating-point samples: which values are black and white is not known; store 8 bits"
    if 2 in formats:
        return "a TIFF of signed samples: which values are black and white is not known; store 8 bits, unsigned"
    if bits > 16:
        return f"a TIFF of {bits}-bit samples: which value is white is not known; store 8 or 16 bits"
    return None


def _directory(body: bytes) -> _Directory:
    """The first page's directory.

    Raises:
        struct.error: the file ends before its tags do.
    """
    order = "<" if body[:2] == b"II" else ">"
    big = 43 in (body[2], body[3])
    entry, count, offset, inline = ("HHQQ", "Q", "Q", 8) if big else ("HHLL", "H", "L", 4)
    try:
        (start,) = struct.unpack_from(order + offset, body, 8 if big else 4)
        (num_tags,) = struct.unpack_from(order + count, body, start)
        if num_tags > _MAX_TAGS:
            return _Directory(order, inline, num_tags, ())
        first, size = start + struct.calcsize(order + count), struct.calcsize(order + entry)
        places = [first + i * size for i in range(num_tags)]
        unpacked = ((*struct.unpack_from(order + entry, body, at), at) for at in places)
        tags = tuple(_Tag(number, kind, count, where, at) for number, kind, count, where, at in unpacked)
    except OverflowError as e:  # an offset beyond what Python can index
        raise struct.error(str(e)) from None
    return _Directory(order, inline, num_tags, tags)


def _rewritten(body: bytes, directory: _Directory, tags: list[_Tag]) -> bytes:
    padding = bytes(-len(body) % 8)
    big = directory.inline == 8
    at, count, offset = (8, "Q", "Q") if big else (4, "H", "L")
    entries = [body[t.at : t.at + directory.entry_size] for t in tags]
    head = struct.pack(directory.order + offset, len(body) + len(padding))
    new = [struct.pack(directory.order + count, len(tags)), *entries, bytes(directory.inline)]
    return b"".join([body[:at], head, body[at + len(head) :], padding, *new])
