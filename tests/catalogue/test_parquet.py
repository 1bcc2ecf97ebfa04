"""Parquet manifests: types, refused records, damaged files."""

import datetime
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.catalogue import inspect_manifest, read_manifest
from aistudio.config import ManifestSettings
from aistudio.errors import ManifestError


def file_of(columns, **kw):
    out = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), out, **kw)
    return out.getvalue()


def test_types_are_kept_and_nested_becomes_json(read):
    day = datetime.date(2026, 1, 2)
    data = file_of(
        {
            "item_id": [1],
            "image_url": pa.array([" u "]).dictionary_encode(),
            "text": pa.array(["张"], pa.large_string()),
            "poi_names": [" "],
            "width": [1.5],
            "day": [day],
            "tags": [["é"]],
            "info": [{"when": day}],
            "kind": pa.array(["k"]).dictionary_encode(),
            "nothing": pa.nulls(1),
            "dotted.name": [True],
        }
    )
    result = read(data, "parquet")
    assert result.rows == [
        {
            "row_id": "1",
            "item_id": "1",
            "image_url": "u",
            "fallback_url": None,
            "text": "张",
            "poi_names": None,
            "source_line": 1,
            "image_position": None,
            "manifest_width": 1.5,
            "day": day,
            "tags": '["é"]',
            "info": '{"when": "2026-01-02"}',
            "kind": "k",
            "nothing": None,
            "dotted.name": True,
        }
    ]
    assert [f.type for f in result.columns.passthrough_fields][:2] == [pa.float64(), pa.date32()]


def bad_utf8():
    return pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))


def test_refused_records_are_numbered_and_the_rest_kept(read):
    data = file_of(
        {
            "item_id": ["1", None, "3", "4", " ", "6"],
            "image_url": ["u", "u", " ", "u\0", "u", "u"],
            "text": [None, "b", "c", "d", "e", "f"],
        }
    )
    for batch_rows in (1, 2, 100):
        result = read(data, "parquet", batch_rows=batch_rows)
        assert [(r["row_id"], r["item_id"], r["text"]) for r in result.rows] == [("1", "1", ""), ("6", "6", "f")]
        assert [(r["line_number"], r["reason"]) for r in result.rejected] == [
            (2, "empty item_id"),
            (3, "empty image_url"),
            (4, "holds NUL: column 'image_url'"),
            (5, "empty item_id"),
        ]
        assert result.rejected[0]["raw"] == '{"item_id": null, "image_url": "u", "text": "b"}'


def test_bytes_that_are_not_text(read):
    result = read(file_of({"item_id": ["1", "2"], "image_url": ["u", "u"], "text": bad_utf8()}), "parquet")
    assert [r["item_id"] for r in result.rows] == ["1"]
    assert [r["line_number"] for r in result.rejected] == [2]
    assert "'text'" in result.rejected[0]["reason"]


@pytest.mark.parametrize("nested", [False, True])
def test_bytes_that_are_not_text_in_a_column_that_is_only_kept(read, nested):
    array = bad_utf8()
    if nested:
        array = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), array)
    result = read(file_of({"item_id": ["1", "2"], "image_url": ["u", "u"], "note": array}), "parquet")
    assert [r["item_id"] for r in result.rows] == ["1", "2"] and not result.rejected
    assert r"\x" in result.rows[1]["note"]


def test_mapped_row_ids(read):
    data = file_of({"id": [7, None], "item_id": ["1", "2"], "image_url": ["u", "u"]})
    result = read(data, "parquet", columns={"row_id": "id"})
    assert [r["row_id"] for r in result.rows] == ["7"]
    assert [r["reason"] for r in result.rejected] == ["empty row_id"]


def test_streams_that_cannot_seek_and_compressed_ones(read):
    data = file_of({"item_id": ["1"], "image_url": ["u"]})
    assert len(read(gzip.compress(data), "parquet", file="m.parquet.gz").rows) == 1

    class Forward(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation("seek")

    settings = ManifestSettings(path="m", format="parquet")
    columns = inspect_manifest(Forward(data), "m", settings)
    assert sum(b.candidates.num_rows for b in read_manifest(Forward(data), "m", settings, columns)) == 1


def test_an_empty_table_gives_nothing(read):
    data = file_of(pa.schema([("item_id", pa.string()), ("image_url", pa.string())]).empty_table())
    assert read(data, "parquet").sizes == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable Parquet file"),
        (b"item_id,image_url\n1,u\n", "not a readable Parquet file"),
        (file_of({"item_id": ["1"], "image_url": [[["u"]]]}), "'image_url' is list.*needs a column of plain values"),
        (file_of({"sku": ["1"]}), "no column for item_id; columns found: sku"),
    ],
)
def test_unusable_files(read, data, message):
    with pytest.raises(ManifestError, match=message):
        read(data, "parquet")


def test_damage_inside_names_the_place(read):
    data = bytearray(file_of({"item_id": [str(n) for n in range(5000)], "image_url": ["u"] * 5000}, compression=None))
    data[4:60] = b"\xff" * 56
    with pytest.raises(ManifestError, match="damaged Parquet file after record 0"):
        read(bytes(data), "parquet")


def test_later_files_must_fit_the_first(read):
    first = file_of({"item_id": ["1"], "image_url": ["u"], "n": [1]})
    small = file_of({"item_id": ["1"], "image_url": ["u"], "n": pa.array([1], pa.int8())})
    assert read(small, "parquet", columns_of=first).rows[0]["n"] == 1
    with pytest.raises(ManifestError, match="'n' is string, the manifest's first file has int64"):
        read(file_of({"item_id": ["1"], "image_url": ["u"], "n": ["x"]}), "parquet", columns_of=first)
    with pytest.raises(ManifestError, match="column 'n' is missing here"):
        read(file_of({"item_id": ["1"], "image_url": ["u"]}), "parquet", columns_of=first)


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()])
def test_ids_that_are_whole_floats_are_integers_and_nan_is_missing(read, kind):
    ids = pa.array([1001.0, float("nan"), None, 1.5], pa.float64()).cast(kind)
    result = read(file_of({"item_id": ids, "image_url": ["u"] * 4, "text": [" ", "\t", None, "a"]}), "parquet")
    assert [(r["item_id"], r["text"]) for r in result.rows] == [("1001", ""), ("1.5", "a")]
    assert [(r["line_number"], r["reason"]) for r in result.rejected] == [(2, "empty item_id"), (3, "empty item_id")]


def test_nested_values_are_json_even_with_nan_inside(read):
    tags = [[1.0, float("nan"), float("inf")]]
    row = read(file_of({"item_id": ["1"], "image_url": ["u"], "tags": tags}), "parquet").rows[0]
    assert row["tags"] == '[1.0, null, "Infinity"]'


def test_view_types_are_stored_as_plain_ones(read):
    table = pa.table(
        {"item_id": ["1", "2"], "image_url": ["u", "u"], "raw": pa.array([b"\0", b"\1"], pa.binary_view())}
    )
    result = read(file_of(table), "parquet")
    assert [r["raw"] for r in result.rows] == [b"\0", b"\1"]
    assert result.columns.schema.field("raw").type == pa.binary()
