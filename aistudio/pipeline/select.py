"""Two-stage selection over a stored run: rows of an item are brought together, then selection.py decides.

Items are spread over buckets by a hash of their id; a bucket holds whole items and fits in memory. One bucket
is done in this process; more go through Ray Data's shuffle, so nothing is gathered on the driver.
"""

from collections import Counter
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import ray.data

from aistudio.config import JobConfig, SelectSettings
from aistudio.errors import StoreError
from aistudio.pipeline.cluster import connect
from aistudio.reports.safe import csv_bytes
from aistudio.runs import layout
from aistudio.runs.snapshot import load_snapshot
from aistudio.schema import EMBEDDING
from aistudio.search.vectors import vector_column
from aistudio.selection import NEEDED_COLUMNS, select_images
from aistudio.store import Store, open_store

_BUCKET_ROWS = 100_000  # with 512-d embeddings about 200 MB


class Selected(NamedTuple):
    """What was written to selection/."""

    num_items: int
    num_rows: int
    num_selected: int
    reasons: dict[str, int]  # rows by reason, without its detail
    files: list[str]


def select_run(store: Store, config: JobConfig, *, csv: bool = False, bucket_rows: int = _BUCKET_ROWS) -> Selected:
    """Write selection/*.parquet (selection.SELECTION_SCHEMA; CSV beside it if asked) for every item of a run.

    Raises:
        StoreError: nothing is scored there.
    """
    snapshot, done = load_snapshot(store), sorted(layout.done_shards(store))
    if snapshot is None or not done:
        raise StoreError(f"{store.root}: no stored scores there; run jobs.score first")
    for old in store.list(layout.SELECTION):
        store.delete(old.key)
    num_buckets = -(-snapshot.num_rows // bucket_rows)
    if num_buckets == 1:
        tables = [_read(store, name, config.select) for name in done]
        summaries = [_select_bucket(store, 0, pa.concat_tables(tables), config.select, csv)]
    else:
        summaries = _through_ray(store, config, done, num_buckets, csv)
    reasons: Counter[str] = Counter()
    for summary in summaries:
        reasons.update(summary["reasons"])
    total = {k: sum(s[k] for s in summaries) for k in ("num_items", "num_rows", "num_selected")}
    return Selected(**total, reasons=dict(reasons), files=[e.key for e in store.list(layout.SELECTION)])


def _read(store: Store, name: str, settings: SelectSettings) -> pa.Table:
    if settings.duplicate_cosine is None:
        return store.read_table(layout.scores_key(name), list(NEEDED_COLUMNS), verify=True)
    vectors = vector_column(store, settings.encoder, "select.encoder").name
    table = store.read_table(layout.scores_key(name), [*NEEDED_COLUMNS, vectors], verify=True)
    return table.rename_columns([EMBEDDING if name == vectors else name for name in table.column_names])


def _select_bucket(store: Store, bucket: int, table: pa.Table, settings: SelectSettings, csv: bool) -> dict[str, Any]:
    chosen = select_images(table, **settings.model_dump(exclude={"encoder"}))
    store.write_table(layout.selection_key(bucket, "parquet"), chosen)
    if csv:
        columns = {name: chosen[name].to_pylist() for name in chosen.column_names}
        header, rows = list(columns), list(zip(*columns.values(), strict=True))
        store.write_bytes(layout.selection_key(bucket, "csv"), csv_bytes(header, rows))
    kinds = Counter(reason.partition(":")[0] for reason in chosen["reason"].to_pylist())
    return {
        "num_items": len(chosen["item_id"].unique()),
        "num_rows": chosen.num_rows,
        "num_selected": sum(chosen["selected"].to_pylist()),
        "reasons": dict(kinds),
    }


def _through_ray(store: Store, config: JobConfig, done: list[str], num_buckets: int, csv: bool) -> list[dict[str, Any]]:
    root, settings, access = store.root, config.select, store.settings

    def load(batch: dict[str, Any]) -> pa.Table:
        place = open_store(root, access)
        table = pa.concat_tables([_read(place, name, settings) for name in batch["shard"]])
        hashes = pd.util.hash_array(table["item_id"].to_pandas().to_numpy(object))
        return table.append_column("bucket", pa.array((hashes % num_buckets).astype("int64")))

    def select(group: pa.Table) -> pa.Table:
        bucket = group["bucket"][0].as_py()
        summary = _select_bucket(open_store(root, access), bucket, group.drop_columns("bucket"), settings, csv)
        reasons = sorted(summary.pop("reasons").items())
        return pa.table({k: [v] for k, v in summary.items()} | {"reasons": pa.array([reasons], _REASONS)})

    with connect(config.engine):
        shards = ray.data.from_items([{"shard": name} for name in done], override_num_blocks=min(len(done), 200))
        rows = shards.map_batches(load, batch_size=None)
        results = rows.groupby("bucket", num_partitions=num_buckets).map_groups(select, batch_format="pyarrow")
        return [row | {"reasons": dict(row["reasons"])} for row in results.iter_rows()]


_REASONS = pa.map_(pa.string(), pa.int64())
