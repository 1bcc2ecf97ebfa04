"""What img2dataset has fetched, as a manifest: its pictures are read where they lie, nothing is fetched again.

Read are its outputs `files`, `webdataset` and `parquet`. A shard is what has a table `<number>.parquet` and statistics
`<number>_stats.json`: img2dataset writes them last, so one that lacks them was not finished. Every row of every table
ends in the manifest or, with its reason, in the table of what was left out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aistudio.catalogue import IMAGE_SUFFIXES
from aistudio.catalogue.archives import Damage, samples_in_order
from aistudio.catalogue.tar import Tar
from aistudio.config import StoreSettings
from aistudio.errors import ManifestError, StoreError
from aistudio.parts import Part, footer_mark, part_address
from aistudio.places import in_bucket
from aistudio.store import Store, open_store

OURS = ("item_id", "image_url", "text")  # the manifest's first columns
LEFT_OUT_SCHEMA = pa.schema(
    [("shard", pa.string()), ("key", pa.string()), ("url", pa.string()), ("reason", pa.string())]
)
_TABLE = re.compile(r"(\d+)\.parquet")
_PICTURES = frozenset(suffix[1:] for suffix in IMAGE_SUFFIXES)


@dataclass
class Imported:
    """What became of an output."""

    shards: int = 0
    rows: int = 0
    fetch: int = 0  # of them, rows that img2dataset had failed to fetch, with their addresses
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> rows
    notes: list[str] = field(default_factory=list)  # about whole shards


class _Shard(NamedTuple):
    number: str
    table: str  # keys in the store
    tar: str | None
    files: dict[str, str]  # key of a row -> key in the store of its picture


def import_output(
    folder: str, target: Path, settings: StoreSettings, *, fetch_failed: bool = False, item: str = "key"
) -> Imported:
    """Write a manifest of an output folder to `target`, and what is left out beside it, as `<target>_left_out.parquet`.

    Args:
        folder: img2dataset's output_folder, local or in a bucket.
        target: Parquet file; overwritten.
        fetch_failed: keep rows that were not fetched, with their original addresses, to be fetched again.
        item: column of the tables that becomes item_id.

    Raises:
        ManifestError: no finished shard there, a format that holds no pictures one by one, or no such column.
        StoreError: the folder cannot be read.
    """
    store = open_store(folder if in_bucket(folder) else str(Path(folder).absolute()), settings)
    done = Imported()
    shards = _shards(store, done)
    schema = _schema(store, shards, item)
    left_path = target.with_name(f"{target.stem}_left_out.parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(target, schema) as writer, pq.ParquetWriter(left_path, LEFT_OUT_SCHEMA) as left_writer:
        for shard in shards:
            rows, left = _import_shard(store, shard, schema, done, fetch_failed, item)
            writer.write_table(rows)
            left_writer.write_table(left)
    if not done.rows:
        left = dict(done.left_out) or "nothing"
        raise ManifestError(f"{folder}: no picture in {done.shards} shards; left out: {left}")
    return done


def _shards(store: Store, done: Imported) -> list[_Shard]:
    keys = {entry.key for entry in store.list("")}
    if any(key.endswith(".tfrecord") for key in keys):
        raise ManifestError(f"{store.root}: output_format tfrecord is not read; webdataset, parquet and files are")
    files: dict[str, dict[str, str]] = {}
    for key in keys:
        number, slash, name = key.partition("/")
        stem, _, ending = name.rpartition(".")
        if slash and ending.lower() in _PICTURES:
            files.setdefault(number, {})[stem] = key
    found = []
    tables = {match[1] for key in keys if (match := _TABLE.fullmatch(key))}
    started = (
        tables | {key.removesuffix(".tar") for key in keys if key.endswith(".tar") and "/" not in key} | set(files)
    )
    for number in sorted(started):
        if number not in tables or f"{number}_stats.json" not in keys:
            done.notes.append(f"shard {number}: left out whole, img2dataset did not finish it (no table or statistics)")
            continue
        tar = f"{number}.tar" if f"{number}.tar" in keys else None
        found.append(_Shard(number, f"{number}.parquet", tar, files.get(number, {})))
    if not found:
        raise ManifestError(f"{store.root}: no finished shard of img2dataset (00000.parquet with 00000_stats.json)")
    done.shards = len(found)
    return found


def _schema(store: Store, shards: list[_Shard], item: str) -> pa.Schema:
    """The manifest's columns: ours, then those of all tables but the pictures."""
    schemas = []
    for shard in shards:
        with closing(_opened(store, shard.table)) as stream:
            schemas.append(_read(store, shard.table, stream).schema_arrow.remove_metadata())
    try:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as e:
        raise ManifestError(f"{store.root}: its shards' tables do not fit together: {e}") from None
    for name in dict.fromkeys(("key", "status", item)):
        if name not in schema.names:
            raise ManifestError(f"{store.root}: the tables have no column {name!r}; found {', '.join(schema.names)}")
    kept = [f if not pa.types.is_null(f.type) else pa.field(f.name, pa.string()) for f in schema if not _binary(f)]
    names = [_own_name(f.name) for f in kept]
    fields = [pa.field(name, f.type) for name, f in zip(names, kept, strict=True)]
    return pa.schema([*(pa.field(name, pa.string()) for name in OURS), *fields])


