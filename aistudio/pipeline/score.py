"""The scoring run: checks, snapshot, work list, workers, ledger, run.json.

`prepare` finds every mistake that can be found before a GPU is spent; `score` does the work. Scores are
committed shard by shard by the workers (workers.py); the driver only lists, counts and reports, so its
memory does not grow with the manifest.
"""

import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from aistudio.config import JobConfig
from aistudio.errors import AIStudioError, ManifestError, OutputError, RunMismatchError, StoreError
from aistudio.pipeline.actors import EncodeWorker, FetchWorker, FusedWorker, RunContext
from aistudio.pipeline.cluster import connect, our_error, wait_for_room
from aistudio.pipeline.coordinator import start_coordinator
from aistudio.pipeline.plan import make_plan
from aistudio.pipeline.progress import Progress
from aistudio.pipeline.snapshot import make_snapshot
from aistudio.pipeline.stopping import stop_signals
from aistudio.pipeline.telemetry import log_event
from aistudio.runs import attempts, layout
from aistudio.runs import record as run_record
from aistudio.runs.earlier_identity import identity_in_run
from aistudio.runs.ledger import Ledger, check_run
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.snapshot import Snapshot, find_manifest, load_snapshot, manifest_settings
from aistudio.scoring.pinned_models import PinnedModels, pin_models
from aistudio.store import Store, open_store

# Deaths of workers that one shard may see before the run gives up. A poisonous row costs three, seen by each of the
# shards that its process had in work, so this is room for dozens of them at once; a worker that dies of itself ends it.
_TASK_RETRIES = 100

# A block costs the driver 42 to 50 kB (benchmarks/resume_memory.py), so 250 MB at most: a huge run hands out several
# shards as one block. Commit and resume stay per shard.
_MAX_BLOCKS = 5_000


class Prepared(NamedTuple):
    """A checked configuration: everything found that can be found without starting the work."""

    config: JobConfig
    store: Store
    files: list[InputFile]
    columns: Any
    pinned: PinnedModels
    models: dict[str, dict[str, Any]]  # what run.json says of them
    shape: dict[str, Any]
    record: dict[str, Any] | None  # run.json of an earlier attempt


class Result(NamedTuple):
    """How a scoring run ended."""

    ledger: Ledger
    record: dict[str, Any]
    did_nothing: bool  # the run was finished already


def prepare(config: JobConfig) -> Prepared:
    """Check configuration, manifest, weights and output.

    Raises:
        ConfigError, ManifestError, WeightsError, OutputError, RunMismatchError: what a user must change.
    """
    pinned = pin_models(config)
    config = _absolute(config)
    store = open_store(config.output, config.store)
    try:
        store.check_writable()
    except StoreError as e:
        raise OutputError(f"output: cannot be written: {e}") from None
    files, columns, identity = _manifest(config, store)
    models = pinned.facts()
    shape = run_record.run_shape(config, identity, models, pinned.poi_table.sha256 if pinned.poi_table else None)
    record = run_record.load_run(store)
    if record is not None and not config.start_over and load_snapshot(store) is not None:
        run_record.refuse_other_run(record, shape, config.output)
    return Prepared(config, store, files, columns, pinned, models, shape, record)


def score(prepared: Prepared, *, retry: tuple[str, ...] | None = None) -> Result:
    """Run to the end, or resume. With `retry`, score failed rows of a finished run again (() = all of them).

    Raises:
        AIStudioError: the run failed part-way; what is stored is intact and the same call resumes.
    """
    config, store = prepared.config, prepared.store
    if retry is not None:
        _refuse_unfinished(store)
    elif not config.start_over and (finished := _finished(prepared)):
        return finished
    with stop_signals() as arm, connect(config.engine) as resources:
        arm()
        plan = make_plan(config.engine, resources)
        wait_for_room(plan.bundles(), config.engine, resources)
        attempt = attempts.claim_attempt(store)
        if config.start_over:
            _empty(store)
        record = run_record.new_record(config, prepared.shape, prepared.models, attempt)
        record["plan"] = plan._asdict()
        run_record.open_record(store, record, new=prepared.record is None)
        try:
            _clean_up(prepared)
            snapshot = load_snapshot(store) or make_snapshot(
                config, prepared.files, prepared.columns, attempt, plan.num_actors
            )
            run = RunContext(config.model_dump(mode="json"), plan, f"run-{uuid.uuid4().hex}",
                             attempt, record["fingerprint"], retry, prepared.pinned)  # fmt: skip
            work = _work_list(store, snapshot, retry)
            record |= _run(run, work, snapshot)
            attempts.refuse_if_fenced(store, attempt)
        except (RayError, AIStudioError) as e:
            _record_failure(store, record, e)
            raise (our_error(e) or AIStudioError(f"the run failed part-way: {e}")) from e
        except KeyboardInterrupt:
            _record_failure(store, record, None)
            raise
    return Result(_close(store, record), record, False)


