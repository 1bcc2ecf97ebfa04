"""Items with lists of images: rows with a position, whatever the list is written as."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ManifestError


def places(result):
    return [(r["row_id"], r["image_url"], r["source_line"], r["image_position"]) for r in result.rows]


def jsonl(*objects) -> bytes:
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


def parquet(**columns) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


SHOP = b"item_id,img_10,img_2,img_1,price\n7,j.jpg, b.jpg ,a.jpg,5\n8,,b.jpg,,6\n9,, ,,7\n"


@pytest.mark.parametrize("columns", ["img_*", "img_[0-9]*", ["img_1", "img_2", "img_10"]])
def test_columns_become_rows_in_the_order_of_their_numbers(read, columns):
    result = read(SHOP, "csv", columns={"image_url": columns}, id_prefix="0-")
    assert places(result) == [
        ("0-2:1", "a.jpg", 2, 1),
        ("0-2:2", "b.jpg", 2, 2),
        ("0-2:3", "j.jpg", 2, 3),
        ("0-3:2", "b.jpg", 3, 2),  # the second stays the second
    ]
    assert [(r["line_number"], r["reason"]) for r in result.rejected] == [(4, "empty image_url")]
    assert result.rows[0]["price"] == "5" and "img_1" not in result.rows[0]
    assert (result.reading.records, result.reading.rejected) == (2, 1)


def test_a_separator_within_one_field(read):
    data = b"item_id\timage_url\n7\ta.jpg| b.jpg ||c.jpg\n8\td.jpg\n9\t | \n"
    result = read(data, "tsv", image_separator="|", columns={"row_id": "item_id"})
    assert places(result) == [
        ("7:1", "a.jpg", 2, 1),
        ("7:2", "b.jpg", 2, 2),
        ("7:4", "c.jpg", 2, 4),
        ("8:1", "d.jpg", 3, 1),
    ]
    assert [r["line_number"] for r in result.rejected] == [4]
    assert len(read(data, "tsv", image_separator=" ").rows) == 5  # blanks are a separator, too


def test_lists_in_json_beside_single_addresses(read):
    data = jsonl(
        {"item_id": 1, "image_url": ["a", None, "b"], "n": 1},
        {"item_id": 2, "image_url": "c"},
        {"item_id": 3, "image_url": []},
        {"item_id": 4, "image_url": [{"url": "d"}]},
        {"item_id": 5, "image_url": ["e"], "fallback_url": "f"},
    )
    result = read(data, "jsonl")
    assert places(result) == [("1:1", "a", 1, 1), ("1:3", "b", 1, 3), ("2", "c", 2, None), ("5:1", "e", 5, 1)]
    assert [r["reason"][:40] for r in result.rejected] == [
        "empty image_url",
        "image_url holds an entry that is not a t",
    ]
    assert [r["fallback_url"] for r in result.rows] == [None] * 4
    several = jsonl({"item_id": 1, "img_1": "a", "img_2": ["b", "c"]})
    assert [p[3] for p in places(read(several, "jsonl", columns={"image_url": "img_*"}))] == [1, 2, 3]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int32(), pa.string()))]
)
def test_list_columns_of_parquet(read, kind):
    images = [["a", " b "], None, [], ["c", None, ""], ["d"]]
    data = parquet(
        item_id=[1, 2, 3, 4, None], image_url=pa.array(images, pa.list_(pa.string())).cast(kind), n=[*range(5)]
    )
    for batch_rows in (1, 100):
        result = read(data, "parquet", batch_rows=batch_rows, id_prefix="3-")
        assert places(result) == [("3-1:1", "a", 1, 1), ("3-1:2", "b", 1, 2), ("3-4:1", "c", 4, 1)]
        assert [r["n"] for r in result.rows] == [0, 0, 3]
        assert [(r["line_number"], r["reason"]) for r in result.rejected] == [
            (2, "empty image_url"), (3, "empty image_url"), (5, "empty item_id"),
        ]  # fmt: skip


def test_parquet_columns_separators_mapped_ids_and_bad_bytes(read):
    data = parquet(item_id=["x", "y"], i1=["a|b", None], i2=["c", "d"])
    result = read(data, "parquet", columns={"image_url": "i?", "row_id": "item_id"}, image_separator="|")
    assert places(result) == [("x:1", "a", 1, 1), ("x:2", "b", 1, 2), ("x:3", "c", 1, 3), ("y:2", "d", 2, 2)]
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad)
    result = read(parquet(item_id=["1", "2"], image_url=lists), "parquet")
    assert places(result) == [("1:1", "a", 1, 1)]
    assert [r["line_number"] for r in result.rejected] == [2]
    assert result.rejected[0]["reason"] == "not decodable as utf-8: column 'image_url'"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_url": ["img_1", "img_3"]}, r"maps image_url to 'img_3'.*did you mean"),
        ({"image_url": ["img_1", "img_1"]}, "each once"),
        ({"image_url": []}, "expected columns"),
        ({"image_url": "pic_*"}, "no column fits"),
        ({"image_url": "img_*", "text": ["price"]}, r"columns\.text: takes one column"),
        ({"image_url": "img_*", "fallback_url": "price"}, "one address cannot stand in"),
    ],
)
def test_mappings_that_cannot_be(read, columns, message):
    with pytest.raises(ManifestError, match=message):
        read(SHOP, "csv", columns=columns)


def test_one_fallback_does_not_stand_for_several_images(read):
    data = b"item_id,img_1,img_2,fallback_url\n1,a,b,f\n"
    rows = read(data, "csv", columns={"image_url": "img_*"}).rows
    assert [(r["fallback_url"], r["manifest_fallback_url"]) for r in rows] == [(None, "f")] * 2
    listed = parquet(item_id=[1], image_url=[["a", "b"]], fallback_url=["f"])
    assert [r["fallback_url"] for r in read(listed, "parquet").rows] == [None, None]
    with pytest.raises(ManifestError, match="one address cannot stand in"):
        read(listed, "parquet", columns={"fallback_url": "fallback_url"})


def test_a_column_whose_name_is_a_pattern_is_itself(read):
    rows = read(b"item_id,img_*,img_1\n1,a,b\n", "csv", columns={"image_url": "img_*"}).rows
    assert [(r["row_id"], r["image_url"], r["image_position"]) for r in rows] == [("2", "a", None)]
