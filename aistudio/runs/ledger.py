"""The ledger: rows in = rows out, proved from the stored files alone.

Works shard by shard with a few threads; memory does not grow with the run. `check_run` with deep=True also
verifies every page's checksum and the fingerprint in every file.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot, load_snapshot
from aistudio.schema import Status
from aistudio.store import Store

_THREADS = 8
_NAMED = 5  # row ids named in messages
_PROBLEMS = 50  # kept in memory and run over; the numbers count all of them


class Ledger(NamedTuple):
    """What is stored, against what the manifest wants."""

    num_manifest: int
    num_stored: int
    num_rejected: int
    counts: dict[str, int]  # rows by status
    num_missing: int
    num_doubled: int
    problems: list[str]  # at most some dozens, each naming file and rows
    damaged: Sequence[str] = ()  # shards whose score file is there but not as it must be
    reading: Mapping[str, Any] = {}  # what the manifest's lines became (catalogue.Reading); empty in older runs

    @property
    def complete(self) -> bool:
        return not self.problems and self.num_missing == 0 and self.num_doubled == 0


class _ShardCheck(NamedTuple):
    counts: Counter[str]
    missing: list[str]
    doubled: list[str]
    problem: str | None
    damaged: bool = False


def check_run(store: Store, *, deep: bool = False, fingerprint: str | None = None) -> Ledger:
    """Compare score files with the snapshot.

    Args:
        deep: read every column and verify page checksums.
        fingerprint: that every score file must carry, None: not compared.

    Raises:
        StoreError: there is no snapshot, so nothing to compare with.
    """
    snapshot = load_snapshot(store)
    if snapshot is None:
        raise StoreError(f"{store.root}: no finished manifest snapshot there; was this run started?")
    done = layout.done_shards(store)
    counts: Counter[str] = Counter()
    num_missing = num_doubled = 0
    problems: list[str] = []
    damaged: list[str] = []
    for shard, check in _checks(store, snapshot, done, deep, fingerprint):
        counts.update(check.counts)
        num_missing += len(check.missing)
        num_doubled += len(check.doubled)
        if check.damaged:
            damaged.append(shard.name)
        if len(problems) < _PROBLEMS:
            problems += [check.problem] if check.problem else []
            problems += _named("missing", shard, check.missing) + _named("stored twice", shard, check.doubled)
    problems += [
        f"{layout.scores_key(name)}: no such shard in the manifest snapshot"
        for name in sorted(_strangers(snapshot, done))[:_PROBLEMS]
    ]
    stored = sum(counts.values())
    return Ledger(
        snapshot.num_rows, stored, snapshot.num_rejected, dict(counts), num_missing, num_doubled, problems, damaged,
        snapshot.reading,
    )  # fmt: skip


class SoFar(NamedTuple):
    """What an unfinished run has stored; `counts` covers `num_counted` of the stored rows."""

    num_manifest: int
    num_stored: int
    num_counted: int
    counts: dict[str, int]


def count_stored(store: Store, limit_s: float) -> SoFar:
    """Rows stored so far, from a listing, and their statuses as far as they can be read within `limit_s`.

    Raises:
        StoreError: there is no snapshot yet.
    """
    until = time.monotonic() + limit_s
    snapshot = load_snapshot(store)
    if snapshot is None:
        raise StoreError(f"{store.root}: no finished manifest snapshot there")
    done = layout.done_shards(store)
    stored = [s for s in snapshot.shards if s.name in done]
    counts: Counter[str] = Counter()
    for shard in stored:
        if time.monotonic() >= until:
            break
        counts.update(store.read_table(layout.scores_key(shard.name), ["status"])["status"].to_pylist())
    return SoFar(snapshot.num_rows, sum(s.rows for s in stored), sum(counts.values()), dict(counts))


def _strangers(snapshot: Snapshot, done: set[str]) -> set[str]:
    return done - {s.name for s in snapshot.shards}


def _checks(
    store: Store, snapshot: Snapshot, done: set[str], deep: bool, fingerprint: str | None
) -> Iterator[tuple[Shard, _ShardCheck]]:
    """Checks in shard order, a bounded number at a time."""
    shards = iter(snapshot.shards)
    with ThreadPoolExecutor(_THREADS) as pool:
        while window := list(islice(shards, 8 * _THREADS)):
            yield from zip(
                window, pool.map(lambda s: _check(store, s, s.name in done, deep, fingerprint), window), strict=True
            )


def _check(store: Store, shard: Shard, done: bool, deep: bool, fingerprint: str | None) -> _ShardCheck:
    try:
        wanted = store.read_table(layout.manifest_key(shard.name), ["row_id"], verify=deep)["row_id"].to_pylist()
    except StoreError as e:
        return _ShardCheck(Counter(), [f"(all {shard.rows})"], [], str(e))
    problem = None
    if len(wanted) != shard.rows:
        problem = f"{layout.manifest_key(shard.name)}: {len(wanted)} rows, the snapshot's index says {shard.rows}"
    if not done:
        return _ShardCheck(Counter(), wanted, [], problem)
    key = layout.scores_key(shard.name)
    try:
        table = store.read_table(key, None if deep else ["row_id", "status"], verify=deep)
        carried = store.read_metadata(key)[2].get("aistudio.fingerprint") if fingerprint else None
        if deep:
            store.read_table(layout.texts_key(shard.name), verify=True)
    except StoreError as e:
        return _ShardCheck(Counter(), wanted, [], str(e), True)
    found = Counter(table["row_id"].to_pylist())
    missing = [r for r in wanted if r not in found]
    doubled = [r for r, n in found.items() if n > 1]
    status = table["status"].to_pylist()
    if fingerprint and carried != fingerprint:
        problem = f"{key}: scored by another model or settings ({(carried or 'none')[:12]}, run {fingerprint[:12]})"
    elif unknown := set(status) - {s.value for s in Status}:
        problem = f"{key}: unknown status {sorted(map(str, unknown))}"
    elif strangers := set(found) - set(wanted):
        problem = f"{key}: rows that the manifest does not have: {sorted(strangers)[:_NAMED]}"
    return _ShardCheck(Counter(status), missing, doubled, problem, bool(problem or missing or doubled))


def _named(what: str, shard: Shard, row_ids: list[str]) -> list[str]:
    if not row_ids:
        return []
    more = f" and {len(row_ids) - _NAMED} more" if len(row_ids) > _NAMED else ""
    return [f"shard {shard.name}: {what}: row_id {', '.join(row_ids[:_NAMED])}{more}"]
