"""Columns of every Arrow type, alone and nested, with extreme values: each format holds them, if need be as text."""

import json
import random

import pyarrow as pa
import pytest

from aistudio.exports import FORMATS
from aistudio.exports.columns import json_bytes, plain, plain_type
from aistudio.exports.export import export_run
from aistudio.exports.source import Wanted
from aistudio.store import open_store
from tests.evaluation.stored_run import catalogue, write_run
from tests.odd_tables import KINDS, odd_array


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_becomes_a_plain_one(kind):
    for seed in range(3):
        array = odd_array(random.Random(f"{kind}{seed}"), kind, 8)
        wanted = plain_type(array.type)
        made = plain(array, wanted)
        assert made.type == wanted and len(made) == len(array)
        made.validate(full=True)
        if not pa.types.is_nested(array.type):
            assert made.null_count == array.null_count or kind in ("dictionary", "run_end", "union")


def test_rows_as_json():
    row = {"a": float("nan"), "b": float("inf"), "c": b"\xff\x00", "d": "名\0", "e": {"f": [1, None, -float("inf")]}}
    assert json.loads(json_bytes(row)) == {
        "a": None,
        "b": None,
        "c": "ff00",
        "d": "名\\x00",
        "e": {"f": [1, None, None]},
    }


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_column_ends_an_export(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    rows, _ = catalogue(items=7)
    store = write_run(tmp_path / "run", rows, {}, shard=100)
    table = store.read_table("scores/00000.parquet")
    rng = random.Random(name)
    num = 0
    for kind in KINDS:
        array = odd_array(rng, kind, len(rows))
        try:
            open_store(str(tmp_path / "try")).write_table("t.parquet", pa.table({"x": array}))
        except (pa.ArrowException, KeyError):  # what Parquet cannot hold is in no run
            continue
        table = table.append_column(f"odd {num}", array)
        num += 1
    store.write_table("scores/00000.parquet", table)
    made = export_run(store, name, str(tmp_path / "out"), Wanted())
    assert num > 40 and made.about["rows"] and len(made.about["told_as_text"]) > 15
