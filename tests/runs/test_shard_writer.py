"""A manifest's rows become shards of the wanted size, in order, none lost."""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import StoreSettings
from aistudio.runs import layout, shard_writer
from aistudio.runs.shard_writer import AUTO_ROWS, ShardWriter
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
    stored = [i for s in writer.shards for i in store.read_table(layout.manifest_key(s.name))["row_id"].to_pylist()]
    assert stored == [str(i) for i in range(num_rows)]
    return [s.rows for s in writer.shards]


@pytest.mark.parametrize("batch", [3, 10, 64, 1000])
def test_a_given_size_is_kept(tmp_path: Path, batch: int) -> None:
    assert write(tmp_path, 95, 10, 7, batch) == [10] * 9 + [5]


@pytest.mark.parametrize("batch", [70, 5000])
def test_few_rows_are_shared_among_the_actors(tmp_path: Path, batch: int) -> None:
    two = [112, 96, 80, *[64] * 2, *[48] * 3, *[32] * 7, 16]
    assert write(tmp_path / "two", 800, "auto", 2, batch) == two
    assert write(tmp_path / "tiny", 120, "auto", 2, batch) == [32, 32, 32, 24]
    assert write(tmp_path / "one", 800, "auto", 1, batch)[:3] == [208, 160, 112]


@pytest.mark.parametrize("batch", [900, 20_000])
def test_many_rows_give_full_shards_and_small_ones_at_the_end(tmp_path: Path, batch: int) -> None:
    sizes = write(tmp_path / "enough", 17_000, "auto", 2, batch)
    assert sizes[:27] == [AUTO_ROWS] * 27
    assert sizes[27:] == sorted(sizes[27:], reverse=True)
    assert sizes[-3] == 32
    assert write(tmp_path / "unknown", 600, "auto", 0, batch) == [AUTO_ROWS, 100]


def test_the_look_ahead_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand actors would want two million rows first. The bound is a tenth here, so that 300 files show it."""
    monkeypatch.setattr(shard_writer, "_LOOK_AHEAD_ROWS", shard_writer._LOOK_AHEAD_ROWS // 10)
    sizes = write(tmp_path, 20_000, "auto", 1000, 1_000)
    assert sizes[:20] == [AUTO_ROWS] * 20
    assert set(sizes[20:-1]) == {32}


def test_no_rows_no_shards(tmp_path: Path) -> None:
    assert write(tmp_path, 0, "auto", 2, 10) == []


@pytest.mark.parametrize(
    ("units", "shard_rows", "sizes"),
    [
        ([3, 3, 3, 1], 4, [3, 3, 4]), ([5, 1, 1], 4, [5, 2]), ([1] * 9, 4, [4, 4, 1]), ([2, 2, 2, 2], 4, [4, 4]),
        ([4, 4], 4, [4, 4]), ([7], 4, [7]),
    ],
)  # fmt: skip
def test_a_shard_ends_where_a_unit_does(tmp_path: Path, units: list[int], shard_rows: int, sizes: list[int]) -> None:
    store = open_store(str(tmp_path), StoreSettings())
    writer = ShardWriter(store, "00000", shard_rows, 0)
    writer.write_units(rows(0, sum(units)), np.repeat(np.arange(len(units)), units))
    stored = [i for s in writer.shards for i in store.read_table(layout.manifest_key(s.name))["row_id"].to_pylist()]
    assert stored == [str(i) for i in range(sum(units))] and [s.rows for s in writer.shards] == sizes
