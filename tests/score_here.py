"""A scoring run in this process, without Ray: the job's own parts, one after the other. For runs of a few rows."""

import json
from typing import Any

from aistudio.config import JobConfig
from aistudio.pipeline.score import prepare
from aistudio.runs import layout
from aistudio.runs.record import new_record, open_record
from aistudio.runs.resume import store_shard
from aistudio.runs.snapshot import NormaliseGroup
from aistudio.scoring.encoders import Device, Encoders
from aistudio.scoring.image_source import ImageSource
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.store import Store


def score_here(config: JobConfig, batch_size: int = 16) -> Store:
    """Write manifest, rejects, scores and run.json of a job into its output; returns that."""
    prepared = prepare(config)
    config, store = prepared.config, prepared.store
    task = NormaliseGroup(config.model_dump(mode="json"), prepared.files, prepared.columns, False, 0)
    found: Any = task({"group": [0], "first": [0], "last": [len(prepared.files)]})
    encoders = Encoders(config, Device("cpu", batch_size), prepared.pinned)
    source = ImageSource(config, prepared.pinned.specs)
    try:
        for shard in json.loads(found["shards"][0]):
            rows = store.read_table(layout.manifest_key(shard[0]))
            distinct = distinct_images(rows)
            scorer = ShardScorer(encoders, config.store.embedding_dtype, batch_size)
            table, texts, _ = scorer.score(rows, distinct, source.images(distinct.requests), lambda counts: None)
            store_shard(store, shard[0], table, texts, {})
    finally:
        source.close()
    open_record(store, new_record(config, prepared.shape, prepared.models, 1), new=True)
    return store
