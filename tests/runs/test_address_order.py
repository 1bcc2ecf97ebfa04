"""The rows of one address come into one shard, against the same thing said with Python's dictionaries."""

import random
from collections import defaultdict

import pyarrow as pa
import pytest

from aistudio.errors import StoreError
from aistudio.runs import address_order, layout
from aistudio.runs.address_order import order_rows
from aistudio.runs.mapper import InProcess
from aistudio.runs.shard_writer import Shard
from aistudio.schema import CANDIDATE_FIELDS
from aistudio.store import Store, open_store

Address = tuple[str, str | None]
SCHEMA = pa.schema([*CANDIDATE_FIELDS, pa.field("colour", pa.dictionary(pa.int32(), pa.string()))])


@pytest.fixture(autouse=True)
def _many_small_parts(monkeypatch):
    for name, value in (("GROUP_ROWS", 30), ("PART_ROWS", 25), ("BLOCK_ROWS", 4)):
        monkeypatch.setattr(address_order, name, value)


def draft(store: Store, addresses: list[Address], sizes: list[int]) -> list[Shard]:
    """Files of these sizes; row ids are the places in the manifest."""
    drafts, at = [], 0
    for i, size in enumerate(sizes):
        rows = [
            {"row_id": str(n), "item_id": "i", "image_url": u, "fallback_url": f, "text": "t", "colour": f"c{n % 3}"}
            for n, (u, f) in enumerate(addresses[at : at + size], at)
        ]
        drafts.append(Shard(f"00000-{i:06d}", len(rows)))
        store.write_table(layout.draft_key(drafts[-1].name), pa.Table.from_pylist(rows, schema=SCHEMA))
        at += size
    assert at == len(addresses)
    return drafts


def ordered(folder, addresses, sizes, shard_rows=8, actors=2, num_bytes=1):
    """Returns what order_rows says, and the places of each shard's rows."""
    store = open_store(str(folder))
    found = order_rows(store, draft(store, addresses, sizes), num_bytes, InProcess(), shard_rows, actors)
    tables = {s.name: store.read_table(layout.manifest_key(s.name)) for s in found.shards}
    assert all(
        t.num_rows == s.rows and t.schema.names == SCHEMA.names
        for s, t in zip(found.shards, tables.values(), strict=True)
    )
    for table in tables.values():
        for row in table.to_pylist():
            n = int(row["row_id"])
            assert (row["image_url"], row["fallback_url"], row["colour"]) == (*addresses[n], f"c{n % 3}")
    return found, {name: [int(n) for n in t["row_id"].to_pylist()] for name, t in tables.items()}


def catalogue(seed: int, num: int) -> tuple[list[Address], list[int]]:
    rng = random.Random(seed)
    hot: list[Address] = [("hot", None), ("hot", "")]
    addresses = [
        rng.choice(hot) if rng.random() < 0.2 else (f"u{int(rng.paretovariate(0.6)) % 90}", rng.choice([None, "f"]))
        for _ in range(num)
    ]
    sizes, left = [], num
    while left:
        sizes.append(min(left, rng.randint(1, 20)))
        left -= sizes[-1]
    return addresses, sizes


@pytest.mark.parametrize("seed", range(6))
def test_each_address_has_one_shard_and_the_order_stays(tmp_path, seed):
    addresses, sizes = catalogue(seed, 260)
    shard_rows = random.Random(seed).choice([5, 8, 20])
    found, shards = ordered(tmp_path, addresses, sizes, shard_rows)
    places = defaultdict(list)
    for n, address in enumerate(addresses):
        places[address].append(n)
    frequent = {a for a, at in places.items() if len(at) > shard_rows}
    assert (found.addresses, found.frequent) == (len(places), len(frequent)) and frequent
    assert all(1 <= len(rows) <= shard_rows for rows in shards.values())
    firsts = [n for name, rows in shards.items() if layout.is_frequent(name) for n in rows]
    assert firsts == sorted(places[a][0] for a in frequent)
    rest = [n for name, rows in shards.items() if not layout.is_frequent(name) for n in rows]
    wanted = sorted(
        set(range(len(addresses))) - set(firsts),
        key=lambda n: (n if addresses[n] in frequent else places[addresses[n]][0], n),
    )
    assert rest == wanted
    homes = defaultdict(set)
    for name, rows in shards.items():
        for n in rows:
            homes[addresses[n]].add(name)
    assert all(len(homes[a]) == 1 for a in places if a not in frequent)


def test_it_is_the_same_each_time_and_leaves_a_manifest_without_duplicates_as_it_is(tmp_path, monkeypatch):
    addresses, sizes = catalogue(1, 120)
    assert ordered(tmp_path / "a", addresses, sizes) == ordered(tmp_path / "b", addresses, sizes)
    each = [(f"u{n}", None) for n in range(50)]
    found, shards = ordered(tmp_path / "c", each, [20, 20, 10])
    assert [n for rows in shards.values() for n in rows] == list(range(50)) and found.addresses == 50
    monkeypatch.setattr(address_order, "GROUP_ROWS", 1000)
    found, shards = ordered(tmp_path / "d", each, [50], "auto", 1)
    assert [s.rows for s in found.shards] == [32, 18]


def test_rows_that_take_much_memory_are_written_by_more_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(address_order, "GROUP_ROWS", 1000)
    addresses, sizes = catalogue(2, 120)
    few, _ = ordered(tmp_path / "a", addresses, sizes, 40, num_bytes=1)
    many, _ = ordered(tmp_path / "b", addresses, sizes, 40, num_bytes=(400 << 20) * 10)
    prefixes = [{s.name.partition("-")[0] for s in o.shards} - {"frequent"} for o in (few, many)]
    assert len(prefixes[0]) == 1 and len(prefixes[1]) > 5


def test_files_that_are_not_those_that_were_written_are_found(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    drafts = draft(store, [("a", None)] * 3 + [("b", None)] * 3, [3, 3])
    stranger = pa.Table.from_pylist([], schema=SCHEMA).append_column("source_unit", pa.array([], pa.int64()))

    def writes_again(group, run, starts):
        move_rows(group, run, starts)
        run.write_table(
            layout.address_key("rows", 0, group.number), stranger.append_column("source_place", stranger[-1])
        )

    move_rows = address_order.move_rows
    monkeypatch.setattr(address_order, "move_rows", writes_again)
    with pytest.raises(StoreError, match="0 of 6 rows were put in order"):
        order_rows(store, drafts, 1, InProcess(), 8, 1)
