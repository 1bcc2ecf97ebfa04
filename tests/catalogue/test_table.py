"""Cutting events into batches."""

import io

import pytest

from aistudio.catalogue.lines import Lines
from aistudio.catalogue.table import MAX_BATCH_BYTES, Columns, Reject, Rows, batches, rejected_table
from aistudio.errors import ManifestError
from aistudio.schema import REJECTED_SCHEMA

COLUMNS = Columns(("item_id",), {}, ())


def row(n):
    return (str(n), "i", "u", None, "", None)


def cut(events, batch_rows=2, data=b"x"):
    lines = Lines(io.BytesIO(data), "m")
    return [
        (b.candidates["row_id"].to_pylist(), b.rejected["line_number"].to_pylist())
        for b in batches(events, COLUMNS, "m", batch_rows, lines, "")
    ]


def test_rows_of_a_line_stay_together_and_rejects_count_too():
    events = [(1, row(1)), Rows(2, [row(2), row(3)]), Reject(3, "r", "why"), Reject(4, "r", "why"), (5, row(4))]
    assert cut(events) == [(["1", "2", "3"], []), ([], [3, 4]), (["4"], [])]


def test_no_events_give_no_batches():
    assert cut([]) == []


def test_much_text_cuts_a_batch_early():
    lines = Lines(io.BytesIO(b"x"), "m")

    def events():
        for n in range(4):
            lines.num_bytes += MAX_BATCH_BYTES // 2
            yield n, row(n)

    assert [b.candidates.num_rows for b in batches(events(), COLUMNS, "m", 1000, lines, "")] == [2, 2]


def test_nothing_decodable_is_a_wrong_encoding():
    bad = [Reject(n, "?", "not decodable as utf-8: byte 0xd5 at 4") for n in (2, 3)]
    with pytest.raises(ManifestError, match=r"none of the first 2 lines can be decoded.*set manifest.encoding"):
        cut(bad, batch_rows=10)
    assert cut(bad[:1]) == [([], [2])]
    assert cut([(1, row(0)), *bad], batch_rows=10) == [(["0"], [2, 3])]


def test_raw_is_cut_and_can_be_stored():
    table = rejected_table([Reject(1, "x" * 20_000, "r"), Reject(2, "a\0\ud800b", "r")], "f")
    assert table.schema == REJECTED_SCHEMA
    assert [len(raw) for raw in table["raw"].to_pylist()] == [10_000, 12]
    assert table["raw"][1].as_py() == "a\\x00\\ud800b"
