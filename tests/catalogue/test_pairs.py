"""Ranking pairs: two rows per line or one reject."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.catalogue.pairs import FIELDS as NAMES
from aistudio.errors import ManifestError

FIELDS = ["v1", "http://a", "http://b", "0.5", "2", "标题", "cat", "http://oss/a", "http://oss/b", "北极村,漠河"]


def line(**changed):
    return "$record$".join(changed.get(name, value) for name, value in zip(NAMES, FIELDS, strict=True)) + "\n"


def test_both_sides(read):
    a, b = read(line().encode(), "ranking_pairs", id_prefix="p").rows
    assert a == {
        "row_id": "p1:a",
        "item_id": "v1",
        "image_url": "http://oss/a",
        "fallback_url": "http://a",
        "text": "标题",
        "poi_names": "北极村,漠河",
        "source_line": 1,
        "image_position": None,
        "pair_id": "v1#p1",
        "side": "a",
        "ctr": 0.5,
        "cate_name": "cat",
    }
    assert b == a | {
        "row_id": "p1:b",
        "image_url": "http://oss/b",
        "fallback_url": "http://b",
        "side": "b",
        "ctr": 2.0,
    }


def test_the_other_url_stands_in(read):
    a, b = read(line(oss_url=" ", url_b="").encode(), "ranking_pairs").rows
    assert (a["image_url"], a["fallback_url"]) == ("http://a", None)
    assert (b["image_url"], b["fallback_url"]) == ("http://oss/b", None)


@pytest.mark.parametrize(
    ("written", "kept"),
    [("", None), ("   ", None), (" x ,y  \t", " x ,y"), ("北\u3000", "北"), (" ,", " ,")],
)
def test_blanks_around_poi_names(read, written, kept):
    assert {r["poi_names"] for r in read(line(poi_names=written).encode(), "ranking_pairs").rows} == {kept}


def test_pair_ids_tell_equal_item_ids_apart(read):
    rows = read((line() + "bad\n\n" + line()).encode(), "ranking_pairs", batch_rows=1).rows
    assert [(r["pair_id"], r["side"]) for r in rows] == [("v1#1", "a"), ("v1#1", "b"), ("v1#4", "a"), ("v1#4", "b")]
    assert len({r["row_id"] for r in rows}) == 4


def test_mapped_row_id_and_chosen_passthrough(read):
    rows = read(line().encode(), "ranking_pairs", columns={"row_id": "item_id"}, passthrough=["side"]).rows
    assert [(r["row_id"], r["side"]) for r in rows] == [("v1:a", "a"), ("v1:b", "b")]
    assert "ctr" not in rows[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"item_id": ""}, "empty item_id"),
        ({"ctr_b": "x"}, "CTR is not a number: ctr_b is 'x'"),
        ({"ctr_a": "nan"}, "CTR is not a number: ctr_a is 'nan'"),
        ({"ctr_a": "1_0"}, "CTR is not a number: ctr_a is '1_0'"),
        ({"oss_url2": "", "url_b": " "}, "empty image_url: neither oss_url2 nor url_b"),
        ({"title": "a$record$b"}, "wrong field count: 11, expected 10"),
        ({"title": "\0"}, "holds NUL bytes"),
    ],
)
def test_a_bad_line_gives_no_half_pair(read, changed, reason):
    result = read((line() + line(**changed) + line()).encode(), "ranking_pairs")
    assert len(result.rows) == 4
    assert [(r["line_number"], r["reason"]) for r in result.rejected] == [(2, reason)]


def test_not_pairs_at_all(read):
    with pytest.raises(ManifestError, match=r"expected lines of 10 fields split by .record..*found 1 field"):
        read(b"item_id,image_url\n1,u\n", "ranking_pairs")
    with pytest.raises(ManifestError, match=r"manifest.columns.image_url is not a column that can be mapped"):
        read(line().encode(), "ranking_pairs", columns={"image_url": "title"})


def test_real_pairs(read, shared_dir):
    data = (shared_dir / "data/seed/ranking_pairs_val.txt").read_bytes()
    result = read(data, "ranking_pairs")
    assert (len(result.rows), len(result.rejected)) == (2000, 0)
    assert sum(r["poi_names"] is None for r in result.rows) == 2 * 295
    a, b = result.rows[0::2], result.rows[1::2]
    assert [r["pair_id"] for r in a] == [r["pair_id"] for r in b]
    assert len({r["pair_id"] for r in a}) == 1000
    assert {r["side"] for r in a} == {"a"}


GOOD = line().encode().rstrip(b"\n")
pieces = st.sampled_from([b"", b"$", b"$record$", b"\0", b"\xff", b"\r", b" ", b"nan", b"\xe3\x80\x80"])
edits = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), pieces), max_size=4)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(edits, min_size=1, max_size=6))
def test_every_line_is_two_rows_or_one_reject(read, changes):
    damaged = []
    for edit in changes:
        text = GOOD
        for at, length, new in edit:
            text = text[:at] + new + text[at + length :]
        damaged.append(text)
    data = b"\n".join([GOOD, *damaged])
    result = read(data, "ranking_pairs", batch_rows=2)
    assert len(result.rows) + 2 * len(result.rejected) == 2 * (1 + len([d for d in damaged if d.strip(b"\r")]))
    sides = [(r["pair_id"], r["side"]) for r in result.rows]
    assert [s for _, s in sides] == ["a", "b"] * (len(sides) // 2)
    assert all(x[0] == y[0] for x, y in zip(sides[0::2], sides[1::2], strict=True))
