"""JSON lines: text of any value, reasons, keys."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.errors import ManifestError

GOOD = b'{"item_id": "1", "image_url": "u"}\n'


def test_values_become_text(read):
    data = '{"item_id": 7, "image_url": " u ", "text": "张", "width": 1.5, "tags": ["é"], "no": null}\n' + GOOD.decode()
    first, second = read(data.encode(), "jsonl").rows
    assert first == {
        "row_id": "1",
        "item_id": "7",
        "image_url": "u",
        "fallback_url": None,
        "text": "张",
        "poi_names": None,
        "source_line": 1,
        "image_position": None,
        "manifest_width": "1.5",
        "tags": '["é"]',
        "no": None,
    }
    assert (second["item_id"], second["text"], second["tags"]) == ("1", "", None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "not a JSON object but list"),
        (b"NaN", "not a JSON object but NoneType"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"item_id": "1", "image_url": "u", "x": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"image_url": "u"}', "empty item_id"),
        (b'{"item_id": "1", "image_url": null}', "empty image_url"),
        (b'{"item_id": ["1"], "image_url": "u"}', "item_id is not a string"),
        (b'{"item_id": true, "image_url": "u"}', "item_id is not a string"),
        (b'{"item_id": "\\ud800", "image_url": "u"}', "lone surrogate"),
        (b'{"item_id": "\\u0000", "image_url": "u"}', "holds NUL"),
        (b'{"item_id": "\xff", "image_url": "u"}', "not decodable as utf-8"),
        (b'{"item_id": "' + b"1" * 1_000_000 + b'", "image_url": "u"}', "longer than"),
    ],
)
def test_a_bad_line_is_rejected_alone(read, line, reason):
    result = read(GOOD + b"\n" + line + b"\n" + GOOD, "jsonl")
    assert [r["row_id"] for r in result.rows] == ["1", "4"]
    assert [r["line_number"] for r in result.rejected] == [3]
    assert reason in result.rejected[0]["reason"]


def test_escapes_that_are_text_after_all(read):
    result = read(b'{"item_id": "\\\\u0000 \\ud83d\\ude00", "image_url": "u"}', "jsonl")
    assert result.rows[0]["item_id"] == "\\u0000 😀"


def test_unusable_files(read):
    with pytest.raises(ManifestError, match=r"expected one JSON object per line, found none .line 1: not valid"):
        read(b"item_id,image_url\n", "jsonl")
    with pytest.raises(ManifestError, match="no column for image_url; columns found: item_id, img"):
        read(b'{"item_id": 1}\n{"img": 2}\n', "jsonl")


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
objects = st.fixed_dictionaries({"item_id": values, "image_url": values, "text": values, "extra": values})


@settings(max_examples=300, deadline=None)
@given(cells=st.lists(objects, min_size=1, max_size=3), cut=st.integers(0, 30), ascii_only=st.booleans())
def test_every_line_ends_in_exactly_one_place(read, cells, cut, ascii_only):
    lines = [json.dumps(cell, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") for cell in cells]
    if lines:
        lines[0] = lines[0][cut:]
    result = read(GOOD + b"\n".join(lines), "jsonl")
    accepted = {row["row_id"].partition(":")[0] for row in result.rows}  # a list of addresses makes several rows
    assert len(accepted) + len(result.rejected) == 1 + len([x for x in lines if x])


def test_nan_is_a_missing_value_and_infinity_its_name(read):
    line = '{"item_id": "%d", "image_url": "u", "text": NaN, "price": %s, "tags": [1, NaN, {"a": -Infinity}]}'
    values = ["NaN", "Infinity", "-Infinity", "1e999", "1.5"]
    result = read("\n".join(line % (n, v) for n, v in enumerate(values)).encode(), "jsonl")
    assert result.rejected == []
    assert [r["price"] for r in result.rows] == [None, "Infinity", "-Infinity", "Infinity", "1.5"]
    assert {r["text"] for r in result.rows} == {""}
    for row in result.rows:
        assert json.loads(row["tags"], parse_constant=pytest.fail) == [1, None, {"a": "-Infinity"}]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1001.0", "1001"), ("1001", "1001"), ('"1001.0"', "1001.0"), ("-3.0", "-3"), ("1.5", "1.5"),
        ("9007199254740992.0", "9007199254740992"), ("1e300", "1e+300"), ("0.0", "0"), ("-0.0", "0"),
        ("1e400", "Infinity"),
    ],
)  # fmt: skip
def test_ids_that_are_whole_floats_are_integers(read, written, meant):
    data = f'{{"item_id": {written}, "image_url": "u", "r": {written}}}'.encode()
    assert read(data, "jsonl", columns={"row_id": "r"}).rows[0]["item_id"] == meant
    assert read(data, "jsonl", columns={"row_id": "r"}).rows[0]["row_id"] == meant


def test_an_id_that_is_nan_is_missing(read):
    result = read(b'{"item_id": NaN, "image_url": "u"}\n' + GOOD, "jsonl")
    assert [r["reason"] for r in result.rejected] == ["empty item_id"]


def test_a_text_of_blanks_is_no_text(read):
    assert read(b'{"item_id": 1, "image_url": "u", "text": " \\t"}', "jsonl").rows[0]["text"] == ""
