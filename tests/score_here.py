"""Scoring runs in this process: the job's own parts, one after the other. For runs of a few rows."""

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
import torch

from aistudio.config import DownloadSettings, JobConfig
from aistudio.pipeline import actors
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline import score as score_module
from aistudio.pipeline.actors import RunContext
from aistudio.pipeline.coordinator import Bookkeeping, Coordinator
from aistudio.pipeline.dataset import work_blocks
from aistudio.pipeline.score import Result, prepare, score
from aistudio.runs import layout
from aistudio.runs.record import new_record, open_record
from aistudio.runs.resume import store_shard
from aistudio.runs.snapshot import NormaliseGroup
from aistudio.scoring.encoders import Device, Encoders
from aistudio.scoring.image_source import ImageSource
from aistudio.scoring.shard import ShardScorer, distinct_images
from aistudio.status_filter import StatusFilter
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
    """Stands for the Ray Data plan of a run: its workers, in this process, one shard after the other."""

    def __init__(self, run: RunContext, work: list[str], first: Sequence[str]) -> None:
        self._run, self._blocks = run, work_blocks(work, first) if work else []

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        if not self._blocks:
            return
        names = ("FusedWorker",) if self._run.plan.kind == "fused" else ("FetchWorker", "EncodeWorker")
        workers = [getattr(dataset_module, name)(self._run) for name in names]  # tests put theirs in their place
        try:
            for block in self._blocks:
                batch = pa.table({"shard": block})
                for worker in workers:
                    batch = worker(batch)
                yield batch
        finally:
            if (source := getattr(workers[0], "source", None)) is not None:  # none where loading was refused
                source.close()


class _CoordinatorHere:
    """Stands for the actor that keeps a run's books: calls are over when `remote` returns, one at a time."""

    def __init__(self, download: DownloadSettings) -> None:
        self._coordinator, self._lock = Coordinator(download=download), threading.Lock()

    def call(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            return getattr(self._coordinator, method)(*arguments)

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: ray.put(self.call(method, *arguments)))


@contextlib.contextmanager
def workers_here() -> Iterator[None]:
    """Within the block, workers and coordinator of runs are no processes of their own.

    Everything else is the job's: attempt, snapshot, ledger, run.json; some of it needs the fixture local_ray. For
    tests of what is scored, stored and said; how processes start, speak and die is for real ones.
    """
    threads, kill, books = torch.get_num_threads(), ray.kill, dict[str, _CoordinatorHere]()

    def start(name: str, label: str, download: DownloadSettings) -> _CoordinatorHere:
        return books.setdefault(name, _CoordinatorHere(download))

    def call(book: Bookkeeping, method: str, *arguments: Any, wait: bool = True) -> Any:
        return books[book._name].call(method, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "dataset", _Here)
        patch.setattr(score_module, "start_coordinator", start)
        patch.setattr(Bookkeeping, "_call", call)
        patch.setattr(actors, "_forget_what_stays", lambda: None)  # a worker's process alone has nothing else to keep
        patch.setattr(ray, "kill", lambda actor: None if isinstance(actor, _CoordinatorHere) else kill(actor))
        try:
            yield
        finally:
            torch.set_num_threads(threads)  # which a worker sets for its own process


@pytest.fixture
def in_process(local_ray: str) -> Iterator[None]:
    """The whole test in `workers_here`."""
    with workers_here():
        yield


def finished_here(config: JobConfig, retry: tuple[StatusFilter, ...] | None = None) -> Result:
    """A whole run of the job in `workers_here`, without canaries. `retry`: as for `score`."""
    quiet = config.model_copy(update={"engine": config.engine.model_copy(update={"canaries": False})})
    with workers_here():
        return score(prepare(quiet), retry=retry)
