"""Stored rows, vectors and pictures from Python: equal to what is stored, in batches, whatever the files look like."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import aistudio
from aistudio.errors import ConfigError, StoreError
from tests.evaluation.stored_run import DIM, catalogue, write_run

NUM = 60
FAR = datetime.date(9999, 12, 31)


@pytest.fixture(scope="module")
def rows():
    rows, _ = catalogue()
    for i, row in enumerate(rows):
        row["thumbnail"] = b"\xff\xd8" + bytes([i]) if row["status"] == "ok" else None
        row["day"] = FAR if i % 2 else None
        row["count"] = i if i % 3 else None
    return rows


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    """Files of both layouts of vectors: 7 rows each."""
    more = [pa.field("category", pa.string()), pa.field("price", pa.float64()), pa.field("day", pa.date32())]
    path = tmp_path_factory.mktemp("api") / "run"
    write_run(path, rows, catalogue()[1], [*more, pa.field("count", pa.int64())], old=lambda number: number % 2 == 1)
    return aistudio.open_run(path)


@pytest.mark.parametrize("batch_rows", [1, 4, 7, 25, 1000])
def test_batches_have_the_size_that_was_asked_for_and_hold_every_row_once(run, rows, batch_rows):
    stream = run.rows(["row_id", "embedding"], batch_rows=batch_rows)
    for _ in range(2):  # it can be read again
        batches = list(stream)
        assert [b.num_rows for b in batches[:-1]] == [batch_rows] * (len(batches) - 1)
        assert all(b.schema == stream.schema for b in batches)
        found = pa.Table.from_batches(batches)
        assert found["row_id"].to_pylist() == [r["row_id"] for r in rows]
        stored = [None if r["embedding"] is None else r["embedding"].tolist() for r in rows]
        assert found["embedding"].to_pylist() == stored


def test_conditions_are_those_of_the_search(run, rows):
    found = run.rows(["row_id"], {"category": ["hat", "nothing"], "price": 3}).table()
    assert found["row_id"].to_pylist() == [r["row_id"] for r in rows if r["category"] == "hat" and r["price"] == 3]
    assert (
        not list(run.rows(where={"category": "nothing"}))
        and run.rows(where={"category": "nothing"}).table() is not None
    )
    middle = run.rows(["row_id"], {"price": aistudio.Range(2, 4.5), "category": ["coat", "hat"]}).table()
    assert middle["row_id"].to_pylist() == [r["row_id"] for r in rows if 2 <= r["price"] <= 4.5]
    numbers = run.rows(["row_id"], {"row_id": aistudio.Range(high=12)}).table()  # numbers that are texts
    assert numbers["row_id"].to_pylist() == [str(i) for i in range(13)]
    assert not list(run.rows(where={"text": aistudio.Range(0)}))
    assert run.num_rows == NUM and "thumbnail" in run.schema.names


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"columns": ["colour"]}, "columns: 'colour' is not a column of the rows; there: row_id"),
        ({"where": {"colour": "red"}}, "where: 'colour' is not a column"),
        ({"columns": "row_id"}, "expected a list of names, found the text 'row_id'"),
        ({"where": {"day": aistudio.Range(1)}}, "where: day holds no numbers"),
        ({"batch_rows": 0}, "batch_rows: expected 1 or more, found 0"),
    ],
)
def test_a_mistake_is_said_before_anything_is_read(run, asked, message):
    with pytest.raises(ConfigError, match=message):
        run.rows(**asked)


def test_frames_hold_what_pandas_cannot(run, rows):
    frame = pd.concat(run.rows(["row_id", "day", "price"], batch_rows=13).pandas())
    assert frame["day"].tolist() == [r["day"] for r in rows] and frame["price"].tolist() == [r["price"] for r in rows]


def test_tensors(run, rows):
    batches = list(run.rows(["embedding", "price", "count", "width", "category"], batch_rows=32).torch())
    assert [len(b["category"]) for b in batches] == [32, 28]
    assert batches[0]["embedding"].shape == (32, DIM) and batches[0]["embedding"].dtype == torch.float32
    assert batches[0]["width"].dtype == torch.int32 and batches[0]["price"].dtype == torch.float64
    failed = np.array([r["embedding"] is None for r in rows])
    vectors = torch.cat([b["embedding"] for b in batches]).numpy()
    assert (np.isnan(vectors).all(axis=1) == failed).all()
    assert (vectors[~failed] == np.stack([r["embedding"] for r in rows if r["embedding"] is not None])).all()
    counts = torch.cat([b["count"] for b in batches])
    assert counts.isnan().tolist() == [r["count"] is None for r in rows] and counts[4] == 4
    assert batches[1]["category"] == [r["category"] for r in rows[32:]]


def test_vectors_are_those_that_are_stored(run, rows):
    good = [r for r in rows if r["embedding"] is not None]
    for name in (None, "recall"):
        row_ids, matrix = run.vectors(name, batch_rows=9).matrix()
        assert row_ids == [r["row_id"] for r in good]
        assert matrix.dtype == np.float32 and (matrix == np.stack([r["embedding"] for r in good])).all()
    hats = run.vectors(where={"category": "hat"}, unit=True)
    assert hats.width == DIM and hats.column == "embedding"
    assert [i for part in hats for i in part.row_ids] == [r["row_id"] for r in good if r["category"] == "hat"]
    assert run.vectors(where={"category": "no"}).matrix().vectors_ND.shape == (0, DIM)
    with pytest.raises(ConfigError, match="no vectors of look"):
        run.vectors("look")


def test_pictures_come_in_the_order_of_the_ids(run, rows):
    asked = ["59", "3", "no such row", "7", "3"]
    found = list(run.images(asked))
    assert [f.row_id for f in found] == asked
    assert [f.status for f in found] == ["timeout", "ok", "unknown_row", "timeout", "ok"]
    assert [f.jpeg for f in found] == [rows[int(i)]["thumbnail"] if i.isdigit() else None for i in asked]
    assert found[3].error == "slow" and found[1].item_id == "item0" and not list(run.images([]))
    with pytest.raises(ConfigError, match="expected a list of ids"):
        run.images("3")


def test_a_damaged_file_is_named(rows, tmp_path):
    write_run(tmp_path, rows, catalogue()[1])
    run = aistudio.open_run(tmp_path)
    path = tmp_path / "scores/00003.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"00003\.parquet: damaged"):
        run.rows(["row_id"]).table()


def test_memory_does_not_grow_with_the_run(rows, run, tmp_path):
    """Arrow's own count of what it holds, while the batches of a run and of one ten times as long go by."""
    more = [{**row, "row_id": f"{n}-{row['row_id']}", "day": None, "count": 0} for n in range(10) for row in rows]
    write_run(tmp_path, more, {})
    assert _most_held(aistudio.open_run(tmp_path)) < 2 * _most_held(run)


def _most_held(run):
    before, most, num = pa.total_allocated_bytes(), 0, 0
    for batch in run.rows(batch_rows=5):
        most, num = max(most, pa.total_allocated_bytes() - before), num + batch.num_rows
    assert num == run.num_rows
    return most


def test_a_folder_without_a_run_and_a_run_without_scores(tmp_path):
    with pytest.raises(ConfigError, match=r"no run\.json"):
        aistudio.open_run(tmp_path)
    write_run(tmp_path, [], {})
    with pytest.raises(StoreError, match="no stored scores"):
        aistudio.open_run(tmp_path)
