"""Scoring runs in this process: the job's own parts, one after the other. For runs of a few rows."""

import gc
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
import torch

from aistudio.config import JobConfig
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline.actors import FusedWorker, RunContext
from aistudio.pipeline.dataset import work_blocks
from aistudio.pipeline.score import Result, prepare, score
from aistudio.runs import layout
from aistudio.runs.record import new_record, open_record
from aistudio.runs.resume import store_shard
from aistudio.runs.snapshot import NormaliseGroup
from aistudio.scoring.encoders import Device, Encoders
from aistudio.scoring.image_source import ImageSource
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.store import Store


def score_here(config: JobConfig, batch_size: int = 16) -> Store:
    """Write manifest, rejects, scores and run.json of a job into its output, without Ray; returns that."""
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


class _Here:
    """Stands for the Ray Data plan of a run: its worker, in this process."""

    def __init__(self, run: RunContext, work: list[str], first: Sequence[str]) -> None:
        self._run, self._blocks = run, work_blocks(work, first)

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        worker = FusedWorker(self._run)
        try:
            for block in self._blocks:
                yield worker(pa.table({"shard": block}))
        finally:
            worker.source.close()


def finished_here(config: JobConfig) -> Result:
    """A whole run of the job, where a test is about what comes after it: its worker is no process of its own.

    Everything else is the job's: attempt, snapshot, coordinator (which needs the fixture local_ray), ledger, run.json.
    """
    threads = torch.get_num_threads()
    quiet = config.model_copy(update={"engine": config.engine.model_copy(update={"canaries": False})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "dataset", _Here)
        try:
            return score(prepare(quiet))
        finally:  # what a worker sets for its own process
            torch.set_num_threads(threads)
            gc.unfreeze()
