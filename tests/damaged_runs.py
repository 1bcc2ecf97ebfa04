"""A small whole run, and fourteen kinds of damage to it, each of which touches what it names and nothing else."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from aistudio.config import parse_config
from aistudio.run_record import RowTotals
from aistudio.runs import layout
from aistudio.runs.record import new_record, write_run
from aistudio.runs.resume import store_shard
from aistudio.runs.shard_writer import ShardWriter
from aistudio.runs.snapshot import Snapshot
from aistudio.schema import CANDIDATE_FIELDS, Status
from aistudio.scoring.image_source import ImageRow
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.store import Store
from tests.scoring.test_shard import FakeEncoders

SHARDS = [f"00000-{i:06d}" for i in range(3)]
ROWS = 4
RESCORED = [key(s) for s in SHARDS for key in (layout.scores_key, layout.texts_key)]


class Damage(NamedTuple):
    """One kind of damage; `rescored`: the files that are missing once all is mended that can be without scoring."""

    name: str
    do: Callable[[Store], object]
    names: str = ""  # in the ledger's problems
    rescored: tuple[str, ...] = ()
    in_record: bool = False
    in_index: bool = False


def whole_run(store: Store, dtype: str = "float32") -> None:
    """Three shards of four rows, one row of each failed; vectors, texts, thumbnails, a column of the user's."""
    data = {"manifest": {"path": "m.csv", "format": "csv"}, "output": store.root, "models": {"recall": "-"}}
    config = parse_config(data | {"store": {"embedding_dtype": dtype}}, "test")
    writer = ShardWriter(store, "00000", ROWS, 0)
    num = ROWS * len(SHARDS)
    columns = [[f"r{i}" for i in range(num)], [f"i{i // 2}" for i in range(num)], [f"u{i}" for i in range(num)],
               [None] * num, [f"t{i // 2}" for i in range(num)], [None] * num, list(range(num))]  # fmt: skip
    schema = pa.schema([*CANDIDATE_FIELDS, pa.field("price", pa.int64())])
    writer.add(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
    writer.finish()
    identity = {"path": "m.csv", "format": "csv"}
    snapshot = Snapshot(
        shards=writer.shards, passthrough=writer.passthrough, num_rejected=0, rejected_reasons={}, identity=identity
    )
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    record = new_record(config, {"models": {}, "manifest": identity}, {}, 1)
    rows = RowTotals(manifest=num, rejected=0, stored=num)
    write_run(store, record.model_copy(update={"state": "complete", "rows": rows}))
    for shard in writer.shards:
        table = store.read_table(layout.manifest_key(shard.name))
        images = [image(i) for i in range(ROWS)]
        scores, texts, _ = ShardScorer(FakeEncoders(), "float32", 4).score(
            table, distinct_images(table), images, lambda counts: None
        )
        store_shard(store, shard.name, scores, texts, {"aistudio.fingerprint": record.fingerprint})


def image(number: int) -> ImageRow:
    if number == 2:
        return ImageRow(number, Status.TIMEOUT, "slow")
    thumbnail = bytes([0xA0 + number]) * 64
    return ImageRow(number, Status.OK, pixels=(np.full((2, 2, 3), number + 1, np.uint8),), thumbnail=thumbnail)


def flip(find: bytes, key: str) -> Callable[[Store], object]:
    """Change one byte of the file within `find`."""

    def do(store: Store) -> None:
        data = bytearray(store.read_bytes(key))
        data[data.index(find) + 3] ^= 0x80  # the sign, of a float32
        store.write_bytes(key, bytes(data))

    return do


def cut(key: str) -> Callable[[Store], object]:
    return lambda store: store.write_bytes(key, store.read_bytes(key)[:-20])


def gone(key: str) -> Callable[[Store], object]:
    return lambda store: store.delete(key)


def rewrite(key: str, change: Callable[[pa.Table], pa.Table], **metadata: str) -> Callable[[Store], object]:
    """A valid Parquet file with another content."""

    def do(store: Store) -> None:
        kept = store.read_metadata(key)[2]
        store.write_table(key, change(store.read_table(key)), {**kept, **metadata})

    return do


def _copied(store: Store) -> None:
    store.write_bytes("scores/00009-000000.parquet", store.read_bytes(SCORES))


def _second_vector() -> bytes:
    return np.array([2, 0, 0, 0], np.float32).tobytes()


SCORES, TEXTS, ROWS_OF = layout.scores_key(SHARDS[1]), layout.texts_key(SHARDS[1]), layout.manifest_key(SHARDS[1])
DAMAGES = [
    Damage("score file missing", gone(SCORES), "missing: row_id r4", (SCORES,)),
    Damage("score file cut", cut(SCORES), "damaged or not Parquet", (SCORES,)),
    Damage("scored with other settings", rewrite(SCORES, lambda t: t, **{"aistudio.fingerprint": "0" * 64}),
           "scored by another model", (SCORES,)),
    Damage("a row missing", rewrite(SCORES, lambda t: t.slice(1)), "missing: row_id r4", (SCORES,)),
    Damage("a row twice", rewrite(SCORES, lambda t: pa.concat_tables([t, t.slice(0, 1)])), "stored twice", (SCORES,)),
    Damage("vectors flipped", flip(_second_vector(), SCORES), "damaged or not Parquet", (SCORES,)),
    Damage("thumbnails flipped", flip(b"\xa1" * 8, SCORES), "damaged or not Parquet", (SCORES,)),
    Damage("text file missing", gone(TEXTS), "texts/", (TEXTS,)),
    Damage("text file cut", cut(TEXTS), "texts/", (TEXTS,)),
    Damage("text vectors flipped", flip(np.array([1, 0, 0, 0], np.float32).tobytes(), TEXTS), "texts/", (TEXTS,)),
    Damage("a stray score file", _copied, "scores/00009-000000.parquet: no such shard"),
    Damage("a stray text file", lambda s: s.write_bytes("texts/old.parquet", s.read_bytes(TEXTS)), "texts/old"),
    Damage("manifest shard missing", gone(ROWS_OF), "manifest/"),
    Damage("manifest shard cut", cut(ROWS_OF), "damaged or not Parquet"),
    Damage("manifest shard of another size", rewrite(ROWS_OF, lambda t: t.slice(1)), "the snapshot's index says 4"),
    Damage("vectors missing", rewrite(SCORES, lambda t: t.set_column(
        t.column_names.index("embedding"), t.schema.field("embedding"), pa.nulls(len(t), pa.list_(pa.float32())))),
        "ok rows without a vector", (SCORES,)),
    Damage("run.json cut", lambda s: s.write_bytes(layout.RUN, s.read_bytes(layout.RUN)[:100]), in_record=True),
    Damage("index missing", gone(layout.MANIFEST_INDEX), in_index=True),
    Damage("index cut", cut(layout.MANIFEST_INDEX), in_index=True),
]  # fmt: skip
