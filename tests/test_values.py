"""values.py: every Arrow value has a Python one, whatever its type."""

import json

import pyarrow as pa
import pytest

from aistudio.values import column_values, json_text, table_rows, value_text

FAR = 253402271999 + 86400  # seconds: the year 10000
FAR_TEXT = "10000-01-01 15:59:59"
BAD_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(b"\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"a\xff")]
)


@pytest.mark.parametrize(
    ("column", "want"),
    [
        (pa.array([1, None, 3]), [1, None, 3]),
        (pa.array([FAR, None, 0], pa.timestamp("s")), ["10000-01-01 15:59:59", None]),
        (pa.array([FAR - 86400, 0], pa.timestamp("s", "Asia/Shanghai")), ["9999-12-31 23:59:59+08:00"]),
        (pa.array([0, None], pa.timestamp("s", "Mars/Olympus")), ["1970-01-01 00:00:00", None]),
        (pa.array([3_000_000], pa.date32()), ["10183-"]),
        (pa.array([-800_000], pa.date32()), ["-0221-"]),
        (BAD_UTF8, ["a", "\\xff"]),
        (pa.array([2**62], pa.duration("s")), [str(2**62)]),
    ],
)
def test_values_that_python_lacks_come_as_text(column: pa.Array, want: list[object]) -> None:
    for arrow in (column, pa.chunked_array([column])):
        got = column_values(arrow)
        assert len(got) == len(column)
        for value, expected in zip(got, want, strict=False):
            assert str(value).startswith(str(expected)) if isinstance(expected, str) else value == expected


def test_rows_are_dicts_and_one_bad_value_costs_none_of_the_others() -> None:
    table = pa.table({"when": pa.array([0, FAR], pa.timestamp("s")), "n": [1, 2]})
    rows = table_rows(table)
    assert [r["n"] for r in rows] == [1, 2]
    assert str(rows[0]["when"]) == "1970-01-01 00:00:00"
    assert rows[1]["when"] == FAR_TEXT
    assert table_rows(table.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("value", "kind", "want"),
    [
        ([1.0, float("nan"), float("inf")], pa.list_(pa.float64()), [1.0, None, "Infinity"]),
        (
            {"a": FAR, "b": 1},
            pa.struct([("a", pa.timestamp("s")), ("b", pa.int8())]),
            {"a": FAR_TEXT, "b": 1},
        ),
        ([("k", FAR)], pa.map_(pa.string(), pa.timestamp("s")), [["k", FAR_TEXT]]),
        ([[None, [FAR]]], pa.list_(pa.list_(pa.list_(pa.timestamp("s")))), [[None, [FAR_TEXT]]]),
        ([1.5, float("nan")], pa.large_list(pa.float16()), [1.5, None]),
        (["图"], pa.list_(pa.string()), ["图"]),
    ],
)
def test_nested_values_are_json(value: object, kind: pa.DataType, want: object) -> None:
    text = json_text(pa.scalar(value, kind))
    assert text is not None
    assert json.loads(text, parse_constant=pytest.fail) == want


def test_fields_of_one_name_are_all_kept() -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert json.loads(json_text(twice[0]) or "") == {"a": 1, "a_1": 2}
    assert json_text(pa.scalar(None, pa.list_(pa.int8()))) is None


def test_text_of_any_value() -> None:
    assert value_text(BAD_UTF8, 1) == "\\xff"
    assert value_text(pa.array([None], pa.int8()), 0) is None
    assert (
        value_text(pa.array([(1, 2, 3)], pa.month_day_nano_interval()), 0)
        == "MonthDayNano(months=1, days=2, nanoseconds=3)"
    )
