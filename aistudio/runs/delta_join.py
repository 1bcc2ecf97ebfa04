"""The join of a base run with a manifest: which stored row stands for which row of this run, and which are gone.

A hash join in files, so that no process holds more than a part of one side, whatever the sizes. Steps, each a function
for a task: `split_base` and `split_new` cut groups of shards into parts by the hash of the address; `join_part`
joins a part; `gather` puts together what all parts say of a group of shards, in the order of its rows. Rows are met by
64 bits of a hash; whoever takes a row over compares the addresses themselves.
"""

from bisect import bisect_right
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.store import Store

GROUP_ROWS = 500_000  # rows of one side that a task cuts: some 100 MB
PART_ROWS = 500_000  # rows of a part
_ROWS_AT_ONCE = 16_384  # a row group of the matches: what a worker reads to find its shard's

_IMAGE = ("image_url", "fallback_url")
_ROW = (*_IMAGE, "text", "poi_names")
_OFFER = ("item_id", "image_url")
_SPLIT = pa.schema(
    [(n, pa.string()) for n in ("row_id", "item_id", *_IMAGE, "text", "poi_names", "status", "content_hash")]
)
_PLACE = ["part", "image", "offer", "whole", "shard", "row"]
_NOTHING = "\0"  # stands for null: no stored text has it

MATCHES = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),  # of the shard, from 0
        pa.field("base_shard", pa.string(), nullable=False),
        pa.field("base_row", pa.int32(), nullable=False),
        pa.field("same_text", pa.bool_(), nullable=False),  # text and POI names are the same as well
    ]
)
GONE = pa.schema([pa.field(n, pa.string()) for n in ("row_id", "item_id", "image_url", "status")])


class Group(NamedTuple):
    """Consecutive shards of one side."""

    number: int
    shards: list[str]


class Split(NamedTuple):
    """What a task found in a group."""

    rows: int
    unread: list[str]  # files that cannot be read, each with the reason


def groups_of(shards: Sequence[tuple[str, int]], most_rows: int = GROUP_ROWS) -> list[Group]:
    """Cut a side's shards (name, rows) into groups of about `most_rows` rows, in their order."""
    groups: list[Group] = []
    held: list[str] = []
    rows = 0
    for name, num in shards:
        held.append(name)
        rows += num
        if rows >= most_rows:
            groups.append(Group(len(groups), held))
            held, rows = [], 0
    return [*groups, Group(len(groups), held)] if held else groups


def split_base(group: Group, run: Store, base: Store, fingerprint: str, parts: int) -> Split:
    """Cut a group of the base's score files into parts. `fingerprint`: of the base, which each file must carry."""
    tables, unread = [], []
    for name in group.shards:
        try:
            table = base_scores(base, name, fingerprint, _SPLIT.names).select(_SPLIT.names).cast(_SPLIT)
            tables.append(_with_outcome(_with_place(table, name)))
        except (StoreError, KeyError, pa.ArrowException) as e:
            unread.append(f"{name}: {e}")
    _write_parts(run, "base", group, tables, parts)
    return Split(sum(t.num_rows for t in tables), unread)


def split_new(group: Group, run: Store, parts: int) -> Split:
    """Cut a group of the run's own candidate rows into parts."""
    columns = ["item_id", *_IMAGE, "text", "poi_names"]
    tables = []
    for name in group.shards:
        table = run.read_table(layout.manifest_key(name), columns)
        tables.append(_with_place(table, name).select(_PLACE))
    _write_parts(run, "new", group, tables, parts)
    return Split(sum(t.num_rows for t in tables), [])


def join_part(part: int, run: Store) -> tuple[int, int]:
    """Join a part; write what it says of each group, and its rows that are gone. Returns the numbers of both."""
    base = _parts(run, "base", part)
    stored = _usable(base) if base is not None else None
    offers: list[np.ndarray] = []
    matched = 0
    for entry in run.list(layout.delta_prefix("new", part)):
        new = run.read_table(entry.key)
        offers.append(numbers(new["offer"]))
        if stored is not None and stored.num_rows and (found := _matches(new, stored)).num_rows:
            group = int(entry.key.rpartition("-")[2].partition(".")[0])
            run.write_table(layout.delta_key("joined", group, part), found)
            matched += found.num_rows
    if base is None:
        return matched, 0
    there = np.concatenate(offers) if offers else np.zeros(0, np.uint64)
    gone = base.filter(pa.array(~np.isin(numbers(base["offer"]), there))).select(GONE.names)
    if gone.num_rows:
        run.write_table(layout.gone_key(part), gone.cast(GONE))
    return matched, gone.num_rows


def gather(group: int, run: Store) -> None:
    """Write what all parts say of a group of shards as one file, in the order of shards and rows."""
    tables = [run.read_table(entry.key) for entry in run.list(layout.delta_prefix("joined", group))]
    table = pa.concat_tables(tables).cast(MATCHES) if tables else MATCHES.empty_table()
    table = table.sort_by([("shard", "ascending"), ("row", "ascending")])
    sink = BytesIO()
    pq.write_table(table, sink, row_group_size=_ROWS_AT_ONCE, compression="zstd", write_page_checksum=True)
    run.write_bytes(layout.delta_key("matches", group), sink.getvalue())


