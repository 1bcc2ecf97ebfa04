"""A whole run over an odd table in one process, without Ray: manifest, score, retry, verify, aggregate, report, ..."""

import io
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aistudio.catalogue import inspect_manifest, read_manifest
from aistudio.catalogue.columns import resolve
from aistudio.catalogue.kept import stored_type
from aistudio.catalogue.record_batches import _Records
from aistudio.catalogue.table import Batch
from aistudio.config import JobConfig, MetricsSettings, ReportSettings, parse_config
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.compare import compare
from aistudio.pipeline.actors import _merge
from aistudio.pipeline.report import write_report
from aistudio.pipeline.select import select_run
from aistudio.runs import layout
from aistudio.runs.ledger import check_run
from aistudio.runs.record import new_record, write_run
from aistudio.runs.resume import store_shard
from aistudio.runs.shard_writer import ShardWriter
from aistudio.runs.snapshot import Snapshot, without_passwords
from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.status_filter import failed_rows
from aistudio.store import Store, open_store
from tests.odd_tables import KINDS, NAMES, odd_array
from tests.scoring.test_shard import FakeEncoders

FAST = {"bootstrap_samples": 5, "min_slice_size": 1, "k": [1]}


class Counts(NamedTuple):
    """Rows of a table and where they went."""

    rows: int
    stored: int
    rejected: int


def odd_table(rng: random.Random, first: str) -> pa.Table:
    """A manifest with a column of kind `first` and up to two others; now and then the text is odd, too."""
    num = rng.randint(3, 12)
    kinds = [first, *(rng.choice(KINDS) for _ in range(rng.randint(0, 2)))]
    columns = {"item_id": pa.array([f"i{n // 3}" for n in range(num)])}
    columns["image_url"] = pa.array([f"u{n}" for n in range(num)])
    columns["text"] = pa.array([f"t{n // 3}" for n in range(num)])
    if rng.random() < 0.1:
        columns["text"] = odd_array(rng, rng.choice(KINDS[:60]), num, 1)
    for kind, name in zip(kinds, rng.sample(NAMES, len(kinds)), strict=True):
        columns[name] = odd_array(rng, kind, num)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def config_of(folder: Path) -> JobConfig:
    return parse_config(
        {"manifest": {"path": "m.parquet", "format": "parquet"}, "output": str(folder), "models": {"recall": "-"}},
        "test",
    )


def batches_of(rng: random.Random, table: pa.Table, config: JobConfig) -> tuple[list[Batch], list[str]]:
    """What the reader of Parquet manifests makes of the table; of types that no file can hold, its inner part."""
    file = io.BytesIO()
    try:
        pq.write_table(table, file, store_schema=rng.random() < 0.8)
    except (pa.ArrowException, OSError):
        types = {f.name: stored_type(f.type) for f in table.schema}
        columns = resolve(table.column_names, types, config.manifest, "m")
        batch = table.combine_chunks().to_batches()[0]
        return [_Records(batch, columns, "m", None).batch(1, "")], [f.name for f in columns.passthrough_fields]
    file.seek(0)
    columns = inspect_manifest(file, "m.parquet", config.manifest)
    file.seek(0)
    return list(read_manifest(file, "m.parquet", config.manifest, columns)), [
        f.name for f in columns.passthrough_fields
    ]


def run_all(rng: random.Random, table: pa.Table, folder: Path) -> Counts:
    """Everything that a user does with a run; raises what any of it raises."""
    config, store = config_of(folder), open_store(str(folder))
    batches, kept = batches_of(rng, table, config)
    writer = ShardWriter(store, "00000", 4, 0)
    for batch in batches:
        writer.reject(without_passwords(batch.rejected))
        writer.add(without_passwords(batch.candidates))
    writer.finish()
    rejected = sum(writer.reasons.values())
    snapshot = Snapshot(
        shards=writer.shards, passthrough=writer.passthrough, num_rejected=rejected, rejected_reasons={}, identity={}
    )
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    record = new_record(config, {"models": {}}, {}, 1).model_copy(update={"state": "complete"})
    write_run(store, record)
    for shard in writer.shards:
        score_and_retry(rng, store, config, shard.name, record.fingerprint)
    ledger = check_run(store, deep=True, fingerprint=record.fingerprint)
    assert ledger.complete, ledger.problems
    if ledger.num_stored:
        settings = MetricsSettings(slices=kept, query=rng.choice(["text", "image"]), **FAST)
        aggregate(store, settings)
        select_run(store, config, csv=True)
        compare(store, store, settings) if _comparable(store) else None
        write_report(store, ReportSettings(max_queries=4, map_images=10))
    return Counts(table.num_rows, ledger.num_stored, rejected)


def _comparable(store: Store) -> bool:
    relevant = store.read_table(layout.metrics_key("per_query.parquet"))["num_relevant"].to_numpy()
    return bool((np.asarray(relevant) > 0).any())


def score_and_retry(rng: random.Random, store: Store, config: JobConfig, name: str, fingerprint: str) -> None:
    rows = store.read_table(layout.manifest_key(name))
    metadata = {"aistudio.shard": name, "aistudio.fingerprint": fingerprint}
    table, texts = _score(rng, config, rows, 0.3)
    store_shard(store, name, table, texts, metadata)
    previous = store.read_table(layout.scores_key(name))
    chosen = failed_rows(previous, ())
    if len(chosen):
        again, _ = _score(rng, config, rows.take(pa.array(chosen)), 0.5)
        store.write_table(layout.scores_key(name), _merge(previous, again, chosen), metadata)


def _score(rng: random.Random, config: JobConfig, rows: pa.Table, failing: float) -> tuple[pa.Table, pa.Table]:
    distinct = distinct_images(rows)
    images = [_image(i, rng.random() < failing) for i in range(len(distinct.requests))]
    return ShardScorer(FakeEncoders(), config.store.embedding_dtype, 4).score(
        rows, distinct, images, lambda counts: None
    )[:2]


def _image(number: int, failed: bool) -> ImageRow:
    if failed:
        return ImageRow(number, Status.TIMEOUT, "slow \udce1")
    return ImageRow(number, Status.OK, pixels=(np.full((2, 2, 3), number + 1, np.uint8),), thumbnail=b"t")
