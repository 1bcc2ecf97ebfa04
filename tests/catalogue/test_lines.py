"""Lines: compression, encodings, numbers, bounds."""

import gzip
import io

import pyarrow as pa
import pytest

from aistudio.catalogue.lines import MAX_LINE_BYTES, Lines, plain_name
from aistudio.errors import ManifestError


def lines(data, file="m", encoding="utf-8"):
    return list(Lines(io.BytesIO(data), file, encoding))


def test_numbers_ends_and_byte_order_mark():
    assert [tuple(x) for x in lines(b"\xef\xbb\xbfa\r\n\nb")] == [(1, "a\r\n", None), (2, "\n", None), (3, "b", None)]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("m.csv.gz", gzip.compress),
        ("https://host/M.CSV.GZ?sig=1#x", gzip.compress),
        ("m.zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
        # as `cat a.gz b.gz` and parallel compressors write them
        ("m.gz", lambda data: gzip.compress(data[:1]) + gzip.compress(data[1:])),
        ("m.zst", lambda d: pa.compress(d[:1], "zstd", asbytes=True) + pa.compress(d[1:], "zstd", asbytes=True)),
    ],
)
def test_decompresses_by_name_and_leaves_the_stream_open(name, pack):
    stream = io.BytesIO(pack("张\nb\n".encode()))
    assert [x.text for x in Lines(stream, name)] == ["张\n", "b\n"]
    assert not stream.closed


@pytest.mark.parametrize(
    ("name", "pack"), [("m.gz", gzip.compress), ("m.zst", lambda data: pa.compress(data, "zstd", asbytes=True))]
)
def test_damaged_compression_is_a_manifest_error(name, pack):
    whole = pack(bytes(range(32, 127)) * 50 + b"\n")
    for damaged in (whole[: len(whole) // 2], b"item_id,image_url\n"):
        with pytest.raises(ManifestError, match=f"{name}: not readable as"):
            lines(damaged, name)


def test_long_line_is_cut_and_the_next_one_read():
    longest = b"y" * (MAX_LINE_BYTES - 1) + b"\n"
    got = lines(b"a\n" + b"x" * (3 * MAX_LINE_BYTES) + b"\nb\n" + longest + b"y" + longest + b"c")
    too_long = "longer than 1,000,000 bytes"
    assert [(x.number, x.problem) for x in got] == [
        (1, None),
        (2, too_long),
        (3, None),
        (4, None),
        (5, too_long),
        (6, None),
    ]
    assert 10_000 <= len(got[1].text) < 100_000
    assert got[5].text == "c"


def test_bad_bytes_stay_in_their_line():
    got = lines(b"a\n\xff\xfe!\nb\0\nc")
    assert [x.problem for x in got] == [None, "not decodable as utf-8: byte 0xff at 0", "holds NUL bytes", None]
    assert got[1].text == "\\xff\\xfe!\n"


@pytest.mark.parametrize("encoding", ["gb18030", "big5", "utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])
def test_encodings(encoding):
    # U+4E0A and U+0A0A-like code units hold the byte 0x0A, on which a bytewise split would cut
    text = "上海\n" * 3
    assert [x.text for x in lines(text.encode(encoding), encoding=encoding)] == ["上海\n"] * 3


def test_bad_text_in_utf16_stays_in_its_line():
    data = "a\n".encode("utf-16-le") + b"\x00\xd8" + "b\nc\n".encode("utf-16-le")
    assert [x.problem for x in lines(data, encoding="utf-16-le")] == [None, "not decodable as utf-16-le", None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"PAR1....", "this is a Parquet file"),
        (gzip.compress(b"a", mtime=0), "a name ending in .gz is expected"),
        ("a".encode("utf-16"), "set manifest.encoding to utf-16"),
    ],
)
def test_unusable_files_are_named(data, message):
    with pytest.raises(ManifestError, match=message):
        lines(data)


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13"])
def test_unknown_encoding(encoding):
    with pytest.raises(ManifestError, match=f"manifest.encoding: '{encoding}' is not a text encoding"):
        lines(b"a", encoding=encoding)


def test_plain_name_keeps_question_marks_of_local_files():
    assert plain_name("A?b.GZ") == "a?b.gz"
    assert plain_name("s3://b/A.csv?x.gz") == "s3://b/a.csv"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8", "gb18030"])
def test_a_sign_for_unknown_that_stands_in_the_file_is_itself(encoding):
    text = "a\n\ufffd b \ufffd\nc\n"
    found = [tuple(x) for x in lines(text.encode(encoding), encoding=encoding)]
    assert [(number, content.lstrip("\ufeff")) for number, content, _ in found] == [
        (1, "a\n"), (2, "\ufffd b \ufffd\n"), (3, "c\n"),
    ]  # fmt: skip
    assert all(problem is None for _, _, problem in found)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-le"])
def test_what_cannot_be_decoded_costs_its_line(encoding):
    unit = 2 if encoding == "utf-16-le" else 4
    bad = b"\x00\xd8".ljust(unit, b"\0")  # half of a pair
    data = "a\n".encode(encoding) + bad + "x\n\ufffd\n".encode(encoding)
    found = [tuple(x) for x in lines(data, encoding=encoding)]
    assert [(n, problem is None) for n, _, problem in found] == [(1, True), (2, False), (3, True)]
    assert found[1][2].startswith("not decodable as utf-") and "\ufffd" in found[1][1]
    assert found[2][1] == "\ufffd\n"


def test_a_half_sign_at_the_end():
    found = [tuple(x) for x in lines("a\nb".encode("utf-16-le") + b"\x41", encoding="utf-16-le")]
    assert [(n, problem is None) for n, _, problem in found] == [(1, True), (2, False)]