def _manifest(config: JobConfig, store: Store) -> tuple[list[InputFile], Any, dict[str, Any]]:
    """Files, columns and identity of the manifest; a finished snapshot stands in for one that is gone."""
    try:
        files, columns = find_manifest(config)
    except ManifestError:
        snapshot = load_snapshot(store)
        settings = manifest_settings(config)
        if snapshot is None or config.start_over or not settings.items() <= snapshot.identity.items():
            raise
        return [], None, snapshot.identity
    return files, columns, identity_in_run(config, files, store)


def _absolute(config: JobConfig) -> JobConfig:
    """A local output as an absolute path: workers may run elsewhere."""
    if config.output.startswith("s3://"):
        return config
    return config.model_copy(update={"output": str(Path(config.output).absolute())})


def _finished(prepared: Prepared) -> Result | None:
    record = prepared.record
    if record is None or record["state"] != "complete":
        return None
    ledger = check_run(prepared.store)
    return Result(ledger, record, True) if ledger.complete else None


def _empty(store: Store) -> None:
    for prefix in layout.EMPTIED:
        for entry in store.list(prefix):
            store.delete(entry.key)


def _clean_up(prepared: Prepared) -> None:
    """Remove what killed processes left half-written, and damaged score files of a run that was thought to be over."""
    store, record = prepared.store, prepared.record
    for folder in layout.WRITTEN_BY_WORKERS:
        store.sweep(folder)
    if load_snapshot(store) is None:
        for entry in (*store.list(layout.MANIFEST), *store.list(layout.REJECTED)):
            store.delete(entry.key)  # of a manifest that was refused, perhaps
        return
    if record is None or record["state"] not in ("complete", "incomplete"):
        return
    for name in check_run(store, fingerprint=record["fingerprint"]).damaged:
        store.delete(layout.scores_key(name))
        print(f"{layout.scores_key(name)} was damaged: its rows are scored again", file=sys.stderr)


def _refuse_unfinished(store: Store) -> None:
    snapshot = load_snapshot(store)
    missing = None if snapshot is None else {s.name for s in snapshot.shards} - layout.done_shards(store)
    if missing is None or missing:
        raise RunMismatchError(f"{store.root}: not a finished run; finish it with jobs.score first")


def _work_list(store: Store, snapshot: Snapshot, retry: tuple[str, ...] | None) -> list[str]:
    done = layout.done_shards(store)
    if retry is not None:
        return [s.name for s in snapshot.shards if s.name in done]
    return [s.name for s in snapshot.shards if s.name not in done]


def _run(run: RunContext, work: list[str], snapshot: Snapshot) -> dict[str, Any]:
    """Score the listed shards; returns what run.json says of it."""
    coordinator = start_coordinator(run.coordinator, run.config["output"])
    log_event("started", output=run.config["output"], attempt=run.attempt, shards=len(work), plan=run.plan._asdict())
    wanted = set(work)
    pending = sum(s.rows for s in snapshot.shards if s.name in wanted)
    counts: Counter[str] = Counter()
    started = time.monotonic()
    already = 0 if run.retry is not None else snapshot.num_rows - pending
    poll: Callable[[], dict[str, float]] = lambda: ray.get(coordinator.snapshot.remote(), timeout=10)  # noqa: E731
    with Progress(poll, already + pending, already) as progress:
        for batch in _dataset(run, work).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for shard, row in zip(batch["shard"].to_pylist(), batch["counts"].to_pylist(), strict=True):
                counts.update(dict(row))
                log_event("shard", shard=shard, **dict(row))
    wall_s = time.monotonic() - started
    facts = ray.get(coordinator.facts.remote(), timeout=10)
    ray.kill(coordinator)
    seconds = {k: round(v, 2) for k, v in counts.items() if k.endswith("_s")}
    return {
        "facts": facts,
        "timings": {
            "wall_s": round(wall_s, 2),
            "first_row_s": progress.first_row_s,
            "images_per_s": round(pending / wall_s, 2) if wall_s else None,
            "num_bytes": int(counts["bytes"]),
            **seconds,
        },
        "timeline": progress.timeline,
    }


