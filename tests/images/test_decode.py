"""decode.py: every format and colour model, every way of being broken, and a few hundred mutated files."""

import hashlib
import io
import random
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images._load import _prepare_pillow
from aistudio.images.decode import Decoded, decode
from aistudio.images.transform import resize
from aistudio.schema import Status

SPEC = ImageSpec(size=32)
SETTINGS = ImagesSettings(thumbnail_px=40)


def _drawn(width: int = 90, height: int = 60) -> Image.Image:
    x = np.linspace(0, 255, width)[None, :] * np.ones((height, 1))
    y = np.linspace(0, 255, height)[:, None] * np.ones((1, width))
    image = Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), fill=(250, 30, 60))
    return image


def _file(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _one(body: bytes, **changes) -> Decoded:
    return decode(body, [SPEC], SETTINGS.model_copy(update=changes))


def _rgba() -> Image.Image:
    image = _drawn().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


FILES: dict[str, bytes] = {
    "jpeg": _file(_drawn(), "JPEG", quality=90),
    "jpeg progressive": _file(_drawn(), "JPEG", progressive=True),
    "jpeg grey": _file(_drawn().convert("L"), "JPEG"),
    "jpeg cmyk": _file(_drawn().convert("CMYK"), "JPEG"),  # Pillow writes Adobe's inverted kind
    "png": _file(_drawn(), "PNG"),
    "png palette": _file(_drawn().quantize(64), "PNG"),
    "png palette, alpha per colour": _file(_drawn().quantize(64), "PNG", transparency=bytes(range(64))),
    "png alpha": _file(_rgba(), "PNG"),
    "png grey, alpha": _file(_rgba().convert("LA"), "PNG"),
    "png 1 bit": _file(_drawn().convert("1"), "PNG"),
    "webp": _file(_drawn(), "WEBP"),
    "webp lossless, alpha": _file(_rgba(), "WEBP", lossless=True),
    "gif": _file(_drawn().quantize(64), "GIF"),
    "gif animated": _file(
        _drawn().quantize(64), "GIF", save_all=True, append_images=[Image.new("RGB", (90, 60), "blue")]
    ),
    "bmp": _file(_drawn(), "BMP"),
    "bmp palette": _file(_drawn().quantize(16), "BMP"),
    "tiff": _file(_drawn(), "TIFF"),
    "tiff lzw": _file(_drawn(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": _file(_drawn(), "TIFF", compression="jpeg"),
    "tiff cmyk": _file(_drawn().convert("CMYK"), "TIFF"),
    "avif": _file(_drawn(), "AVIF", quality=90),
    "avif alpha": _file(_rgba(), "AVIF", quality=90),
    "avif animated": _file(_drawn(), "AVIF", save_all=True, append_images=[Image.new("RGB", (90, 60), "blue")]),
}


@pytest.mark.parametrize("name", FILES)
def test_formats_equal_pillow(name: str) -> None:
    body = FILES[name]
    got = _one(body)
    assert got.status is Status.OK, got.error
    assert got.error is None
    assert (got.width, got.height) == (90, 60)
    assert got.content_hash == hashlib.sha256(body).hexdigest()
    with Image.open(io.BytesIO(body)) as image:
        np.testing.assert_array_equal(got.pixels[0], resize(image.convert("RGB"), SPEC))
    if "grey" not in name and "1 bit" not in name:
        # ... and looks like what was drawn: red disk in the middle, blue at the left (catches inverted CMYK).
        red, blue = got.pixels[0][16, 14].astype(int), got.pixels[0][2, 1].astype(int)
        assert red[0] > red[1] + 100
        assert blue[2] > blue[0] + 100
    with Image.open(io.BytesIO(got.thumbnail or b"")) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (40, 27))


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlace: int = 0, extra: bytes = b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = _png_chunk(b"IHDR", header) + extra + _png_chunk(b"IDAT", zlib.compress(rows)) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_png_16_bit_grey_keeps_the_high_byte() -> None:
    grey = np.linspace(0, 65535, 64).astype(">u2")
    got = _one(_png(64, 8, 16, 0, b"".join(b"\0" + grey.tobytes() for _ in range(8))))
    assert got.status is Status.OK
    want = np.repeat((grey >> 8).astype(np.uint8)[None, :, None], 8, 0).repeat(3, 2)
    np.testing.assert_array_equal(got.pixels[0], resize(want, SPEC))


def test_png_16_bit_rgb() -> None:
    row = np.tile(np.array([65535, 32768, 256], ">u2"), 16).tobytes()
    got = _one(_png(16, 16, 16, 2, (b"\0" + row) * 16))
    np.testing.assert_array_equal(got.pixels[0][5, 5], [255, 128, 1])


def test_png_interlaced() -> None:
    # Adam7 on 8 x 8: seven passes; equal grey everywhere but the first pixel, which is pass 1.
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\0" + b"\x40" * w) * h for w, h in passes)
    got = decode(_png(8, 8, 8, 0, b"\0\xff" + rows[2:], interlace=1), [ImageSpec(size=8)], SETTINGS)
    assert got.status is Status.OK
    assert got.pixels[0][0, 0, 0] == 0xFF
    assert set(got.pixels[0].reshape(-1)[3:]) == {0x40}


def test_ycck_jpeg() -> None:
    """Adobe's other four-colour JPEG: transform 2 in its APP14 marker. libjpeg gives CMYK, Pillow inverts it."""
    body = FILES["jpeg cmyk"]
    at = body.index(b"Adobe") + 11
    assert body[at] in (0, 2)
    ycck = body[:at] + b"\x02" + body[at + 1 :]
    got = _one(ycck)
    assert got.status is Status.OK
    with Image.open(io.BytesIO(ycck)) as image:
        assert image.mode == "CMYK"
        np.testing.assert_array_equal(got.pixels[0], resize(image.convert("RGB"), SPEC))


def test_alpha_is_dropped_not_composited() -> None:
    image = Image.new("RGBA", (40, 40), (200, 100, 50, 0))
    assert (_one(_file(image, "PNG")).pixels[0] == (200, 100, 50)).all()


def test_exif_orientation_only_when_asked() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    body = _file(_drawn(), "JPEG", exif=exif, quality=95)
    plain, turned = _one(body), _one(body, apply_exif_orientation=True)
    np.testing.assert_array_equal(plain.pixels[0], _one(_file(_drawn(), "JPEG", quality=95)).pixels[0])
    assert (turned.width, turned.height) == (90, 60)  # of the file as stored
    with Image.open(io.BytesIO(turned.thumbnail or b"")) as thumbnail:
        assert thumbnail.size == (27, 40)


def test_several_specs_and_none() -> None:
    specs = [ImageSpec(size=32), ImageSpec(size=16, resize="pil_bicubic_center_crop")]
    got = decode(FILES["jpeg"], specs, SETTINGS)
    assert [p.shape for p in got.pixels] == [(32, 32, 3), (16, 16, 3)]
    assert decode(FILES["jpeg"], [], SETTINGS).pixels == ()
    assert decode(FILES["jpeg"], [], ImagesSettings(thumbnail_px=0)).thumbnail is None


def test_fast_is_close_to_exact_and_exact_is_exact() -> None:
    body = _file(_drawn(1600, 1200), "JPEG", quality=92)
    exact, fast = _one(body), _one(body, decode="fast")
    assert (fast.width, fast.height) == (1600, 1200)
    difference = np.abs(exact.pixels[0].astype(int) - fast.pixels[0]).mean()
    assert 0 < difference < 4
    np.testing.assert_array_equal(_one(FILES["png"], decode="fast").pixels[0], _one(FILES["png"]).pixels[0])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html><body>Please log in</body></html>", "looks like HTML: '<html><body>Please log in"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><svg></svg>", "looks like HTML"),
        (b'{"error": "no such image"}', "looks like JSON"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "looks like XML"),
        ("请登录".encode("gb18030"), "looks like text: '请登录'"),
        (b"%PDF-1.7 ...", "looks like a PDF"),
        (b"PK\x03\x04....", "looks like a ZIP archive"),
        (b"\0\0\0\x18ftypmp42....", "looks like a video"),
        (random.Random(1).randbytes(5000), "binary data of no known image format"),
        (bytes(1000), "only blanks or zeros"),
        (b"BM", "looks like text"),
        (b"x", "looks like text: 'x'"),
        (b"P2 not found", "looks like text: 'P2 not found'"),
        (b"\1\0\0\0" + bytes(40), "binary data of no known image format"),
        (b"\0\0\2\0" + bytes(40), "binary data of no known image format"),
    ],
)
def test_not_an_image(body: bytes, text: str) -> None:
    got = _one(body)
    assert got.status is Status.NOT_AN_IMAGE
    assert text in (got.error or "")
    assert got.content_hash
    assert got.pixels == ()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg width='1e9' height='1e9'></svg>", "SVG"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "EPS"),
        (_file(_drawn().resize((32, 32)), "ICO"), "ICO"),
        (_file(_drawn(), "JPEG2000"), "JPEG 2000"),
        (_file(_drawn(), "PPM"), "PNM"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1", "HEIF"),
        (b"\0\0\2\0\1\0\x20\x20\0\0" + struct.pack("<HHII", 0, 0, 100, 22) + bytes(100), "CUR"),
        (_file(_drawn(), "TGA"), "TGA"),
        (_file(_drawn(), "TGA", compression="tga_rle"), "TGA"),
        (_file(_drawn().convert("L"), "TGA"), "TGA"),
        (_file(_drawn().quantize(16), "TGA"), "TGA"),
        (b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(40), "EMF"),
    ],
)
def test_known_but_not_decoded(body: bytes, name: str) -> None:
    got = _one(body)
    assert got.status is Status.UNSUPPORTED_IMAGE
    assert (got.error or "").startswith(name)


