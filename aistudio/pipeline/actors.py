"""What runs inside Ray's workers: one shard in, one committed score file and one summary row out.

`FusedWorker` does it all in one actor. `FetchWorker` and `EncodeWorker` are the two halves of the staged
plan; between them travels one row per shard whose pixels are one uint8 tensor column.
"""

import gc
import os
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import ray

from aistudio.config import JobConfig, Trust
from aistudio.errors import AIStudioError
from aistudio.images.host_limits import Allotment, Report
from aistudio.images.opencv import opencv
from aistudio.imports import uncollected
from aistudio.pipeline.coordinator import Bookkeeping, Start
from aistudio.pipeline.plan import Plan
from aistudio.pipeline.reference import reference_folder
from aistudio.pipeline.stopping import end_with_the_raylet
from aistudio.runs import layout
from aistudio.runs.attempts import refuse_if_fenced
from aistudio.runs.resume import is_done, store_shard
from aistudio.runs.reuse import role_column
from aistudio.schema import Reused
from aistudio.scoring.base_rows import NOTHING_KNOWN, BaseRows, Delta, Known
from aistudio.scoring.canaries import Canaries, WrongNumbersError
from aistudio.scoring.careful import Care
from aistudio.scoring.cropping import load_detectors
from aistudio.scoring.encoders import Device, Encoders
from aistudio.scoring.frequent_images import FrequentImages
from aistudio.scoring.image_columns import NO_IMAGES, ImageColumns
from aistudio.scoring.image_source import ImageRow, ImageSource
from aistudio.scoring.isolate import DeviceLostError, is_lost, raise_if_stopped
from aistudio.scoring.packing import pack_images, unpack_images, unpack_taken, with_taken
from aistudio.scoring.pinned_models import PinnedModels
from aistudio.scoring.shard import Counts, Distinct, ShardScorer, distinct_images
from aistudio.status_filter import StatusFilter, failed_rows
from aistudio.store import open_store

_T = TypeVar("_T")


class RunContext(NamedTuple):
    """What every worker of a run knows; small and picklable."""

    config: dict[str, Any]  # JobConfig as plain data
    plan: Plan
    coordinator: str
    attempt: int
    fingerprint: str  # of everything that shapes the scores; written into each score file
    retry: tuple[StatusFilter, ...] | None  # None: score; else failed rows of these statuses again (() = all)
    models: PinnedModels
    delta: Delta | None = None  # what may be taken over from a base run
    delta_columns: bool = True  # score files have schema.DELTA_FIELDS
    frequent: tuple[str, ...] = ()  # shards whose pictures others take over: done, or scored before them


class _Work(NamedTuple):
    name: str
    rows: pa.Table
    distinct: Distinct
    known: Known  # of the base run
    previous: pa.Table | None  # stored scores, when only failed rows are scored again
    chosen: np.ndarray | None  # their row numbers
    taken: ImageColumns = NO_IMAGES  # of `known`, for which nobody is asked


