"""Two-stage selection over a stored run: rows of an item are brought together, then selection.py decides.

Items are spread over buckets by a hash of their id; a bucket holds whole items and fits in memory. One bucket
is done in this process; more go through Ray Data's shuffle, so nothing is gathered on the driver.
"""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from aistudio.config import JobConfig, SelectSettings
from aistudio.errors import StoreError
from aistudio.pipeline.cluster import connect
from aistudio.reports.safe import csv_bytes
from aistudio.runs import layout
from aistudio.runs.own_columns import OwnColumns, own_columns
from aistudio.runs.snapshot import load_snapshot
from aistudio.schema import EMBEDDING, Status, has_text
from aistudio.search.vectors import vector_column
from aistudio.selection import NEEDED_COLUMNS, select_images
from aistudio.store import Store, open_store
from aistudio.values import column_values

_BUCKET_ROWS = 100_000  # with 512-d embeddings about 200 MB


class Selected(NamedTuple):
    """What was written to selection/."""

    num_items: int
    num_rows: int
    num_selected: int
    reasons: dict[str, int]  # rows by reason, without its detail
    ordered_by: dict[str, int]  # ok rows by what they were put in order by: rank_score, recall_score or row_id
    num_doubtful: int  # selected images whose recall_score is 0 or less
    numbers: list[str]  # columns of the user's that are numbers although the manifest had them as text
    files: list[str]


def select_run(store: Store, config: JobConfig, *, csv: bool = False, bucket_rows: int = _BUCKET_ROWS) -> Selected:
    """Write selection/*.parquet (selection.SELECTION_SCHEMA and the user's own columns) for every item of a run.

    The CSV twin, if asked for, lies in selection_csv/, so that selection/ is one Parquet dataset.

    Raises:
        StoreError: nothing is scored there.
    """
    snapshot, done = load_snapshot(store), sorted(layout.done_shards(store))
    if snapshot is None or not done:
        raise StoreError(f"{store.root}: no stored scores there; run `aistudio score` first")
    for old in (*store.list(layout.SELECTION), *store.list(layout.SELECTION_CSV)):
        store.delete(old.key)
    own = own_columns(store)
    num_buckets = -(-snapshot.num_rows // bucket_rows)
    if num_buckets == 1:
        tables = [_read(store, name, config.select, own) for name in done]
        summaries = [_select_bucket(store, 0, pa.concat_tables(tables), config.select, own, csv)]
    else:
        summaries = _through_ray(store, config, done, num_buckets, own, csv)
    counted: dict[str, Counter[str]] = {"reasons": Counter(), "ordered_by": Counter()}
    for summary in summaries:
        for name, counter in counted.items():
            counter.update(summary[name])
    total = {k: sum(s[k] for s in summaries) for k in ("num_items", "num_rows", "num_selected", "num_doubtful")}
    files = [e.key for folder in (layout.SELECTION, layout.SELECTION_CSV) for e in store.list(folder)]
    by = {name: dict(counter.most_common()) for name, counter in counted.items()}
    found = Selected(**total, reasons=by["reasons"], ordered_by=by["ordered_by"], numbers=own.numbers, files=files)
    about = {k: v for k, v in found._asdict().items() if k != "files"} | {"settings": config.select.model_dump()}
    store.write_json(layout.SELECTION_ABOUT, about)
    return found


def _read(store: Store, name: str, settings: SelectSettings, own: OwnColumns) -> pa.Table:
    wanted = [*NEEDED_COLUMNS, "text", *own.stored]
    if settings.duplicate_cosine is not None:
        vectors = vector_column(store, settings.encoder, "select.encoder").name
        table = store.read_table(layout.scores_key(name), [*wanted, vectors], verify=True)
        table = table.rename_columns([EMBEDDING if name == vectors else name for name in table.column_names])
    else:
        table = store.read_table(layout.scores_key(name), wanted, verify=True)
    asked = has_text(table["text"])  # older runs have a score of the empty text
    recall = pc.if_else(asked, table["recall_score"], pa.scalar(None, table.schema.field("recall_score").type))
    place = table.schema.get_field_index("recall_score")
    return table.set_column(place, "recall_score", recall).drop_columns(["text"])


def _select_bucket(
    store: Store, bucket: int, table: pa.Table, settings: SelectSettings, own: OwnColumns, csv: bool
) -> dict[str, Any]:
    chosen = select_images(table, **settings.model_dump(exclude={"encoder"}))
    rows = pc.index_in(chosen["row_id"], value_set=table["row_id"].combine_chunks())
    for field, column in own.typed(table):
        chosen = chosen.append_column(field, column.take(rows))
    store.write_table(layout.selection_key(bucket, "parquet"), chosen)
    if csv:
        columns = {name: column_values(chosen[name]) for name in chosen.column_names}
        header, lines = list(columns), list(zip(*columns.values(), strict=True))
        store.write_bytes(layout.selection_key(bucket, "csv"), csv_bytes(header, lines))
    kinds = Counter(reason.partition(":")[0] for reason in chosen["reason"].to_pylist())
    doubtful = pc.and_(chosen["selected"], pc.less_equal(pc.fill_null(chosen["recall_score"], 1.0), 0.0))
    return {
        "num_items": len(chosen["item_id"].unique()),
        "num_rows": chosen.num_rows,
        "num_selected": pc.sum(chosen["selected"]).as_py() or 0,
        "num_doubtful": pc.sum(doubtful).as_py() or 0,
        "reasons": dict(kinds),
        "ordered_by": _ordered_by(table),
    }


def _ordered_by(table: pa.Table) -> dict[str, int]:
    """Ok rows by the score that put them in order; those without any go by row_id."""
    good = table.filter(pc.equal(table["status"], Status.OK.value))
    rank, recall = (pc.is_valid(good[c]).to_numpy() for c in ("rank_score", "recall_score"))
    found = {"rank_score": rank, "recall_score": ~rank & recall, "row_id": ~rank & ~recall}
    return {name: int(np.sum(mask)) for name, mask in found.items() if mask.any()}


def _through_ray(
    store: Store, config: JobConfig, done: list[str], num_buckets: int, own: OwnColumns, csv: bool
) -> list[dict[str, Any]]:
    root, settings, access = store.root, config.select, store.settings

    def load(batch: dict[str, Any]) -> pa.Table:
        place = open_store(root, access)
        table = pa.concat_tables([_read(place, name, settings, own) for name in batch["shard"]])
        hashes = pd.util.hash_array(table["item_id"].to_pandas().to_numpy(object))
        return table.append_column(_BUCKET, pa.array((hashes % num_buckets).astype("int64")))

    def select(group: pa.Table) -> pa.Table:
        bucket = group[_BUCKET][0].as_py()
        summary = _select_bucket(open_store(root, access), bucket, group.drop_columns(_BUCKET), settings, own, csv)
        counts = {k: sorted(summary.pop(k).items()) for k in _COUNTED}
        return pa.table({k: [v] for k, v in summary.items()} | {k: pa.array([v], _COUNTS) for k, v in counts.items()})

    with connect(config.engine):
        shards = ray.data.from_items([{"shard": name} for name in done], override_num_blocks=min(len(done), 200))
        rows = shards.map_batches(load, batch_size=None)
        results = rows.groupby(_BUCKET, num_partitions=num_buckets).map_groups(select, batch_format="pyarrow")
        return [row | {k: dict(row[k]) for k in _COUNTED} for row in results.iter_rows()]


_BUCKET = "_aistudio_bucket"  # no column of the user's is called so
_COUNTED = ("reasons", "ordered_by")
_COUNTS = pa.map_(pa.string(), pa.int64())
