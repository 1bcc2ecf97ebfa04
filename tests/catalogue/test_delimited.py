"""CSV, TSV and poi_recall: quoting, recovery, reasons, the real file."""

import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.catalogue import inspect_manifest, read_manifest
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError

HEADER = b"item_id,image_url,text\n"


def texts(result):
    return [(r["row_id"], r["item_id"], r["text"]) for r in result.rows]


def why(result):
    return [(r["line_number"], r["reason"]) for r in result.rejected]


def test_quoting_mark_crlf_and_blank_lines(read):
    data = b'\xef\xbb\xbfitem_id,image_url,text\r\n1,u,"a\r\n""b"", c"\r\n\r\n2, v ,d'
    result = read(data, "csv")
    assert texts(result) == [("2", "1", 'a\r\n"b", c'), ("5", "2", "d")]
    assert result.rows[1]["image_url"] == "v"
    assert result.rejected == []


def test_tsv_with_mapping_and_passthrough(read):
    result = read(
        b"sku\timg\twidth\t\n1\tu\t20\tz\n",
        "tsv",
        columns={"item_id": "sku", "image_url": "img", "row_id": "sku", "fallback_url": "width"},
    )
    assert result.rows == [
        {
            "row_id": "1",
            "item_id": "1",
            "image_url": "u",
            "fallback_url": "20",
            "text": "",
            "poi_names": None,
            "source_line": 2,
            "image_position": None,
            "column_4": "z",
        }
    ]


def test_row_ids_are_lines_whatever_else_is_rejected(read):
    data = HEADER + b"1,u,a\n,u,b\n2,u,c\n"
    result = read(data, "csv", id_prefix="f-")
    assert [r["row_id"] for r in result.rows] == ["f-2", "f-4"]
    assert [r["source_line"] for r in result.rows] == [2, 4] and result.rejected[0]["line_number"] == 3
    assert read(data, "csv", batch_rows=1).sizes == [1, 0, 1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,u", "wrong field count: 2, expected 3"),
        (b"1,u,a,b", "wrong field count: 4, expected 3"),
        (b"  ", "wrong field count: 1, expected 3"),
        (b" ,u,a", "empty item_id"),
        (b"1, ,a", "empty image_url"),
        (b"1,u,a\0", "holds NUL bytes"),
        (b"1,u,\xff", "not decodable as utf-8: byte 0xff at 4"),
        (b"1,u,a\rb", "a carriage return inside an unquoted field"),
        (b'1,u,"a"b', "bad quoting: text after a closing quote"),
        (b"1,u," + b"a" * 1_000_000, "longer than 1,000,000 bytes"),
        (b"1,u," + b"a" * 200_000, "field larger than field limit (131072)"),
    ],
)
def test_a_bad_line_is_rejected_alone(read, line, reason):
    result = read(HEADER + b"1,u,a\n" + line + b"\n2,u,b\n", "csv")
    assert texts(result) == [("2", "1", "a"), ("4", "2", "b")]
    assert why(result) == [(3, reason)]
    assert len(result.rejected[0]["raw"]) <= 10_000
    assert result.rejected[0]["file"] == "m"


def test_line_numbers_are_physical(read):
    result = read(HEADER + b'1,u,"a\n\nb"\n\nbad\n2,u,"c\nd",e\n', "csv")
    assert why(result) == [(6, "wrong field count: 1, expected 3"), (7, "wrong field count: 4, expected 3")]
    assert result.rejected[1]["raw"] == '2,u,"c\nd",e'


def test_a_quote_that_never_closes_costs_its_own_line_only(read):
    many = b"".join(b"%d,u,t\n" % n for n in range(30_000))  # more than a field may hold
    for tail in (b"3,u,x\n", many, b'3,u,"y"\n', b"3,u,\xff\n4,u,z\n", b"3,u,\0\n4,u,z\n"):
        result = read(HEADER + b'1,u,a\n2,u,"open\n' + tail, "csv")
        assert [r["line_number"] for r in result.rejected if r["raw"].startswith("2,u")] == [3]
        assert len(result.rows) + len(result.rejected) == 2 + tail.count(b"\n")
        sound = [
            line.split(b",")[0].decode() for line in tail.splitlines() if b"\xff" not in line and b"\0" not in line
        ]
        assert [r["item_id"] for r in result.rows] == ["1", *sound]


def test_other_encodings(read):
    data = "item_id,image_url,text\n1,u,张家界\n2,u,漠河\n"
    for encoding in ("gb18030", "utf-16"):
        assert [r["text"] for r in read(data.encode(encoding), "csv", encoding=encoding).rows] == ["张家界", "漠河"]
    with pytest.raises(ManifestError, match=r"set manifest.encoding"):
        read(data.encode("gb18030"), "csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n\n", "no header line"),
        (b'"item_id,image_url\n1,u\n', "the header .line 1. cannot be read"),
        (b"sku,image_url\n", "no column for item_id; columns found: sku, image_url"),
    ],
)
def test_unusable_headers(read, data, message):
    with pytest.raises(ManifestError, match=message):
        read(data, "csv")


