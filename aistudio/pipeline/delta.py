"""A run with a base: finding it, joining it with the manifest, and describing it to the workers.

The join (runs/delta_join.py) is done by tasks and lies in the run folder until the run is complete; a resumed attempt
goes on with it. The driver handles names of shards and numbers alone.
"""

import hashlib
import json
import time
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from aistudio.config import JobConfig
from aistudio.errors import ConfigError, StoreError
from aistudio.pipeline.progress import say
from aistudio.pipeline.tasks import RayTasks
from aistudio.run_record import DeltaFacts, ModelFacts, RunRecord
from aistudio.runs import delta_join, layout
from aistudio.runs.attempts import refuse_if_fenced
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.runs.record import load_run
from aistudio.runs.reuse import Reuse, find_reuse, role_column
from aistudio.runs.shard_writer import AUTO_ROWS
from aistudio.runs.snapshot import Snapshot, load_snapshot
from aistudio.scoring.base_rows import Delta
from aistudio.scoring.pinned_models import PinnedModels
from aistudio.secrets import redact, redacted
from aistudio.store import Store, open_store

_HERE_ROWS = 50_000  # that the driver joins sooner than tasks would start
_NAMED = 5  # files that cannot be read, in a message


class Earlier(NamedTuple):
    """The base run as it was found."""

    store: Store
    record: RunRecord


class Base(NamedTuple):
    """The base run, and what may be taken from it."""

    store: Store
    record: RunRecord
    reuse: Reuse

    def lines(self) -> list[str]:
        """Say what is taken of rows whose picture is the same."""
        texts = "texts are not encoded again" if self.reuse.texts else "texts are encoded"
        if self.reuse.why_not:
            return [f"{redact(self.store.root)}: every picture is scored anew ({self.reuse.why_not}); {texts}"]
        taken = "vectors" + (" and ranking scores" if self.reuse.rank_score else "")
        return [f"{redact(self.store.root)}: {taken} of pictures that are the same are taken over; {texts}"]


class _Index(BaseModel):
    """What the join's index holds."""

    of: str  # what was joined
    firsts: list[str]  # first shard of each group
    matched: int
    gone: int
    unread: list[str] = []  # some of the base's files that cannot be read
    num_unread: int = 0


def open_base(config: JobConfig, *, resumed: bool) -> Earlier | None:
    """Find the base run that the settings name.

    Args:
        resumed: the run has begun. It goes on without a base that is gone, with a warning: a base only saves work.

    Raises:
        ConfigError: no run is there, or it is the output itself.
        RunMismatchError: a later version made it.
    """
    if config.base is None:
        return None
    if config.base.rstrip("/") == config.output.rstrip("/"):
        raise ConfigError(f"base: {config.base} is the output itself; a base is an earlier run in another folder")
    store = open_store(config.base, config.store)
    try:
        record = load_run(store)
        problem = "no run.json there; is this a run folder?"
    except StoreError as e:
        record, problem = None, str(e)
    if record is not None:
        return Earlier(store, record)
    if not resumed:
        raise ConfigError(f"base: {redact(config.base)}: {problem}")
    say(f"base: {redact(config.base)}: {problem} What is still to be scored is scored without it")
    return None


def find_base(earlier: Earlier, config: JobConfig, shape: dict[str, Any], models: dict[str, ModelFacts]) -> Base:
    """Decide what may be taken from the base by a run of the given shape and models."""
    columns = _columns(earlier.store)
    reuse = find_reuse(earlier.record, columns, shape, models, compiled=config.engine.compile)
    return Base(earlier.store, earlier.record, reuse)


def _columns(store: Store) -> list[str]:
    """Columns of the base's score files, as the first that can be read has them."""
    for key in layout.score_keys(store):
        try:
            return list(store.read_metadata(key)[0].names)
        except StoreError:
            continue
    return []


def join_base(
    base: Base, config: JobConfig, models: PinnedModels, store: Store, snapshot: Snapshot, attempt: int, cpus: float
) -> tuple[Delta, DeltaFacts]:
    """Join the base with the run's snapshot, unless an earlier attempt has; say what was found.

    Raises:
        FencedError: a newer attempt owns the run folder. AIStudioError: a task failed.
    """
    shards = _scored(base.store)
    of = _identity(base.record, shards, snapshot)
    index, join_s, started = _load_index(store), None, time.monotonic()
    if index is None or index.of != of:
        rows = max(snapshot.num_rows, sum(n for _, n in shards))
        mapper: Mapper = InProcess() if rows <= _HERE_ROWS else RayTasks(max(1, int(cpus)), gpu=False)
        index = _join(base, shards, store, snapshot, mapper, of)
        refuse_if_fenced(store, attempt)
        store.write_json(layout.DELTA_INDEX, index.model_dump(mode="json"))
        for step in ("base", "new", "joined"):
            _delete(store, layout.delta_prefix(step))
        join_s = round(time.monotonic() - started, 2)
    for line in (*base.lines(), *_lines(index, snapshot)):
        say(f"base: {line}")
    return _delta(base, config, models, index), _facts(base, config, index, join_s)