@pytest.mark.parametrize("name", [n for n in FILES if "animated" not in n])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_truncated(name: str, share: float) -> None:
    body = FILES[name][: int(len(FILES[name]) * share)]
    got = _one(body)
    assert got.status is Status.TRUNCATED_IMAGE, got.error
    assert f"ends early after {len(body):,} bytes" in (got.error or "")


def test_damaged_but_whole_is_unsupported() -> None:
    body = bytearray(FILES["png"])
    at = body.index(b"IDAT") + 4
    body[at : at + 40] = bytes(40)
    got = _one(bytes(body))
    assert got.status is Status.UNSUPPORTED_IMAGE
    assert "PNG" in (got.error or "")


def test_pixel_limit_comes_before_decoding() -> None:
    tracemalloc.start()
    got = decode(_png(30_000, 30_000, 8, 2, b"\0" * 1000), [SPEC], ImagesSettings())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.status is Status.IMAGE_TOO_LARGE
    assert got.error == "30,000 x 30,000 pixels; images.max_pixels is 100,000,000"
    assert (got.width, got.height) == (30_000, 30_000)
    assert peak < 5_000_000


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("limit", [90 * 60 - 1, 90 * 60])
def test_pixel_limit_is_exact(kind: str, limit: int) -> None:
    got = _one(_file(_drawn(), kind), max_pixels=limit)
    assert got.status is (Status.OK if limit == 90 * 60 else Status.IMAGE_TOO_LARGE)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0" + bytes(20)}])
