"""Puts the rows of one address into one shard, so that over a whole run each address is fetched and encoded once.

The manifest's rows are drafted in their order; then every row moves up to the first row that has its address, and the
rows are cut into shards, never between two of one address. A catalogue that has few duplicates keeps its order almost
whole. It is a hash join in files, so that no process holds more than a part of the rows, whatever their number; only
numbers pass through the driver. Steps, each a function for a task: `note_addresses`, `find_firsts`, `move_rows`,
`write_shards`. Rows are met by 64 bits of a hash: addresses that share one merely come to lie side by side.

An address is *frequent* when more rows have it than a shard holds. Its first row goes to a shard of its own kind
(layout.is_frequent), which is scored before all others; its other rows stay where they are, and their shards take over
what came of it there (scoring/frequent_images.py). So no shard, and no task here, grows with an address.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.delta_join import first_of, groups_of, hashed, numbers
from aistudio.runs.mapper import Mapper
from aistudio.runs.shard_writer import AUTO_ROWS, Shard, ShardWriter, most_rows
from aistudio.store import Store

DRAFT_ROWS = 20_000  # of a file of the draft
GROUP_ROWS = 500_000  # that a task moves, and that one writes out
GROUP_BYTES = 400 << 20  # likewise, in memory; whatever is less
PART_ROWS = 2_000_000  # whose addresses a task compares
BLOCK_ROWS = 2_000  # counted together when the rows are cut into ranges
FREQUENT_ROWS = 32  # of a shard of first rows: all others wait for it

_IMAGE = ("image_url", "fallback_url")
_UNIT, _PLACE = "source_unit", "source_place"  # names that no column of the user's has (schema.passthrough_name)


class Draft(NamedTuple):
    """A file of the draft."""

    name: str
    start: int  # place in the manifest of its first row
    rows: int


class Group(NamedTuple):
    """Consecutive files of the draft."""

    number: int
    drafts: list[Draft]


class Firsts(NamedTuple):
    """What a task found in a part of the addresses."""

    addresses: int
    frequent: int
    blocks: np.ndarray  # int64: BLOCK_ROWS places of the new order each
    rows: np.ndarray  # int64: that will lie there


class Ordered(NamedTuple):
    """The shards, and what was found."""

    shards: list[Shard]
    addresses: int
    frequent: int


def order_rows(
    run: Store, drafts: Sequence[Shard], num_bytes: int, mapper: Mapper, shard_rows: int | Literal["auto"], actors: int
) -> Ordered:
    """Make the snapshot's shards from its draft; the same ones each time.

    Args:
        drafts: files of the draft, in the manifest's order.
        num_bytes: of all their rows in memory.
        shard_rows, actors: as ShardWriter takes them.

    Raises:
        StoreError: files cannot be read or written, or are not the ones that were written.
    """
    num_rows = sum(d.rows for d in drafts)
    most = min(GROUP_ROWS, max(1, GROUP_BYTES * num_rows // max(1, num_bytes)))
    groups, parts = _groups(drafts, most), max(1, -(-num_rows // PART_ROWS))
    list(mapper.map(note_addresses, groups, run, parts))
    largest = min(AUTO_ROWS, most_rows(shard_rows))
    weights = np.zeros(num_rows // BLOCK_ROWS + 1, np.int64)
    addresses = frequent = 0
    for found in mapper.map(find_firsts, range(parts), run, largest):
        weights[found.blocks] += found.rows
        addresses, frequent = addresses + found.addresses, frequent + found.frequent
    starts = _ranges(weights, most)
    list(mapper.map(move_rows, groups, run, starts))
    sizes = (shard_rows, actors if len(starts) == 1 else 0)
    ranges = [*range(len(starts)), *([layout.FREQUENT] if frequent else [])]
    shards = [shard for written in mapper.map(write_shards, ranges, run, *sizes) for shard in written]
    if (made := sum(s.rows for s in shards)) != num_rows:
        raise StoreError(f"{run.path(layout.ADDRESSES)}: {made:,} of {num_rows:,} rows were put in order; try again")
    return Ordered(sorted(shards), addresses, frequent)


def note_addresses(group: Group, run: Store, parts: int) -> None:
    """Write down the addresses of a group, each once for a file, with its first place and its rows, in parts."""
    found = []
    for draft in group.drafts:
        address, first, rows = np.unique(_addresses(run, draft), return_index=True, return_counts=True)
        found.append((address, draft.start + first, rows))
    address, place, rows = (np.concatenate(column) for column in zip(*found, strict=True))
    part = (address % np.uint64(parts)).astype(np.int64)
    for number in np.unique(part):
        chosen = part == number
        table = pa.table({"address": address[chosen], "place": place[chosen], "rows": rows[chosen]})
        run.write_table(layout.address_key("noted", int(number), group.number), table)


def find_firsts(part: int, run: Store, most: int) -> Firsts:
    """Find the first place of each address of a part; tell each group those that are not its own affair alone.

    Args:
        most: rows that an address has at most without being frequent.
    """
    noted = [
        (_group_of(entry.key), run.read_table(entry.key)) for entry in run.list(layout.address_prefix("noted", part))
    ]
    if not noted:
        return Firsts(0, 0, np.zeros(0, np.int64), np.zeros(0, np.int64))
    group = np.concatenate([np.full(table.num_rows, number) for number, table in noted])
    address, place, rows = (_column([t for _, t in noted], name) for name in ("address", "place", "rows"))
    order = np.lexsort((place, address))
    group, address, place, rows = group[order], address[order], place[order], rows[order]
    begins = np.append(True, address[1:] != address[:-1])
    at, which = np.flatnonzero(begins), np.cumsum(begins) - 1  # first note of each address; address of each note
    frequent = np.add.reduceat(rows, at) > most
    in_files = np.diff(np.append(at, len(address)))
    told = (frequent | (in_files > 1))[which]
    for number in np.unique(group[told]):
        ours = np.unique(which[told & (group == number)])
        firsts = {"address": address[at[ours]], "place": place[at[ours]], "frequent": frequent[ours]}
        run.write_table(layout.address_key("firsts", int(number), part), pa.table(firsts))
    goes_to = np.where(frequent[which], place, place[at[which]])
    blocks, inverse = np.unique(goes_to // BLOCK_ROWS, return_inverse=True)
    return Firsts(len(at), int(frequent.sum()), blocks, np.bincount(inverse, rows).astype(np.int64))


def move_rows(group: Group, run: Store, starts: Sequence[int]) -> None:
    """Write a group's rows to the ranges in which they will lie, each with its unit: the place that its address has.

    Args:
        starts: place at which each range begins.
    """
    tables = [run.read_table(entry.key) for entry in run.list(layout.address_prefix("firsts", group.number))]
    firsts = pa.concat_tables(tables) if tables else None
    moved: dict[int, list[pa.Table]] = defaultdict(list)
    for draft in group.drafts:
        rows = run.read_table(layout.draft_key(draft.name))
        place = draft.start + np.arange(rows.num_rows)
        unit, leads = _units(numbers(hashed(rows, _IMAGE)), place, firsts)
        rows = rows.append_column(_UNIT, pa.array(unit)).append_column(_PLACE, pa.array(place))
        goes_to = np.where(leads, layout.FREQUENT, np.searchsorted(starts, unit, "right") - 1)
        for number in np.unique(goes_to):
            moved[int(number)].append(rows.filter(pa.array(goes_to == number)))
    for number, tables in moved.items():
        run.write_table(layout.address_key("rows", number, group.number), pa.concat_tables(tables))


def write_shards(number: int, run: Store, shard_rows: int | Literal["auto"], actors: int) -> list[Shard]:
    """Write a range's shards: the rows of an address side by side, in the manifest's order."""
    tables = [run.read_table(e.key) for e in run.list(layout.address_prefix("rows", number))]
    if not tables:
        return []  # where the rows of a range are frequent addresses', its size is a guess
    rows = pa.concat_tables(tables)
    unit, place = (_column([rows], name) for name in (_UNIT, _PLACE))
    order = np.lexsort((place, unit))
    if number == layout.FREQUENT:
        shard_rows, actors = min(FREQUENT_ROWS, most_rows(shard_rows)), 0
    writer = ShardWriter(run, layout.shard_prefix(number), shard_rows, actors)
    writer.write_units(rows.drop_columns([_UNIT, _PLACE]).unify_dictionaries().take(pa.array(order)), unit[order])
    return writer.shards


def _units(address: np.ndarray, place: np.ndarray, firsts: pa.Table | None) -> tuple[np.ndarray, np.ndarray]:
    """For each row of a file the place of its unit, and whether it is the first row of a frequent address.

    Rows of a unit stand together. That is an address, at its first place; a row of a frequent address is one alone.
    """
    _, first, inverse = np.unique(address, return_index=True, return_inverse=True)
    unit = place[first][inverse]
    if firsts is None:
        return unit, np.zeros(len(unit), bool)
    at, told = first_of(address, _column([firsts], "address"))
    unit = np.where(told, _column([firsts], "place")[at], unit)
    frequent = told & _column([firsts], "frequent")[at]
    return np.where(frequent, place, unit), frequent & (place == unit)


def _groups(drafts: Sequence[Shard], most: int) -> list[Group]:
    starts = np.cumsum([0, *(d.rows for d in drafts)])
    known = {d.name: Draft(d.name, int(start), d.rows) for d, start in zip(drafts, starts, strict=False)}
    return [Group(g.number, [known[name] for name in g.shards]) for g in groups_of(drafts, most)]


def _ranges(weights: Iterable[int], most: int) -> list[int]:
    """Return the places at which ranges of about `most` rows begin."""
    starts, held = [0], 0
    for block, rows in enumerate(weights):
        if held and held + rows > most:
            starts.append(block * BLOCK_ROWS)
            held = 0
        held += int(rows)
    return starts


def _addresses(run: Store, draft: Draft) -> np.ndarray:
    return numbers(hashed(run.read_table(layout.draft_key(draft.name), _IMAGE), _IMAGE))


def _column(tables: Sequence[pa.Table], name: str) -> np.ndarray:
    return np.concatenate([table[name].to_numpy() for table in tables])


def _group_of(key: str) -> int:
    return int(key.rpartition("-")[2].partition(".")[0])