def discard_join(store: Store) -> None:
    """Remove the join of a run that is complete: nothing needs it, or the base, any more."""
    store.delete(layout.DELTA_INDEX)
    _delete(store, layout.DELTA)


def _scored(store: Store) -> list[tuple[str, int]]:
    """The base's scored shards with their rows, as far as those are known."""
    snapshot = load_snapshot(store)
    rows = {s.name: s.rows for s in snapshot.shards} if snapshot else {}
    return [(name, rows.get(name, AUTO_ROWS)) for name in sorted(layout.done_shards(store))]


def _identity(base: RunRecord, shards: list[tuple[str, int]], snapshot: Snapshot) -> str:
    """One sha256 over what is joined; where it differs, an earlier attempt's join is not used."""
    sides = [base.fingerprint, base.attempt, base.finished_at, shards, snapshot.identity, snapshot.shards]
    return hashlib.sha256(json.dumps(sides, sort_keys=True, default=str).encode()).hexdigest()


def _load_index(store: Store) -> _Index | None:
    if not store.exists(layout.DELTA_INDEX):
        return None
    try:
        return _Index.model_validate(store.read_json(layout.DELTA_INDEX))
    except (StoreError, ValidationError):
        return None


def _join(
    base: Base, shards: list[tuple[str, int]], store: Store, snapshot: Snapshot, mapper: Mapper, of: str
) -> _Index:
    discard_join(store)
    _delete(store, layout.GONE)
    own = delta_join.groups_of([(s.name, s.rows) for s in snapshot.shards])
    parts = max(1, -(-max(snapshot.num_rows, sum(n for _, n in shards)) // delta_join.PART_ROWS))
    fingerprint = base.record.fingerprint
    found = list(mapper.map(delta_join.split_base, delta_join.groups_of(shards), store, base.store, fingerprint, parts))
    list(mapper.map(delta_join.split_new, own, store, parts))
    joined = list(mapper.map(delta_join.join_part, range(parts), store))
    list(mapper.map(delta_join.gather, [g.number for g in own], store))
    unread = [problem for split in found for problem in split.unread]
    return _Index(
        of=of, firsts=[g.shards[0] for g in own], matched=sum(m for m, _ in joined), gone=sum(g for _, g in joined),
        unread=unread[:_NAMED], num_unread=len(unread),
    )  # fmt: skip


def _delete(store: Store, prefix: str) -> None:
    for entry in store.list(prefix):
        store.delete(entry.key)


def _lines(index: _Index, snapshot: Snapshot) -> list[str]:
    found = [f"{index.matched:,} of {snapshot.num_rows:,} rows have an address that it scored"]
    found += [f"{index.gone:,} of its rows are not in the manifest: see {layout.GONE}"] if index.gone else []
    if index.num_unread:
        found.append(f"warning: {index.num_unread:,} of its files cannot be read, such as {index.unread[0]}")
    return found


def _delta(base: Base, config: JobConfig, models: PinnedModels, index: _Index) -> Delta:
    dims = {role_column(role): model.dim for role, model in models.by_role.items()}
    elsewhere = (base.record.setting("download", "url_map") or {}) != redacted(config.download.url_map)
    return Delta(
        base=base.store.root,
        store=config.store,
        fingerprint=base.record.fingerprint,
        reuse=base.reuse,
        trust="content" if config.trust == "validators" and elsewhere else config.trust,
        firsts=tuple(index.firsts),
        dims=dims,
        text_dim=models.recall.dim if models.recall else 0,
        crops=models.crops,
        num_formats=len(models.specs),
        max_bytes=config.download.max_bytes,
    )


def _facts(base: Base, config: JobConfig, index: _Index, join_s: float | None) -> DeltaFacts:
    return DeltaFacts(
        base=redact(base.store.root), fingerprint=base.record.fingerprint, trust=config.trust,
        pictures=base.reuse.why_not, matched=index.matched, gone=index.gone, unread=index.num_unread,
        join_s=join_s,
    )  # fmt: skip