def test_webp_canvas_is_refused_from_its_header(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    body = _file(_drawn(700, 333), "WEBP", **options)
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("the decoder saw it"))
    assert _one(body, max_pixels=700 * 333 - 1).status is Status.IMAGE_TOO_LARGE


def test_tiff_with_a_billion_tags() -> None:
    big = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 10**9) + bytes(1000)
    assert _one(big).error == "a TIFF with 1,000,000,000 tags"
    tags = b"".join(struct.pack("<HHLL", i, 1, 10_000, 0) for i in range(900))  # all the same bytes, again and again
    got = _one(b"II*\0" + struct.pack("<LH", 8, 900) + tags + bytes(10_000))
    assert got.error == "a TIFF whose tags claim more data than the file has"
    assert got.status is Status.UNSUPPORTED_IMAGE


def test_gif_with_many_frames_decodes_the_first_only() -> None:
    body = _file(_drawn().quantize(16), "GIF")
    start = body.index(b"\x2c", 13 + 48)
    many = body[:start] + body[start:-1] * 3000 + b";"
    got = _one(many)
    assert got.status is Status.OK
    np.testing.assert_array_equal(got.pixels[0], _one(body).pixels[0])


def test_png_with_a_million_chunks_and_with_a_text_bomb() -> None:
    rows = b"\0\0\0\0" * 1
    many = _png(1, 1, 8, 2, rows, extra=_png_chunk(b"teSt", b"") * 100_001)
    assert _one(many).error == "a PNG with more than 100,000 chunks"
    bomb = _png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5_000_000)))
    assert _one(_png(1, 1, 8, 2, rows, extra=bomb)).status is Status.OK  # it is never inflated