class _Worker:
    """What both kinds of model actor share: finding the work, committing the result, telling the coordinator."""

    def __init__(self, run: RunContext) -> None:
        end_with_the_raylet()
        self.run = run
        self.config = JobConfig.model_validate(run.config)
        self.store = open_store(self.config.output, self.config.store)
        self.coordinator = Bookkeeping(run.coordinator)
        self.process = uuid.uuid4().hex
        self.refusal: AIStudioError | None = None
        self._canaries: Canaries | None = None
        self._first_check = threading.Lock()
        self._checked = False
        self._base = BaseRows(self.store, run.delta, self._tell_of_base) if run.delta else None
        self.trust: Trust = run.delta.trust if run.delta else "content"
        again = None if run.retry is None else run.attempt
        self._frequent = FrequentImages(self.store, run.frequent, again) if run.frequent else None
        self._columns = tuple(role_column(role) for role in run.models.by_role)

    def load(self) -> None:
        """The models. What they refuse is raised by the first `begin`: Ray makes mere text of a constructor's error."""
        _limit_threads(self.run.plan.torch_threads)
        try:
            plan = self.run.plan
            device = Device(plan.device, plan.batch_size, plan.gpu_share)
            self.encoders = Encoders(self.config, device, self.run.models)
        except AIStudioError as e:
            self.refusal = e
            return
        if self.config.engine.canaries:
            self._canaries = Canaries(self.coordinator.right, self.run.models.specs, self.config.engine.precision)
        self.coordinator.note(self.encoders.facts())
        _forget_what_stays()

    def load_detectors(self) -> None:
        """Load the detectors that crop pictures for the models; refuses as `load` does."""
        try:
            self.detectors = load_detectors((m.config for m in self.run.models.by_role.values()), self.config)
        except AIStudioError as e:
            self.refusal = self.refusal or e

    def exchange(self, reports: Mapping[str, Report]) -> Mapping[str, Allotment]:
        """Tell the run's coordinator what the image hosts answered, take what this worker may ask of them."""
        return self.coordinator.hosts(self.process, reports)

    def note_cache(self, source: ImageSource) -> None:
        """Tell the coordinator why the byte cache could not be used, where it could not."""
        if source.cache_problem is not None:
            self.coordinator.note({"byte_cache": source.cache_problem})

    def begin(self, name: str, stage: str) -> tuple[Start, Care]:
        """Take up a stage of a shard. Raises FencedError when a newer attempt owns the run, or what loading refused."""
        if self.refusal is not None:
            raise self.refusal
        refuse_if_fenced(self.store, self.run.attempt)
        start = self.coordinator.begin(name, stage, self.process)
        return start, Care(start.poison, lambda i: self.coordinator.in_hand(name, stage, i))

    def work(self, name: str) -> _Work:
        rows = self.store.read_table(layout.manifest_key(name))
        if self.run.retry is None:
            distinct = distinct_images(rows)
            known = self._base.of_shard(name, rows, distinct.of_row) if self._base else NOTHING_KNOWN
            return _Work(name, rows, distinct, self._as_taken(known), None, None)
        previous = self.store.read_table(layout.scores_key(name))
        chosen = failed_rows(previous, self.run.retry)
        rows = rows.take(pa.array(chosen))
        return _Work(name, rows, distinct_images(rows), self._as_taken(NOTHING_KNOWN), previous, chosen)

    def _as_taken(self, known: Known) -> Known:
        """What the base knows, with the columns of the vectors that other shards give."""
        return known if self._frequent is None else known._replace(columns=self._columns)

    def given(self, work: _Work) -> dict[int, ImageRow]:
        """Return the images of a shard that another one has: of frequent addresses."""
        return {} if self._frequent is None else self._frequent.of(work.name, work.distinct.requests)

    def taken(self, work: _Work, given: Mapping[int, ImageRow]) -> ImageColumns:
        """Return the images of a shard that are the base's without anybody being asked."""
        return work.known.images.without(given).taken_by(Reused.URL) if self.trust == "url" else NO_IMAGES

    def _leave(self, work: _Work, images: Iterable[ImageRow]) -> None:
        """Store what came of a shard's images, if others take it over. No score follows from rounded vectors."""
        if self._frequent is not None:
            exact = self.run.delta is None or self.run.delta.reuse.exact
            kept = [image for image in images if exact or image.reused == Reused.NO]
            self._frequent.leave(work.name, work.distinct.requests, kept)

    def _tell_of_base(self, problem: str) -> None:
        self.coordinator.note({"base": problem})

    def stored_already(self, name: str) -> pa.Table | None:
        """Summary of a shard whose file an earlier try stored before its worker could report it."""
        if self.run.retry is not None or not is_done(self.store, name):
            return None
        if not self.store.exists(layout.texts_key(name)):  # lost since: the images need not be fetched for it
            self.begin(name, "texts")
            rows, scorer = self.store.read_table(layout.manifest_key(name)), self.scorer(1)
            texts = self._believed(lambda: scorer.text_table(rows))
            self.check_numbers(scorer)
            self.store.write_table(layout.texts_key(name), texts)
        status = self.store.read_table(layout.scores_key(name), ["status"])["status"]
        return self._report(name, defaultdict(float, Counter(status.to_pylist())))

    def scorer(self, batch_size: int) -> ShardScorer:
        """Return a scorer for one shard."""
        canary = self._canaries.next() if self._canaries else None
        dtype = self.config.store.embedding_dtype
        return ShardScorer(self.encoders, dtype, batch_size, canary, delta=self.run.delta_columns)

    def check_numbers(self, scorer: ShardScorer) -> None:
        """Before the first commit of numbers that a model gave: judge the fixed inputs, in the run's own batches.

        Waits for what plain float32 gives, which may take a large model a while. Does not return when it is wrong.
        Not on a CPU: there a vector's bits do not depend on its batch, and the shard's own canary has been judged.

        Args:
            scorer: of the shard; where it asked no model, nothing is judged yet.

        Raises:
            AIStudioError: too many workers' numbers were wrong.
        """
        if self._canaries is None or not scorer.asked or self.run.plan.device == "cpu":
            return
        with self._first_check:
            canaries, checked, self._checked = self._canaries, self._checked, True
            if checked:
                return
            rank, recall = self.encoders.towers.rank, self.encoders.recall is not None
            size = self.encoders.batch_size
            self._believed(lambda: self._attempt(lambda: canaries.check(self.encoders, rank, size, recall=recall)))

    def _believed(self, work: Callable[[], _T]) -> _T:
        """Do what finds out whether the numbers are right; end the process if not. Raises as `give_up`."""
        try:
            return work()
        except WrongNumbersError as e:
            self.give_up(e)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do what may fail without harm, such as a batch that is too large; the shard's own canary decides."""
        try:
            work()
        except WrongNumbersError:
            raise
        except BaseException as e:  # noqa: BLE001 - see above
            raise_if_stopped(e)
            if is_lost(e):
                os._exit(1)

    def give_up(self, error: WrongNumbersError) -> NoReturn:
        """End this process, so that Ray starts another one for its shards.

        Raises:
            AIStudioError: too many have ended so.
        """
        node, most = ray.util.get_node_ip_address(), self.config.engine.max_wrong_workers
        if self.coordinator.wrong(self.process, node, str(error)) <= most:
            os._exit(1)
        self.refusal = AIStudioError(
            f"more than {most} workers (engine.max_wrong_workers) gave wrong numbers, the last on node {node}: "
            f"{error}. What is stored was checked. Take the node out of the cluster, or look at its memory and GPU; if "
            f"all nodes are said to be wrong, the reference may be: delete {reference_folder(self.config)}"
        )
        raise self.refusal

    def finish(self, work: _Work, scorer: ShardScorer, images: Iterable[ImageRow]) -> pa.Table:
        """Score, commit, report."""
        if work.previous is not None and not work.rows.num_rows:
            self._leave(work, ())
            return self._report(work.name, defaultdict(float))  # no row to score again: the file stays as it is
        try:
            report = lambda c: self.coordinator.progress(work.name, c)  # noqa: E731
            table, texts, counts = self._believed(
                lambda: scorer.score(work.rows, work.distinct, images, report, work.known, work.taken)
            )
        except DeviceLostError:
            os._exit(1)  # Ray starts a new process, and careful mode finds the image if it was one
        self.check_numbers(scorer)
        if self.refusal is not None:  # another thread of this process found its numbers wrong meanwhile
            raise self.refusal
        started = time.perf_counter()
        refuse_if_fenced(self.store, self.run.attempt)
        self._leave(work, scorer.outcomes(self._columns) if work.name in self.run.frequent else ())
        if work.previous is not None and work.chosen is not None:
            table = _merge(work.previous, table, work.chosen)
            self.store.write_table(layout.scores_key(work.name), table, self._metadata(work))
        else:
            store_shard(self.store, work.name, table, texts, self._metadata(work))
        counts["write_s"] += time.perf_counter() - started
        return self._report(work.name, counts)

    def _report(self, name: str, counts: Counts) -> pa.Table:
        self.coordinator.done(name, dict(counts))
        return _summary(name, counts)

    def _metadata(self, work: _Work) -> dict[str, str]:
        return {
            "aistudio.shard": work.name,
            "aistudio.attempt": str(self.run.attempt),
            "aistudio.fingerprint": self.run.fingerprint,
        }