def _import_shard(
    store: Store, shard: _Shard, schema: pa.Schema, done: Imported, fetch_failed: bool, item: str
) -> tuple[pa.Table, pa.Table]:
    with closing(_opened(store, shard.table)) as stream:
        file = _read(store, shard.table, stream)
        pictures = [f.name for f in file.schema_arrow if _binary(f)]
        mark = footer_mark(stream) if pictures else ""
        table = file.read([f.name for f in file.schema_arrow if not _binary(f)])
    _check_count(store, shard, table.num_rows, done)
    keys, statuses = _texts(table, "key"), _texts(table, "status")
    urls, captions, items = _texts(table, "url"), _texts(table, "caption"), _texts(table, item)
    places = _places(store, shard, pictures[:1], mark, keys, done)
    chosen, addresses, left = [], [], []
    for i, (key, status) in enumerate(zip(keys, statuses, strict=True)):
        reason = "" if status == "success" else status or "no status"
        place = places.get(key or "") if not reason else None
        if reason and fetch_failed and urls[i]:
            place, reason = urls[i], ""
            done.fetch += 1
        elif not reason and place is None:
            reason = "its picture is missing"
        if reason:
            done.left_out[reason] += 1
            left.append({"shard": shard.number, "key": key, "url": urls[i], "reason": reason})
        else:
            chosen.append(i)
            addresses.append(place)
    done.rows += len(chosen)
    own = [[items[i] for i in chosen], addresses, [captions[i] or "" for i in chosen]]
    rows = table.take(pa.array(chosen, pa.int64())).rename_columns([_own_name(n) for n in table.column_names])
    arrays = [pa.array(values, pa.string()) for values in own]
    for one in list(schema)[len(OURS) :]:
        there = one.name in rows.column_names
        arrays.append(rows[one.name].cast(one.type) if there else pa.nulls(len(chosen), one.type))
    return pa.Table.from_arrays(arrays, schema=schema), pa.Table.from_pylist(left, schema=LEFT_OUT_SCHEMA)


def _places(
    store: Store, shard: _Shard, pictures: list[str], mark: str, keys: list[str | None], done: Imported
) -> dict[str, str]:
    """Address of the picture of each row by its key."""
    if shard.tar is not None:
        return dict(_in_tar(store, shard.tar, done))
    if pictures:
        place, column = store.path(shard.table), pictures[0]
        rows = enumerate(keys, 1)
        return {key or "": part_address(place, Part("row", column, row, mark=mark)) for row, key in rows}
    return {key: store.path(file) for key, file in shard.files.items()}


def _in_tar(store: Store, tar: str, done: Imported) -> Iterator[tuple[str, str]]:
    place = store.path(tar)
    with closing(_opened(store, tar)) as stream:
        for sample in samples_in_order(Tar(stream).members()):
            if isinstance(sample, Damage):
                done.notes.append(f"{tar}: {sample.reason}")
                continue
            found = [m for ending, m in sample.members.items() if ending in _PICTURES]
            if found and sample.problem is None:
                yield sample.key, part_address(place, Part("tar", found[0].name, found[0].at, found[0].num_bytes))


def _check_count(store: Store, shard: _Shard, rows: int, done: Imported) -> None:
    try:
        stats: Any = json.loads(store.read_bytes(f"{shard.number}_stats.json"))
        count = stats.get("count") if isinstance(stats, dict) else None
    except (StoreError, ValueError):
        done.notes.append(f"shard {shard.number}: its statistics cannot be read")
        return
    if count != rows:
        done.notes.append(f"shard {shard.number}: its statistics say {count} rows, its table has {rows:,}")


def _texts(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return cast(list[str | None], pc.cast(table[name], pa.string()).to_pylist())


def _own_name(name: str) -> str:
    return f"img2dataset_{name}" if name in OURS else name


def _binary(one: pa.Field) -> bool:
    return bool(pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type))


def _opened(store: Store, key: str) -> BinaryIO:
    return store.open(key)


def _read(store: Store, key: str, stream: BinaryIO) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except (OSError, pa.ArrowException) as e:
        raise ManifestError(f"{store.path(key)}: not a readable Parquet file: {e}") from None