def work_blocks(work: list[str]) -> list[list[str]]:
    """The work list as blocks of one shard, or of several where there are very many."""
    step = math.ceil(len(work) / _MAX_BLOCKS)
    return [work[i : i + step] for i in range(0, len(work), step)]


def _dataset(run: RunContext, work: list[str]) -> Any:
    """The Ray Data plan: one row per shard; a block is one shard, or several where there are very many."""
    plan = run.plan
    if not work:
        return ray.data.from_arrow(pa.table({"shard": pa.array([], pa.string()), "counts": pa.array([], pa.null())}))
    names = ray.data.from_arrow([pa.table({"shard": block}) for block in work_blocks(work)])
    common: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    lives = {"ray_remote_args_fn": _lives}
    encode = common | lives | {
        "num_cpus": plan.cpus_per_actor,
        "num_gpus": plan.gpus_per_actor or None,
        "compute": _pool(plan.min_actors, plan.num_actors, len(work), plan.shards_in_flight),
        "fn_constructor_args": (run,),
    }  # fmt: skip
    if plan.kind == "fused":
        return names.map_batches(FusedWorker, **encode)
    pool = _pool(plan.min_fetchers, plan.num_fetchers, len(work), 2)
    fetch = common | lives | {"num_cpus": plan.cpus_per_fetcher, "compute": pool}
    return names.map_batches(FetchWorker, fn_constructor_args=(run,), **fetch).map_batches(EncodeWorker, **encode)


def _lives() -> dict[str, int]:
    return {"max_restarts": -1, "max_task_retries": _TASK_RETRIES}


def _pool(least: int, most: int, num_shards: int, calls: int) -> Any:
    """All actors are asked for at once, which makes a cluster grow; those that never come are not waited for."""
    most = min(most, num_shards)
    least = min(least, most) or most
    return ray.data.ActorPoolStrategy(
        min_size=least,
        max_size=most,
        initial_size=most,
        max_tasks_in_flight_per_actor=calls + 1,
        max_concurrent_calls_per_actor=calls,
        enable_true_multi_threading=True,
    )


def _close(store: Store, record: dict[str, Any]) -> Ledger:
    """Count what is stored, write the final run.json."""
    ledger = check_run(store, fingerprint=record["fingerprint"])
    record["state"] = "complete" if ledger.complete else "incomplete"
    record["finished_at"] = run_record.now()
    record["rows"] = {"manifest": ledger.num_manifest, "rejected": ledger.num_rejected, "stored": ledger.num_stored}
    if ledger.reading:
        record["rows"]["read"] = ledger.reading  # lines of the manifest
    record["counts"] = ledger.counts
    for info in record["models"].values():
        info.setdefault("image_tower", record.get("facts", {}).get("image_tower"))
    store.write_json(layout.RUN, record)
    log_event(record["state"], rows=record["rows"], counts=record["counts"], **record.get("timings", {}))
    return ledger


def _record_failure(store: Store, record: dict[str, Any], e: BaseException | None) -> None:
    record["state"] = "stopped" if e is None else "failed"
    record["error"] = None if e is None else str(our_error(e) or e)[:2000]
    record["finished_at"] = run_record.now()
    log_event(record["state"], error=record["error"])
    try:
        if attempts.latest_attempt(store) == record["attempt"]:
            store.write_json(layout.RUN, record)
    except StoreError:
        return  # a full disk must not hide the first error
