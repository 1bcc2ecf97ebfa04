"""The scoring run: checks, snapshot, work list, workers, ledger, run.json.

`prepare` finds every mistake that can be found before a GPU is spent; `score` does the work. Scores are
committed shard by shard by the workers (workers.py); the driver only lists, counts and reports, so its
memory does not grow with the manifest.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from aistudio.catalogue import Columns
from aistudio.config import JobConfig, WeightsFile
from aistudio.errors import AIStudioError, FailingRowsError, ManifestError, OutputError, StoreError
from aistudio.images.crop import refuse_croppers
from aistudio.pipeline import early_ray
from aistudio.pipeline.actors import RunContext
from aistudio.pipeline.cluster import check_engine, connect, lacking_package, our_error, wait_for_room
from aistudio.pipeline.coordinator import start_coordinator
from aistudio.pipeline.dataset import scored_shards
from aistudio.pipeline.deaths import watch_workers
from aistudio.pipeline.delta import Base, discard_join, find_base, join_base, open_base
from aistudio.pipeline.first_look import text_facts
from aistudio.pipeline.networks import check_network
from aistudio.pipeline.plan import make_plan, warn_of_memory
from aistudio.pipeline.progress import Progress, rows_done, say
from aistudio.pipeline.reference import ask_for_reference
from aistudio.pipeline.run_folder import clean_up, empty, new_snapshot
from aistudio.pipeline.snapshot import discard_order
from aistudio.pipeline.start_up import announce
from aistudio.pipeline.stopping import stop_signals
from aistudio.pipeline.telemetry import log_event
from aistudio.places import in_bucket
from aistudio.run_record import Kind, ModelFacts, PlanFacts, RunRecord
from aistudio.runs import attempts, layout
from aistudio.runs import record as run_record
from aistudio.runs.earlier_identity import identity_in_run
from aistudio.runs.failing import FailureWatch, drawn_first
from aistudio.runs.ledger import Ledger, check_run
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.repair import refuse_other_scores
from aistudio.runs.resume import (
    RowsToDo,
    frequent_shards,
    has_delta_columns,
    refuse_unfinished,
    rows_to_do,
    work_list,
)
from aistudio.runs.shape import fingerprint, run_shape, shaping
from aistudio.runs.snapshot import find_manifest, load_snapshot
from aistudio.runs.sources import sources
from aistudio.scoring.pinned_models import PinnedModels, files_to_fetch, pin_models
from aistudio.secrets import redacted
from aistudio.status_filter import StatusFilter
from aistudio.storable import storable_text
from aistudio.store import Store, open_store
from aistudio.timings import Measured, Pace, add_work, carried_over, measured


class Prepared(NamedTuple):
    """A checked configuration: everything found that can be found without starting the work."""

    config: JobConfig
    store: Store
    files: list[InputFile]
    columns: Columns | None  # None: the snapshot stands in for a manifest that is gone
    pinned: PinnedModels
    models: dict[str, ModelFacts]
    shape: dict[str, Any]
    record: RunRecord | None  # of an earlier attempt
    record_damaged: bool = False  # there is a run.json that cannot be read
    to_fetch: Sequence[WeightsFile] = ()  # not here yet: pinned, models and shape are empty then
    base: Base | None = None  # the run that results are taken from


class Result(NamedTuple):
    """How a scoring run ended."""

    ledger: Ledger
    record: RunRecord
    did_nothing: bool  # the run was finished already
    config: JobConfig | None = None  # that it was called with


def prepare(config: JobConfig, *, fetch: bool = True, start: bool = False) -> Prepared:
    """Check output, manifest and weights, in this order: what costs nothing first.

    Args:
        fetch: whether weights that are not here may be fetched. If not, the models of such a job stay unchecked.
        start: begin to start a local Ray before the weights are looked at, for `score` to take over; the caller
            wraps both into early_ray.abandoned_on_error.

    Raises:
        ConfigError, ManifestError, WeightsError, OutputError, RunMismatchError: what a user must change.
    """
    check_engine(config.engine)
    config = _absolute(config)
    store = open_store(config.output, config.store)
    new_folder = store.is_local and not Path(config.output).exists()
    try:
        store.check_writable()
    except StoreError as e:
        raise OutputError(f"output: cannot be written: {e}") from None
    finally:
        if new_folder:
            with suppress(OSError):  # it holds something
                Path(config.output).rmdir()  # a run that is refused, or only planned, leaves no empty folder
    record, damaged = _earlier(store)
    files, columns, identity = _manifest(config, store, record)
    earlier = open_base(config, resumed=record is not None and not config.start_over)
    if not fetch and (missing := files_to_fetch(config)):
        return Prepared(config, store, files, columns, PinnedModels(), {}, {}, record, damaged, missing)
    if start and (record is None or config.start_over or record.state != "complete"):
        early_ray.begin(config.engine)
        announce("checking the weights, starting Ray")
    pinned = pin_models(config)
    refuse_croppers(pinned.specs)
    models = pinned.facts()
    shape = run_shape(config, identity, models, pinned.poi_table.sha256 if pinned.poi_table else None)
    if record is None and not config.start_over:
        refuse_other_scores(store, fingerprint(shape))
    elif record is not None and not config.start_over and (load_snapshot(store) or layout.score_keys(store)):
        run_record.refuse_other_run(record, shape, config.output)
    base = find_base(earlier, config, shape, models) if earlier else None
    return Prepared(config, store, files, columns, pinned, models, shape, record, damaged, base=base)


def _earlier(store: Store) -> tuple[RunRecord | None, bool]:
    """Read run.json of an earlier attempt; say whether there is one that cannot be read: it is made again then."""
    try:
        return run_record.load_run(store), False
    except StoreError as e:
        if not store.exists(layout.RUN):
            raise
        say(f"{e}: it is made again")
        return None, True


def score(prepared: Prepared, *, retry: tuple[StatusFilter, ...] | None = None, repair: bool = False) -> Result:
    """Run to the end, or resume.

    Args:
        retry: score failed rows of a finished run again (() = all of them).
        repair: read every stored file first, and make again what is damaged; otherwise a finished run is left alone
            when its listing and its rows add up.

    Raises:
        AIStudioError: the run failed part-way; what is stored is intact and the same call resumes.
    """
    config, store = prepared.config, prepared.store
    if retry is not None:
        refuse_unfinished(store, load_snapshot(store))
    elif not config.start_over and not repair and (finished := _finished(prepared)):
        return finished
    announce("waiting for Ray")
    with stop_signals() as arm, connect(config.engine) as resources:
        arm()
        plan = make_plan(config.engine, resources, prepared.pinned.num_bytes)
        warn_of_memory(plan, resources, prepared.pinned.num_bytes)
        wait_for_room(plan.bundles(), config.engine, resources)
        attempt = attempts.claim_attempt(store)
        if config.start_over:
            empty(store)
        kind: Kind = "score" if retry is None else "retry"
        record = run_record.new_record(config, prepared.shape, prepared.models, attempt)
        record = carried_over(record, None if config.start_over else prepared.record, kind)
        record = record.model_copy(update={"plan": PlanFacts(**plan._asdict())})
        run_record.open_record(store, record, new=prepared.record is None and not prepared.record_damaged)
        try:
            clean_up(prepared, repair)
            announce("reading the manifest")
            snapshot = load_snapshot(store) or new_snapshot(prepared, attempt, plan.num_actors, repair)
            delta = None
            if prepared.base is not None and retry is None:
                announce("joining the manifest with the base run")
                delta, facts = join_base(
                    prepared.base, config, prepared.pinned, store, snapshot, attempt, resources.cpus
                )
                record = record.model_copy(update={"delta": facts})
            if snapshot.duplicates is not None:
                record = record.model_copy(update={"duplicates": snapshot.duplicates})
            announce("loading the models")
            work = work_list(store, snapshot, retry)
            run = RunContext(config.model_dump(mode="json"), plan, f"run-{uuid.uuid4().hex}",
                             attempt, record.fingerprint, retry, prepared.pinned, delta,
                             has_delta_columns(store, snapshot),
                             frequent_shards(store, snapshot, work, retry=retry is not None))  # fmt: skip
            texts = text_facts(store, snapshot, prepared.pinned.recall, config)
            record = record.model_copy(update={"texts": texts})
            record = add_work(record, kind, _run(run, work, rows_to_do(prepared.record, snapshot, work, retry)))
            attempts.refuse_if_fenced(store, attempt)
        except (RayError, AIStudioError) as e:
            _record_failure(store, record, e)
            raise (
                our_error(e) or lacking_package(e, config.engine) or AIStudioError(f"the run failed part-way: {e}")
            ) from e
        except KeyboardInterrupt:
            _record_failure(store, record, None)
            raise
    ledger, record = _close(store, record, config)
    if ledger.complete:
        discard_join(store)
        discard_order(store)
    return Result(ledger, record, False, config)


def _manifest(
    config: JobConfig, store: Store, record: RunRecord | None
) -> tuple[list[InputFile], Columns | None, dict[str, Any]]:
    """Return files, columns and identity of the manifest; a finished snapshot stands in for one that is gone."""
    try:
        files, columns = find_manifest(config)
    except ManifestError:
        snapshot = load_snapshot(store)
        known = snapshot.identity if snapshot else record.manifest_identity if record else {}
        settings = redacted(shaping(config.manifest))
        if not known or config.start_over or not settings.items() <= redacted(known).items():
            raise
        return [], None, known
    check_network(config, files, columns)
    return files, columns, identity_in_run(config, files, record)


def _absolute(config: JobConfig) -> JobConfig:
    """A local output and base as absolute paths: workers may run elsewhere."""
    places = {name: getattr(config, name) for name in ("output", "base")}
    local = {name: str(Path(p).absolute()) for name, p in places.items() if p is not None and not in_bucket(p)}
    return config.model_copy(update=local)


def _finished(prepared: Prepared) -> Result | None:
    record = prepared.record
    if record is None or record.state != "complete" or load_snapshot(prepared.store) is None:
        return None
    ledger = check_run(prepared.store)
    return Result(ledger, record, True, prepared.config) if ledger.complete else None


def _run(run: RunContext, work: list[str], todo: RowsToDo) -> Measured:
    """Score the listed shards.

    Raises:
        FailingRowsError: judged by the shards scored first, more rows will fail than engine.max_failed_share allows.
    """
    config = JobConfig.model_validate(run.config)
    coordinator = start_coordinator(run.coordinator, run.config["output"], config.download)
    if config.engine.canaries and work:
        coordinator.hold.remote([ask_for_reference(config, run.models)])
    log_event("started", output=run.config["output"], attempt=run.attempt, shards=len(work), plan=run.plan._asdict())
    first = [] if run.retry is not None else drawn_first(work, run.fingerprint)
    watch = FailureWatch(run.config["engine"]["max_failed_share"], first)
    counts: Counter[str] = Counter()
    started = time.monotonic()
    poll: Callable[[], dict[str, float]] = lambda: ray.get(coordinator.snapshot.remote(), timeout=10)  # noqa: E731
    held_up: Callable[[], str] = lambda: str(ray.get(coordinator.slowest_host.remote(), timeout=10))  # noqa: E731
    workers = watch_workers(coordinator, run.plan, run.models.num_bytes, config.engine)
    rows = todo.already + todo.pending
    with Progress(poll, rows, todo.already, held_up=held_up) as progress, workers:
        for shard, row in scored_shards(run, work, first):
            counts.update(row)
            log_event("shard", shard=shard, **row)
            if watch.add(shard, row):
                ray.kill(coordinator)
                raise FailingRowsError(watch.message(len(work)))
    wall_s = time.monotonic() - started
    facts, pace = dict[str, str](), Pace()
    with suppress(Exception):  # bookkeeping: what it knew is lost, no row is
        facts, pace = ray.get([coordinator.facts.remote(), coordinator.pace.remote()], timeout=10)
        ray.kill(coordinator)
    seconds = {k: round(v, 2) for k, v in counts.items() if k.endswith("_s")}
    cached = {k: int(n) for k, n in counts.items() if k.startswith("cache_")}
    spent = {"num_bytes": int(counts["bytes"]), **cached, **seconds}
    return Measured(facts, measured(wall_s, pace, rows_done(counts)).model_copy(update=spent), progress.timeline)


def _close(store: Store, record: RunRecord, config: JobConfig) -> tuple[Ledger, RunRecord]:
    """Count what is stored, write the final run.json."""
    ledger = check_run(store, fingerprint=record.fingerprint)
    record = run_record.finished(record, ledger, sources(store, config.download))
    run_record.write_run(store, record)
    log_event(record.state, rows=record.rows.as_json(), counts=record.counts, **record.timings.as_json())
    return ledger, record


def _record_failure(store: Store, record: RunRecord, e: BaseException | None) -> None:
    error = None if e is None else storable_text(str(our_error(e) or e))
    record = run_record.failed(record, error)
    log_event(record.state, error=record.error)
    with suppress(Exception):  # a full disk, or whatever else, must not hide the first error
        if attempts.latest_attempt(store) == record.attempt:
            run_record.write_run(store, record)