class FusedWorker(_Worker):
    """Download, decode, encode and store in one actor; several shards at once hide slow downloads."""

    def __init__(self, run: RunContext) -> None:
        super().__init__(run)
        self.load()
        self.load_detectors()
        if self.refusal is not None:
            return
        core_lock = self.encoders.core_lock if run.plan.torch_threads == 1 else None
        self.source = ImageSource(
            self.config,
            run.models.specs,
            core_lock,
            self.encoders.batch_size,
            self.detectors,
            self.exchange,
            anew=run.retry is not None,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        found = pa.concat_tables([self.shard(name) for name in batch["shard"].to_pylist()])
        self.note_cache(self.source)
        return found

    def shard(self, name: str) -> pa.Table:
        if (stored := self.stored_already(name)) is not None:
            return stored
        (start, care), work = self.begin(name, "score"), self.work(name)
        requests, base, given = work.distinct.requests, work.known.images, self.given(work)
        work = work._replace(taken=self.taken(work, given))
        if not start.careful:
            images = self.source.images(requests, base, self.trust, given)
            return self.finish(work, self.scorer(self.encoders.batch_size), images)
        images = self.source.images_one_by_one(requests, care.poison, care.row, base, self.trust, given)
        return self.finish(work, self.scorer(1), images)


class FetchWorker(_Worker):
    """Staged plan, CPU half: a shard's name in, its decoded images out (one row per shard)."""

    def __init__(self, run: RunContext) -> None:
        super().__init__(run)
        self.load_detectors()
        if self.refusal is None:
            self.source = ImageSource(
                self.config, run.models.specs, detectors=self.detectors, exchange=self.exchange,
                anew=run.retry is not None,
            )  # fmt: skip

    def __call__(self, batch: pa.Table) -> pa.Table:
        found = pa.concat_tables([self.fetch(name) for name in batch["shard"].to_pylist()])
        self.note_cache(self.source)
        return found

    def fetch(self, name: str) -> pa.Table:
        if self.run.retry is None and is_done(self.store, name):
            return pack_images(name, ())  # stored already: the model's actor sees to the rest
        (start, care), work = self.begin(name, "fetch"), self.work(name)
        requests, base, given = work.distinct.requests, work.known.images, self.given(work)
        if start.careful:
            images = self.source.images_one_by_one(requests, care.poison, care.row, base, self.trust, given)
        else:
            images = self.source.images(requests, base, self.trust, given)
        packed = with_taken(pack_images(name, images), self.taken(work, given))
        self.coordinator.end(name, "fetch")
        return packed


class EncodeWorker(_Worker):
    """Staged plan, GPU half: a shard's decoded images in, its committed score file and summary out."""

    def __init__(self, run: RunContext) -> None:
        super().__init__(run)
        self.load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.concat_tables([self.shard(batch.slice(i, 1)) for i in range(batch.num_rows)])

    def shard(self, packed: pa.Table) -> pa.Table:
        name, images = unpack_images(packed)
        if (stored := self.stored_already(name)) is not None:
            return stored
        (start, care), work = self.begin(name, "encode"), self.work(name)._replace(taken=unpack_taken(packed))
        if start.careful:
            return self.finish(work, self.scorer(1), care.over(images))
        return self.finish(work, self.scorer(self.encoders.batch_size), images)


def _limit_threads(num_threads: int) -> None:
    new = "torch" not in sys.modules
    with uncollected():
        import torch

    if new:
        gc.freeze()  # libraries stay, and a process that has begun has no garbage yet
    torch.set_num_threads(num_threads)
    opencv()  # where there is one, it gets one thread


def _forget_what_stays() -> None:
    """Models and libraries are some hundred thousand objects that the garbage collector need not look at again."""
    gc.collect()
    gc.freeze()


def _merge(previous: pa.Table, table: pa.Table, chosen: np.ndarray) -> pa.Table:
    """`previous` with the rows at `chosen` replaced by `table`'s, order kept."""
    take = np.arange(previous.num_rows)
    take[chosen] = previous.num_rows + np.arange(len(chosen))
    table = table.select(previous.column_names).cast(previous.schema.remove_metadata())  # which may be an older one
    both = pa.concat_tables([previous, table])
    return both.take(pa.array(take))


def _summary(name: str, counts: Counts) -> pa.Table:
    return pa.table({"shard": [name], "counts": [sorted((k, float(v)) for k, v in counts.items())]}, schema=_SUMMARY)


_SUMMARY = pa.schema([("shard", pa.string()), ("counts", pa.map_(pa.string(), pa.float64()))])
