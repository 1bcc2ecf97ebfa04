"""What stands beside the picture in a file costs nothing: damaged, odd or large, the pixels are the plain file's."""

import io
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images._exif import orientation
from aistudio.images.decode import Decoded, decode
from aistudio.schema import Status

SPEC = ImageSpec(size=32)
WIDTH, HEIGHT = 48, 32
_FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _drawn() -> Image.Image:
    x = np.linspace(0, 255, WIDTH)[None, :] * np.ones((HEIGHT, 1))
    y = np.linspace(0, 255, HEIGHT)[:, None] * np.ones((1, WIDTH))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def _file(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _one(body: bytes, turn: bool = False, **changes) -> Decoded:
    return decode(body, [SPEC], ImagesSettings(apply_exif_orientation=turn, **changes))


def _same(body: bytes, plain: Decoded, turn: bool = False) -> None:
    got = _one(body, turn)
    assert got.status is Status.OK, got.error
    assert (got.width, got.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(got.pixels[0], plain.pixels[0])


PNG, JPEG, GIF = _file(_drawn(), "PNG"), _file(_drawn(), "JPEG"), _file(_drawn().quantize(32), "GIF")
WEBP, TIFF = _file(_drawn(), "WEBP", lossless=True), _file(_drawn(), "TIFF")
PLAIN = {name: _one(body) for name, body in {"PNG": PNG, "JPEG": JPEG, "GIF": GIF, "WEBP": WEBP, "TIFF": TIFF}.items()}


# PNG


def _chunk(kind: bytes, data: bytes, checksum: int = 0) -> bytes:
    """A chunk; `checksum` other than 0 makes its checksum wrong."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ checksum)


def _with_chunk(chunk: bytes, after_data: bool = False) -> bytes:
    at = PNG.rindex(b"IEND") - 4 if after_data else PNG.index(b"IDAT") - 4
    return PNG[:at] + chunk + PNG[at:]


@pytest.mark.parametrize("after_data", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(b"iCCP", b"profile\0\0" + zlib.compress(random.Random(1).randbytes(2000) * 1000)),
        _chunk(b"iCCP", b"profile\0\7" + b"not zlib"),
        _chunk(b"iCCP", b"no end of the name"),
        _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 30_000_000)),
        _chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * 30_000_000)),
        _chunk(b"iTXt", b"Comment\0\1\0\0\0" + b"not zlib"),
        _chunk(b"tEXt", b"Comment\0" + b"a" * 70_000_000),
        _chunk(b"tEXt", b"hello", checksum=1),
        *(_chunk(kind, b"\x01") for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"bKGD", b"tRNS", b"sBIT")),
        *(_chunk(kind, b"") for kind in (b"pHYs", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iTXt", b"zTXt", b"iCCP")),
        _chunk(b"acTL", struct.pack(">II", 2**31, 0)),
        _chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        _chunk(b"PLTE", bytes(30), checksum=1),  # a palette that an RGB picture only suggests
    ],
    ids=lambda chunk: chunk[4:8].decode() if isinstance(chunk, bytes) else str(chunk),
)
def test_png_parts_that_the_picture_does_not_need(chunk: bytes, after_data: bool) -> None:
    body = _with_chunk(chunk, after_data)
    for turn in (False, True):
        _same(body, PLAIN["PNG"], turn)


def test_a_bomb_beside_the_picture_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    for chunk in (b"zTXt", b"iCCP"), (b"iTXt",):
        body = _with_chunk(b"".join(_chunk(kind, b"a\0\0\0\0\0" + bomb) for kind in chunk))
        tracemalloc.start()
        _same(body, PLAIN["PNG"], turn=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


@_FUZZ
@given(
    st.lists(
        st.tuples(
            st.from_regex(rb"[a-z][A-Za-z]{3}", fullmatch=True) | st.sampled_from([b"iCCP", b"eXIf", b"pHYs", b"iTXt"]),
            st.binary(max_size=40),
            st.sampled_from([0, 1, 2**31]),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_ancillary_chunks(chunks: list[tuple[bytes, bytes, int, bool]], turn: bool) -> None:
    before = b"".join(_chunk(kind, data, wrong) for kind, data, wrong, after in chunks if not after)
    after = b"".join(_chunk(kind, data, wrong) for kind, data, wrong, after in chunks if after)
    first, last = PNG.index(b"IDAT") - 4, PNG.rindex(b"IEND") - 4
    _same(PNG[:first] + before + PNG[first:last] + after + PNG[last:], PLAIN["PNG"], turn)


def test_a_png_of_indices_without_a_palette_is_no_black_picture() -> None:
    image = _file(_drawn().quantize(32), "PNG")
    at = image.index(b"PLTE") - 4
    end = at + 12 + int.from_bytes(image[at : at + 4], "big")
    got = _one(image[:at] + image[end:])
    assert (got.status, got.error) == (Status.UNSUPPORTED_IMAGE, "a PNG of palette indices without a palette")
    last = image.rindex(b"IEND") - 4
    behind = image[:at] + image[end:last] + image[at:end] + image[last:]
    assert _one(image).status is Status.OK and _one(behind).status is Status.UNSUPPORTED_IMAGE


def test_png_cut_in_or_behind_its_last_parts() -> None:
    long = _with_chunk(_chunk(b"tEXt", b"Comment\0" + b"a" * 1000), after_data=True)
    for cut in (1, 12, 13, 500, 1020):
        _same(long[:-cut], PLAIN["PNG"])
    _same(PNG + b"anything" * 5000, PLAIN["PNG"])
    damaged = bytearray(PNG)
    damaged[PNG.index(b"IDAT") + 8 : PNG.index(b"IDAT") + 40] = bytes(32)
    assert _one(bytes(damaged) + b"x" * 5000).status is Status.UNSUPPORTED_IMAGE  # whole, whatever follows
    assert _one(PNG[: PNG.index(b"IDAT") + 60]).status is Status.TRUNCATED_IMAGE


def test_transparency_changes_no_pixel() -> None:
    for image, mark in ((_drawn(), (0, 0, 255)), (_drawn().convert("L"), 7), (_drawn().quantize(32), bytes(range(32)))):
        np.testing.assert_array_equal(
            _one(_file(image, "PNG", transparency=mark)).pixels[0], _one(_file(image, "PNG")).pixels[0]
        )


# JPEG


def _segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


_HEADS = [b"", b"JFIF", b"JFIF\0", b"Adobe", b"Exif\0\0", b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0"]
_HEADS += [b"http://ns.adobe.com/xap/1.0/\0", b"FPXR\0"]


@_FUZZ
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*range(0xE0, 0xF0), 0xFE]),
            st.sampled_from(_HEADS),
            st.binary(max_size=5),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_application_segments(segments: list[tuple[int, bytes, bytes]], turn: bool) -> None:
    extra = b"".join(_segment(marker, head + data) for marker, head, data in segments)
    at = 2 + 18  # behind JFIF
    _same(JPEG[:at] + extra + JPEG[at:], PLAIN["JPEG"], turn)


@pytest.mark.parametrize(
    "behind",
    [
        b"\xff\xda" * 1000,
        random.Random(0).randbytes(300_000) + b"\xff\xda" * 300,
        JPEG * 300,
        b"\xff\xd9" * 500 + b"\xff\xda" * 500,
    ],
)
def test_what_follows_a_jpeg_is_not_part_of_it(behind: bytes) -> None:
    for turn in (False, True):
        _same(JPEG + behind, PLAIN["JPEG"], turn)
    _same(_file(_drawn(), "JPEG", comment=b"\xff\xda" * 3000), PLAIN["JPEG"])
    many = _file(_drawn(), "JPEG", progressive=True)
    scan = many[many.rindex(b"\xff\xda") : -2]
    got = _one(many[:-2] + scan * 300 + b"\xff\xd9" + behind)
    assert got.error == "a JPEG with more than 200 scans"


def test_multi_picture_jpegs_give_their_first_picture() -> None:
    body = _file(_drawn(), "MPO", save_all=True, append_images=[Image.new("RGB", (300, 200), "blue")])
    _same(body, PLAIN["JPEG"])
    at = body.index(b"MPF\0") + 4
    for damage in (b"\xff" * 60, bytes(60)):
        _same(body[:at] + damage + body[at + 60 :], PLAIN["JPEG"])


def test_the_end_of_a_jpeg_is_its_own() -> None:
    thumbnail = _segment(0xE1, b"Exif\0\0" + JPEG)
    cut = JPEG[:2] + thumbnail + JPEG[2:-300]
    assert _one(cut).status is Status.TRUNCATED_IMAGE
    assert _one(cut[:-30]).status is Status.TRUNCATED_IMAGE


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xff\xd8" + b"\xff\xe5\0\2" * 20_000, "segments"),
        (b"\xff\xd8" + b"\xff\xe5\0\0" * 20_000, "segments"),
        (b"\xff\xd8\xff\xd9" + b"\xff\xe5\0\2" * 20_000, "segments"),
        (b"\xff\xd8" + b"\xff" * 100_000, "between its segments"),
        (b"\xff\xd8\xff\xe5\0\2" + b"x" * 100_000, "between its segments"),
        (b"\xff\xd8\xff\xe5\0\2" + b"\xff\0" * 100_000, "between its segments"),
        (b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b"\x21\xfe\0" * 200_000, "blocks before its first image"),
        (b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b"\x21\xfe" + b"\1x" * 200_000, "blocks before its first"),
        (b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b"x" * 200_000, "blocks before its first image"),
    ],
)
def test_long_walks_are_refused(body: bytes, text: str) -> None:
    got = _one(body)
    assert got.status is Status.UNSUPPORTED_IMAGE
    assert text in (got.error or "")


# GIF


@_FUZZ
@given(st.lists(st.tuples(st.integers(0, 255), st.lists(st.binary(min_size=1, max_size=20), max_size=3)), max_size=5))
def test_any_gif_extensions(extensions: list[tuple[int, list[bytes]]]) -> None:
    blocks = b"".join(
        b"\x21" + bytes([label]) + b"".join(bytes([len(b)]) + b for b in data) + b"\0"
        for label, data in extensions
        if not (label == 0xF9 and data and len(data[0]) == 4)
    )
    at = 13 + (3 << ((GIF[10] & 7) + 1))
    _same(GIF[:at] + blocks + GIF[at:], PLAIN["GIF"])


# EXIF, XMP and turning


def _exif(tags: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "LH", 8, len(tags))
    return head + b"".join(struct.pack(order + "HHL", *tag[:3]) + tag[3] for tag in tags) + bytes(4)


def _turned(kind: str, exif: bytes) -> bytes:
    """The drawing as a file of `kind` with these EXIF data."""
    if kind == "PNG":
        return _with_chunk(_chunk(b"eXIf", exif))
    if kind == "JPEG":
        return JPEG[:2] + _segment(0xE1, b"Exif\0\0" + exif) + JPEG[2:]
    return _file(_drawn(), "WEBP", lossless=True, exif=exif)


def _tiff(tags: list[tuple[int, int, int, bytes]], order: str = "<", **options) -> bytes:
    """The drawing as TIFF whose directory has `tags` beside its own."""
    body = _file(_drawn(), "TIFF", **options)
    (start,) = struct.unpack_from("<L", body, 4)
    (count,) = struct.unpack_from("<H", body, start)
    own = [body[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    added = [struct.pack("<HHL", *tag[:3]) + tag[3] for tag in tags]
    entries = sorted([e for e in own if e[:2] not in {a[:2] for a in added}] + added, key=lambda e: e[0] + 256 * e[1])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return body[:4] + struct.pack("<L", len(body)) + body[8:] + directory


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "TIFF lzw", "AVIF"])
def test_turning_only_when_asked_and_then_as_exif_says(kind: str, turn: int) -> None:
    tag = (0x0112, 3, 1, struct.pack("<HH", turn, 0))
    if kind.startswith("TIFF"):
        body = _tiff([tag], **({"compression": "tiff_lzw"} if "lzw" in kind else {}))
        plain = _tiff([], **({"compression": "tiff_lzw"} if "lzw" in kind else {}))
    elif kind == "AVIF":
        plain = _file(_drawn(), "AVIF", quality=95)
        body = _file(_drawn(), "AVIF", quality=95, exif=_exif([tag]))
    else:
        body, plain = _turned(kind, _exif([tag])), {"PNG": PNG, "JPEG": JPEG, "WEBP": WEBP}[kind]
    _same(body, _one(plain))
    got = _one(body, turn=True)
    assert (got.width, got.height) == (WIDTH, HEIGHT)  # of the file as stored
    with Image.open(io.BytesIO(plain)) as image:
        exif = Image.Exif()
        exif[0x0112] = turn
        rgb = image.convert("RGB")
        rgb.info["exif"] = exif.tobytes()
        want = _one(_file(ImageOps.exif_transpose(rgb), "PNG"))
    np.testing.assert_array_equal(got.pixels[0], want.pixels[0])


_ODD_TAGS = st.tuples(
    st.integers(0, 0xFFFF).filter(lambda n: n != 0x0112),
    st.integers(0, 20),
    st.integers(0, 2**32 - 1) | st.integers(0, 4),
    st.binary(min_size=4, max_size=4),
)


@_FUZZ
@given(kind=st.sampled_from(["PNG", "JPEG", "WEBP"]), before=st.lists(_ODD_TAGS, max_size=5), after=st.lists(_ODD_TAGS))
def test_odd_tags_cost_nothing(kind: str, before: list, after: list) -> None:
    tag = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
    want = _one(_turned(kind, _exif([tag])), turn=True)
    _same(_turned(kind, _exif([*before, tag, *after])), want, turn=True)
    assert want.status is Status.OK


# Numbers that decoders need, and those that other tests set, are left alone.
_UNNEEDED = _ODD_TAGS.filter(lambda t: t[0] in (282, 283, 296, 305) or not (254 <= t[0] <= 347 or 512 <= t[0] <= 532))


@_FUZZ
@given(tags=st.lists(_UNNEEDED, max_size=5, unique_by=lambda t: t[0]), turn=st.booleans())
def test_odd_tags_of_a_tiff_cost_nothing(tags: list, turn: bool) -> None:
    _same(_tiff(tags), PLAIN["TIFF"], turn)


@_FUZZ
@given(exif=st.binary(max_size=60), head=st.sampled_from([b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_damaged_exif_costs_nothing(exif: bytes, head: bytes) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        got = _one(_turned(kind, head + exif), turn=True)
        assert got.status is Status.OK, got.error
    assert 1 <= orientation(head + exif) <= 8


@pytest.mark.parametrize(
    ("exif", "want"),
    [
        (_exif([(0x0112, 3, 1, b"\6\0\0\0")]), 6),
        (b"Exif\0\0" + _exif([(0x0112, 3, 1, b"\0\6\0\0")], ">"), 6),
        (_exif([(0x0112, 4, 1, b"\3\0\0\0")]), 3),
        (_exif([(0x0112, 1, 1, b"\x08\0\0\0")]), 8),
        (_exif([(0x0112, 3, 1, b"\0\0\0\0")]), 1),
        (_exif([(0x0112, 3, 1, b"\x09\0\0\0")]), 1),
        (_exif([(0x0112, 2, 2, b"6\0\0\0")]), 1),
        (_exif([(0x0112, 3, 0, b"\6\0\0\0")]), 1),
        (_exif([(0x0112, 3, 1, b"\6\0\0\0")])[:15], 1),
        (b"", 1),
        (b"II*\0\xff\xff\xff\xff", 1),
    ],
)
def test_orientation(exif: bytes, want: int) -> None:
    assert orientation(exif) == want


def test_orientation_of_xmp_counts_where_exif_says_nothing() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    want = _one(_turned("JPEG", _exif([(0x0112, 3, 1, b"\6\0\0\0")])), turn=True)
    marked = _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    _same(JPEG[:2] + marked + JPEG[2:], want, turn=True)
    assert orientation(_exif([(0x0112, 3, 1, b"\1\0\0\0")]), xmp) == 1
    want = _one(_turned("PNG", _exif([(0x0112, 3, 1, b"\6\0\0\0")])), turn=True)
    _same(_with_chunk(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)), want, turn=True)
    _same(_file(_drawn(), "WEBP", lossless=True, xmp=xmp), want, turn=True)


def test_avif_with_damaged_exif() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker of cameras"
    body = _file(_drawn(), "AVIF", exif=exif)
    assert b"maker of cameras" in body
    whole = _one(body, turn=True)
    at = body.index(b"maker of cameras") - 40
    for damage in (b"\xff" * 40, bytes(40)):
        _same(body[:at] + damage + body[at + 40 :], whole, turn=True)


# Sizes and samples


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _grey_tiff(width: int, height: int, bits: int, data: bytes, *, kind: int = 1, look: int = 1) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, look), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, len(data)), (339, 3, kind)]
    entries = b"".join(struct.pack("<HHLL", number, form, 1, value) for number, form, value in tags)
    data += bytes(len(data) % 2)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def _bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IIIHHIIIIII", 40, width, height, 1, 24, 0, 4, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + info + bytes(4)


def _avif(width: int, height: int) -> bytes:
    size = b"ispe\0\0\0\0" + struct.pack(">II", WIDTH, HEIGHT)
    body = _file(_drawn(), "AVIF")
    assert body.count(size) == 1
    return body.replace(size, b"ispe\0\0\0\0" + struct.pack(">II", width, height))


def _big_tiff(width: int, height: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", n, 16, 1, v) for n, v in ((256, width), (257, height), (258, 8), (262, 1)))
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 4) + entries + bytes(8)


@pytest.mark.parametrize(
    "make",
    [
        lambda w, h: _png(w, h, 8, 2, b"\0"),
        _bmp,
        lambda w, h: _grey_tiff(w, h, 8, b"x"),
        _big_tiff,
        _avif,
    ],
    ids=["PNG", "BMP", "TIFF", "BigTIFF", "AVIF"],
)
@pytest.mark.parametrize("sides", [(2**31, 1), (1, 3_000_000_000), (2**32 - 1, 2**31), (2**31, 0), (0, 2**31)])
@pytest.mark.parametrize("max_pixels", [100_000_000, 2**70])
def test_sides_beyond_int32_are_not_stored(make, sides: tuple[int, int], max_pixels: int) -> None:
    got = _one(make(*sides), max_pixels=max_pixels)
    assert got.status in (Status.IMAGE_TOO_LARGE, Status.UNSUPPORTED_IMAGE, Status.TRUNCATED_IMAGE)
    assert got.error
    for side in (got.width, got.height):
        assert side is None or 0 <= side < 2**31


_RAMP = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)


def _shades(body: bytes) -> np.ndarray:
    got = decode(body, [ImageSpec(size=32)], ImagesSettings())
    assert got.status is Status.OK, got.error
    return got.pixels[0][..., 0].astype(int)


def test_grey_of_more_than_8_bits_is_scaled_by_its_declared_depth() -> None:
    want = _shades(_grey_tiff(WIDTH, HEIGHT, 8, (_RAMP * 255).astype(np.uint8).tobytes()))
    wide = (_RAMP * 65535).astype("<u2").tobytes()
    twelve = "".join(f"{int(v):012b}" for v in (_RAMP * 4095).ravel())
    packed = bytes(int(twelve[i : i + 8], 2) for i in range(0, len(twelve), 8))
    assert np.abs(_shades(_grey_tiff(WIDTH, HEIGHT, 16, wide)) - want).max() <= 1
    assert np.abs(_shades(_grey_tiff(WIDTH, HEIGHT, 12, packed)) - want).max() <= 1
    # 0 is white: the same picture, inverted
    assert np.abs(_shades(_grey_tiff(WIDTH, HEIGHT, 16, wide, look=0)) - (255 - want)).max() <= 1
    for compression in ("tiff_lzw", "tiff_deflate"):
        image = Image.fromarray((_RAMP * 65535).astype(np.uint16))
        assert np.abs(_shades(_file(image, "TIFF", compression=compression)) - want).max() <= 1


@pytest.mark.parametrize("most", [1, 255, 1023, 4095])
def test_16_bits_of_which_few_are_used_are_refused(most: int) -> None:
    grey = _RAMP * most
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    triple = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in grey)
    for body in (
        _grey_tiff(WIDTH, HEIGHT, 16, grey.astype("<u2").tobytes()),
        _png(WIDTH, HEIGHT, 16, 0, rows),
        _png(WIDTH, HEIGHT, 16, 2, triple),
    ):
        got = _one(body)
        assert got.status is Status.UNSUPPORTED_IMAGE
        assert "16-bit samples that is black at this depth" in (got.error or "")
        assert (got.width, got.height) == (WIDTH, HEIGHT)
    assert _one(_grey_tiff(WIDTH, HEIGHT, 16, (grey * 4096 // most).astype("<u2").tobytes())).status is Status.OK


def test_a_black_picture_is_a_picture() -> None:
    black = bytes(2 * WIDTH * HEIGHT)
    assert _shades(_grey_tiff(WIDTH, HEIGHT, 16, black)).max() == 0
    assert _shades(_png(WIDTH, HEIGHT, 16, 0, (b"\0" + bytes(2 * WIDTH)) * HEIGHT)).max() == 0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_file(Image.fromarray(_RAMP.astype(np.float32)), "TIFF"), "floating-point"),
        (_file(Image.fromarray(_RAMP.astype(np.float32)), "TIFF", compression="tiff_lzw"), "floating-point"),
        (_file(Image.fromarray((_RAMP * 65535).astype(np.int32)), "TIFF"), "signed"),
        (_grey_tiff(WIDTH, HEIGHT, 32, (_RAMP * 4e9).astype("<u4").tobytes()), "32-bit samples"),
        (_grey_tiff(WIDTH, HEIGHT, 16, (_RAMP * 30000).astype("<i2").tobytes(), kind=2), "signed"),
        (_grey_tiff(WIDTH, HEIGHT, 8, (_RAMP * 100).astype("i1").tobytes(), kind=2), "signed"),
    ],
)
def test_measurements_are_refused_by_name(body: bytes, text: str) -> None:
    got = _one(body)
    assert got.status is Status.UNSUPPORTED_IMAGE
    assert text in (got.error or "")
    assert (got.width, got.height) == (WIDTH, HEIGHT)