def test_a_later_file_may_order_its_columns_otherwise_but_not_lack_one(read):
    first = b"item_id,image_url,colour\n"
    result = read(b"colour,image_url,item_id\nred,u,1\n", "csv", columns_of=first)
    assert (result.rows[0]["item_id"], result.rows[0]["colour"]) == ("1", "red")
    with pytest.raises(ManifestError, match=r"column 'colour' is missing here.*item_id, image_url"):
        read(b"item_id,image_url\n1,u\n", "csv", columns_of=first)


def test_poi_recall_types_and_names(read):
    result = read("7,海,http://h/i.jpg,1,620,,x\n7,海,http://h/j.jpg,1.5,1,1,x\n".encode(), "poi_recall")
    assert result.rows == [
        {
            "row_id": "1",
            "item_id": "7",
            "image_url": "http://h/i.jpg",
            "fallback_url": None,
            "text": "海",
            "poi_names": None,
            "source_line": 1,
            "image_position": None,
            "rank_number": 1,
            "manifest_width": 620,
            "manifest_height": None,
            "extend": "x",
        }
    ]
    assert why(result) == [(2, "bad number: rank_number is '1.5'")]


@pytest.mark.parametrize("number", ["99999999999999999999", "1_0", "１", "nan", "0x1", "--1"])
def test_numbers_that_are_none(read, number):
    data = f"7,a,u,1,1,1,x\n7,a,u,1,{number},1,x\n".encode()
    assert why(read(data, "poi_recall")) == [(2, f"bad number: width is {number!r}")]


def test_not_poi_recall_at_all(read):
    with pytest.raises(ManifestError, match=r"not a poi_recall manifest: expected lines of 7 fields.*found 1 fields"):
        read(b"<html>\n</html>\n", "poi_recall")


def test_real_recall_file(read, shared_dir):
    data = (shared_dir / "data/seed/recall_poi_500.csv").read_bytes()
    result = read(data, "poi_recall")
    assert (len(result.rows), len(result.rejected)) == (5000, 0)
    assert len({r["item_id"] for r in result.rows}) == 500
    assert len({r["image_url"] for r in result.rows}) == 4985
    assert result.sizes == [1000] * 5


# Whole lines that are fine on their own, then damaged at random places.
GOOD = "10060,北海海底世界,https://h/a.jpg,1,620,370,172662".encode()
edits = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.sampled_from([b"", b'"', b",", b"\0", b"\xff", b"\r", b" ", b"x"])),
    max_size=4,
)


def mutated(changes):
    line = GOOD
    for at, new in changes:
        line = line[:at] + new + line[at + 1 :]
    return line


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(edits, min_size=1, max_size=12), batch_rows=st.integers(1, 5))
def test_every_line_ends_in_exactly_one_place(read, changes, batch_rows):
    """A sound line between two damaged ones ends a stray quote, so records and lines are the same.

    But for quotes in two damaged lines: what stands between them may be one field, and is rejected as one.
    """
    damaged = [mutated(c) for c in changes]
    data = b"".join(GOOD + b"\n" + line + b"\n" for line in damaged) + GOOD + b"\n"
    result = read(data, "poi_recall", batch_rows=batch_rows)
    within = sum(r["raw"].count("\n") for r in result.rejected)
    assert len(result.rows) + len(result.rejected) + within == 2 * len(damaged) + 1
    if sum(b'"' in line for line in damaged) < 2:
        assert not within and len(result.rows) >= len(damaged) + 1
    assert [r["row_id"] for r in result.rows] == [str(r["source_line"]) for r in result.rows]
    assert {r["source_line"] for r in result.rows}.isdisjoint(r["line_number"] for r in result.rejected)
    numbers = [r["line_number"] for r in result.rejected]
    assert numbers == sorted(set(numbers))
    lines = data.split(b"\n")
    for r in result.rejected:
        assert lines[r["line_number"] - 1] != GOOD
        assert (
            r["raw"][:5] == lines[r["line_number"] - 1].decode("utf-8", "backslashreplace").replace("\0", "\\x00")[:5]
        )


@settings(max_examples=100, deadline=None)
@given(junk=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=8))
def test_any_bytes_at_all(read, junk):
    data = GOOD + b"\n" + b"".join(line + b"\n" for line in junk)
    result = read(data, "poi_recall")
    filled = [line for line in junk if line.strip(b"\r")]
    assert len(result.rows) + len(result.rejected) <= 1 + len(filled)
    assert result.rows[0]["row_id"] == "1"


def test_memory_does_not_grow_with_the_file():
    manifest = ManifestSettings(path="m", format="poi_recall")
    columns = inspect_manifest(io.BytesIO(GOOD), "m", manifest)

    class Endless(io.RawIOBase):
        """`num_lines` copies of GOOD that are never in memory together."""

        def __init__(self, num_lines):
            self.left = num_lines

        def read(self, size=-1):
            n = min(self.left, 1000)
            self.left -= n
            data = (GOOD + b"\n") * n
            assert size >= len(data)
            return data

    def peak(num_lines):
        tracemalloc.start()
        num_rows = sum(b.candidates.num_rows for b in read_manifest(Endless(num_lines), "m", manifest, columns))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert num_rows == num_lines
        return high

    peak(2000)  # first use of the modules
    assert peak(20_000) < 1.15 * peak(4000)