def matches_of(run: Store, firsts: Sequence[str], shard: str) -> pa.Table:
    """Read the matches of a shard. `firsts`: the first shard of each group.

    Raises:
        StoreError: they cannot be read.
    """
    key = layout.delta_key("matches", max(0, bisect_right(firsts, shard) - 1))
    with run.open(key) as f:
        try:
            file = pq.ParquetFile(f, page_checksum_verification=True)
            wanted = [i for i in range(file.num_row_groups) if _may_hold(file.metadata.row_group(i).column(0), shard)]
            table = file.read_row_groups(wanted)
            return table.filter(pc.equal(table["shard"], shard))
        except (pa.ArrowException, OSError) as e:
            raise StoreError(f"{run.path(key)}: damaged or not Parquet: {e}") from None


def base_scores(base: Store, shard: str, fingerprint: str, columns: Sequence[str]) -> pa.Table:
    """Read columns of one of the base's score files.

    Raises:
        StoreError: it cannot be read, or was scored by other models or settings than the base's run.json says.
    """
    key = layout.scores_key(shard)
    table = base.read_table(key, columns)
    carried = (table.schema.metadata or {}).get(b"aistudio.fingerprint", b"").decode(errors="replace")
    if carried != fingerprint:
        raise StoreError(f"{base.path(key)}: scored by another model or settings than the run that it lies in")
    return table


def _may_hold(column: Any, shard: str) -> bool:
    found = column.statistics
    return found is None or not found.has_min_max or found.min <= shard <= found.max


def _with_place(table: pa.Table, shard: str) -> pa.Table:
    """The table with hashes of what its rows are met by, and where they stand."""
    added = {
        "part": hashed(table, ("image_url",)),
        "image": hashed(table, _IMAGE),
        "offer": hashed(table, _OFFER),
        "whole": hashed(table, _ROW),
        "row": pa.array(np.arange(table.num_rows, dtype=np.int32)),
        "shard": pa.array([shard]).dictionary_encode().take(pa.array(np.zeros(table.num_rows, np.int32))),
    }
    for name, values in added.items():
        table = table.append_column(name, values)
    return table.replace_schema_metadata(None)


def _with_outcome(table: pa.Table) -> pa.Table:
    """Return what the join needs of the base's rows: which picture they have, and what is listed when they are gone."""
    usable = pc.and_(pc.equal(table["status"], Status.OK.value), pc.is_valid(table["content_hash"]))
    table = table.append_column("usable", pc.fill_null(usable, False))
    table = table.append_column("content", hashed(table, ("content_hash",)))
    return table.select([*_PLACE, "usable", "content", *GONE.names])


def hashed(table: pa.Table, names: Sequence[str]) -> pa.Array:
    """Return 64 bits of a hash of some columns of text, the same in every process; null is not the empty text."""
    from pandas.util import hash_array  # half a second, which an actor that only reads the join would pay at its start

    columns = [pc.fill_null(table[name].cast(pa.string()), _NOTHING) for name in names]
    joined = pc.binary_join_element_wise(*columns, _NOTHING) if len(columns) > 1 else columns[0]
    texts = joined.to_numpy().astype(object)
    return pa.array(hash_array(texts, categorize=False))


def _write_parts(run: Store, step: str, group: Group, tables: list[pa.Table], parts: int) -> None:
    if not tables:
        return
    table = pa.concat_tables(tables).unify_dictionaries()
    part = (numbers(table["part"]) % np.uint64(parts)).astype(np.int64)
    for number in np.unique(part):
        chosen = table.filter(pa.array(part == number)).drop_columns(["part"])
        run.write_table(layout.delta_key(step, int(number), group.number), chosen)


def _parts(run: Store, step: str, part: int) -> pa.Table | None:
    tables = [_plain(run.read_table(entry.key)) for entry in run.list(layout.delta_prefix(step, part))]
    return pa.concat_tables(tables) if tables else None


def _plain(table: pa.Table) -> pa.Table:
    """The table with `shard` as a dictionary of 32-bit numbers, however it was read."""
    kind = pa.dictionary(pa.int32(), pa.string())
    place = table.schema.get_field_index("shard")
    column = table["shard"]
    encoded = column.cast(kind) if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return table.set_column(place, "shard", encoded)


def _usable(base: pa.Table) -> pa.Table:
    """The rows that went well, without pictures that the base saw in several versions: nobody knows which is right."""
    base = base.filter(base["usable"])
    if not base.num_rows:
        return base
    images, contents = numbers(base["image"]), numbers(base["content"])
    _, first, inverse = np.unique(images, return_index=True, return_inverse=True)
    several = np.unique(inverse[contents != contents[first][inverse]])
    return base.filter(pa.array(~np.isin(inverse, several)))


def _matches(new: pa.Table, stored: pa.Table) -> pa.Table:
    """Rows of a group and the base's row for each: the first that is the same in all, else the first with its image."""
    whole, same_text = first_of(numbers(new["whole"]), numbers(stored["whole"]))
    image, there = first_of(numbers(new["image"]), numbers(stored["image"]))
    there |= same_text
    places = pa.array(np.where(same_text, whole, image)[there])
    chosen = stored.select(["shard", "row"]).take(places)
    own = _plain(new).filter(pa.array(there))
    columns = {"shard": own["shard"], "row": own["row"], "base_shard": chosen["shard"], "base_row": chosen["row"]}
    return pa.table(columns | {"same_text": pa.array(same_text[there])}).cast(MATCHES)


def first_of(wanted: np.ndarray, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each wanted number its first place among the stored ones, and whether there is one."""
    known, first = np.unique(stored, return_index=True)
    place = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    return first[place], known[place] == wanted


def numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of hashes as an array."""
    return np.asarray(column.to_numpy(), dtype=np.uint64)