def test_progressive_jpeg_with_thousands_of_scans() -> None:
    """Minutes of work in a small file: each of the scans makes libjpeg walk the whole picture."""
    body = FILES["jpeg progressive"]
    scan = body[body.rindex(b"\xff\xda") : -2]
    got = _one(body[:-2] + scan * 1000 + b"\xff\xd9")
    assert got.status is Status.UNSUPPORTED_IMAGE
    assert "scans" in (got.error or "")


def test_tiff_with_a_giant_tile() -> None:
    entries = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 5), (262, 3, 1), (277, 3, 1)]
    entries += [(322, 4, 65_536), (323, 4, 65_536), (324, 4, 8), (325, 4, 100)]
    tags = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in entries)
    body = b"II*\0" + struct.pack("<L", 200) + bytes(192) + struct.pack("<H", len(entries)) + tags + bytes(4)
    assert _one(body).status is Status.UNSUPPORTED_IMAGE


def test_empty() -> None:
    assert _one(b"").status is Status.EMPTY


def test_pillow_stays_quiet(recwarn: pytest.WarningsRecorder) -> None:
    _prepare_pillow.cache_clear()  # pytest puts its own warning filters back around each test
    for body in FILES.values():
        _one(body)
    assert not [w for w in recwarn if "PIL" in str(w.filename)]


def test_threads_agree() -> None:
    alone = [_one(b) for b in FILES.values()]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(_one, list(FILES.values()) * 3))
    for i, got in enumerate(together):
        want = alone[i % len(alone)]
        assert got.thumbnail == want.thumbnail
        np.testing.assert_array_equal(got.pixels[0], want.pixels[0])


def test_seed_photographs(shared_dir: Path) -> None:
    photos = sorted((shared_dir / "data/clothing/validation").rglob("*.jpg"))[:10]
    if not photos:
        pytest.skip("no photographs there")
    assert {_one(p.read_bytes()).status for p in photos} == {Status.OK}
    assert {_one(p.read_bytes()[: p.stat().st_size // 2]).status for p in photos} == {Status.TRUNCATED_IMAGE}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    first=st.sampled_from(sorted(FILES)),
    second=st.sampled_from(sorted(FILES)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    splice=st.booleans(),
)
def test_mutated_files_end_in_a_status(first: str, second: str, cut: float, flips: list, splice: bool) -> None:
    body = bytearray(FILES[first])
    if splice:
        body = body[: int(len(body) * cut)] + bytearray(FILES[second])[int(len(FILES[second]) * cut) :]
    for where, value in flips:
        body[int(where * min(len(body), 400))] = value  # headers are where it hurts
    got = _one(bytes(body), max_pixels=1_000_000)
    assert (got.status is Status.OK) == (len(got.pixels) == 1) == (got.error is None)
    if got.status is Status.OK:
        assert got.pixels[0].shape == (32, 32, 3)
        assert (got.width or 0) * (got.height or 0) <= 1_000_000
    else:
        assert got.status in {
            Status.NOT_AN_IMAGE, Status.TRUNCATED_IMAGE, Status.UNSUPPORTED_IMAGE, Status.IMAGE_TOO_LARGE, Status.EMPTY,
        }  # fmt: skip
