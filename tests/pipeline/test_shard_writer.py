"""A manifest's rows become shards of the wanted size, in order, none lost."""

from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest

from aistudio.config import StoreSettings
from aistudio.pipeline.shard_writer import AUTO_ROWS, ShardWriter, manifest_key
from aistudio.schema import candidate_schema
from aistudio.store import open_store


def rows(first: int, num: int) -> pa.Table:
    schema = candidate_schema([])
    ids = pa.array([str(i) for i in range(first, first + num)])
    return pa.table([ids if f.name == "row_id" else pa.nulls(num, f.type) for f in schema], names=schema.names)


def write(folder: Path, num_rows: int, shard_rows: int | Literal["auto"], num_actors: int, batch: int) -> list[int]:
    """Sizes of the shards that come of a stream of `batch` rows at once; every row is there, in order."""
    store = open_store(str(folder), StoreSettings())
    writer = ShardWriter(store, "00000", shard_rows, num_actors)
    for start in range(0, num_rows, batch):
        writer.add(rows(start, min(batch, num_rows - start)))
    writer.finish()
    stored = [i for s in writer.shards for i in store.read_table(manifest_key(s.name))["row_id"].to_pylist()]
    assert stored == [str(i) for i in range(num_rows)]
    return [s.rows for s in writer.shards]


@pytest.mark.parametrize("batch", [3, 10, 64, 1000])
def test_a_given_size_is_kept(tmp_path: Path, batch: int) -> None:
    assert write(tmp_path, 95, 10, 7, batch) == [10] * 9 + [5]


@pytest.mark.parametrize("batch", [70, 5000])
def test_few_rows_are_shared_among_the_actors(tmp_path: Path, batch: int) -> None:
    assert write(tmp_path / "two", 3200, "auto", 2, batch) == [112] * 28 + [64]
    assert write(tmp_path / "tiny", 120, "auto", 2, batch) == [48, 48, 24]
    assert write(tmp_path / "one", 3200, "auto", 1, batch) == [208] * 15 + [80]


def test_many_rows_give_full_shards(tmp_path: Path) -> None:
    assert write(tmp_path / "enough", 17_000, "auto", 2, 900) == [AUTO_ROWS] * 34
    assert set(write(tmp_path / "just", 16_000, "auto", 2, 900)) == {AUTO_ROWS}
    assert write(tmp_path / "unknown", 600, "auto", 0, 900) == [AUTO_ROWS, 100]


def test_the_look_ahead_is_bounded(tmp_path: Path) -> None:
    """A thousand actors would want eight million rows first."""
    assert set(write(tmp_path, 110_000, "auto", 1000, 10_000)) == {AUTO_ROWS}


def test_no_rows_no_shards(tmp_path: Path) -> None:
    assert write(tmp_path, 0, "auto", 2, 10) == []
