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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot, load_snapshot
from aistudio.schema import (
    CROP_PREFIX,
    CROP_TYPE,
    Reused,
    Status,
    is_vector_column,
    vector_matrix,
    vector_width,
)
from aistudio.store import Store

_THREADS = 8
_NAMED = 5  # row ids named in messages
_KEYS = (layout.scores_key, layout.texts_key, layout.manifest_key)  # of a shard's files
_PROBLEMS = 50  # kept in memory and run over; the numbers count all of them
_REUSED = "reused"


class Ledger(NamedTuple):
    """What is stored, against what the manifest wants."""

    num_manifest: int
    num_stored: int
    num_rejected: int
    counts: dict[str, int]  # rows by status
    num_missing: int
    num_doubled: int
    problems: list[str]  # at most some dozens, each naming file and rows
    num_without_text: int = 0  # ok rows that have no recall_score because they have no text
    damaged: Sequence[str] = ()  # shards whose score file is there but not as it must be
    bad_manifest: Sequence[str] = ()  # shards whose candidate rows are missing or damaged
    bad_texts: Sequence[str] = ()  # stored shards whose text vectors are missing or damaged
    strangers: Sequence[str] = ()  # keys of files of no shard
    crops: Mapping[str, Mapping[str, int]] = {}  # column of boxes -> method -> ok rows
    reading: Mapping[str, Any] = {}  # what the manifest's lines became (catalogue.Reading); empty in older runs
    reused: Mapping[str, int] = {}  # rows by schema.Reused; empty in older runs

    @property
    def complete(self) -> bool:
        return not self.problems and self.num_missing == 0 and self.num_doubled == 0


class _ShardCheck(NamedTuple):
    counts: Counter[str]
    missing: list[str]
    doubled: list[str]
    problem: str | None
    damaged: bool = False
    bad_manifest: bool = False
    bad_texts: str | None = None  # what is wrong with them
    without_text: int = 0
    crops: Mapping[str, Counter[str]] = {}
    reused: Mapping[str, int] = {}


def check_run(store: Store, *, deep: bool = False, fingerprint: str | None = None) -> Ledger:
    """Compare score files with the snapshot, and read the vectors of one of them back.

    Args:
        deep: read every column of every file and verify page checksums.
        fingerprint: that every score file must carry, None: not compared.

    Raises:
        StoreError: there is no snapshot, so nothing to compare with.
    """
    snapshot = load_snapshot(store)
    if snapshot is None:
        raise StoreError(f"{store.root}: no finished manifest snapshot there; was this run started?")
    done = layout.done_shards(store)
    counts: Counter[str] = Counter()
    reused: Counter[str] = Counter()
    crops: dict[str, Counter[str]] = {column: Counter() for column in _crop_columns(store, snapshot, done)}
    num_missing = num_doubled = without_text = 0
    problems: list[str] = []
    damaged: list[str] = []
    bad_manifest: list[str] = []
    bad_texts: list[str] = []
    sample: tuple[int, str] | None = None  # how telling a file is, and its key
    for shard, check in _checks(store, snapshot, done, deep, fingerprint, list(crops)):
        counts.update(check.counts)
        reused.update(check.reused)
        num_missing += len(check.missing)
        num_doubled += len(check.doubled)
        without_text += check.without_text
        for column, methods in check.crops.items():
            crops[column].update(methods)
        if check.damaged:
            damaged.append(shard.name)
        elif check.counts:
            kinds = (Status.OK.value in check.counts) + (len(check.counts) > 1)  # best with a null and a vector
            if sample is None or kinds > sample[0]:
                sample = kinds, layout.scores_key(shard.name)
        if check.bad_manifest:
            bad_manifest.append(shard.name)
        if check.bad_texts:
            bad_texts.append(shard.name)
        if len(problems) < _PROBLEMS:
            problems += [p for p in (check.problem, check.bad_texts) if p]
            problems += _named("missing", shard, check.missing) + _named("stored twice", shard, check.doubled)
    strangers = _strangers(store, snapshot)
    problems += [f"{key}: no such shard in the manifest snapshot" for key in strangers[:_PROBLEMS]]
    if sample and not deep and (unreadable := _read_back(store, sample[1])):
        problems.append(unreadable)
    stored = sum(counts.values())
    return Ledger(
        snapshot.num_rows, stored, snapshot.num_rejected, dict(counts), num_missing, num_doubled, problems,
        damaged=damaged, bad_manifest=bad_manifest, bad_texts=bad_texts, strangers=strangers,
        num_without_text=without_text, reading=snapshot.reading, crops={c: dict(n) for c, n in crops.items()},
        reused=dict(reused),
    )  # fmt: skip


def taken_over(reused: Mapping[str, int]) -> str:
    """Say how many rows were taken over from the base run, and by what; "" where none was."""
    found = {how: n for how, n in reused.items() if how != Reused.NO and n}
    by = ", ".join(f"{n:,} by {how}" for how, n in found.items())
    return f"{sum(found.values()):,} rows ({by})" if found else ""


def check_names(store: Store, snapshot: Snapshot) -> Ledger:
    """Check what a listing alone shows: files of no shard, shards of an unfinished run without candidate rows."""
    there = set(layout.manifest_shards(store))
    missing = [s.name for s in snapshot.shards if s.name not in there]
    return Ledger(
        snapshot.num_rows, 0, snapshot.num_rejected, {}, 0, 0, [], bad_manifest=missing,
        strangers=_strangers(store, snapshot),
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


def _strangers(store: Store, snapshot: Snapshot) -> list[str]:
    """Files in the shards' folders that belong to none."""
    own = {s.name for s in snapshot.shards}
    keys = {layout.MANIFEST_INDEX} | {key(name) for name in own for key in _KEYS}
    return [
        e.key
        for folder in (layout.SCORES, layout.TEXTS, layout.MANIFEST)
        for e in store.list(folder)
        if e.key not in keys
    ]


def _checks(
    store: Store, snapshot: Snapshot, done: set[str], deep: bool, fingerprint: str | None, crops: list[str]
) -> Iterator[tuple[Shard, _ShardCheck]]:
    """Checks in shard order, a bounded number at a time."""
    told = _REUSED not in {name for name, _ in snapshot.passthrough}
    shards = iter(snapshot.shards)
    with ThreadPoolExecutor(_THREADS) as pool:
        while window := list(islice(shards, 8 * _THREADS)):
            yield from zip(
                window,
                pool.map(lambda s: _check(store, s, s.name in done, deep, fingerprint, crops, told), window),
                strict=True,
            )


def _crop_columns(store: Store, snapshot: Snapshot, done: set[str]) -> list[str]:
    """Return the run's columns of boxes, as its first stored shard that can be read has them."""
    for shard in (s for s in snapshot.shards if s.name in done):
        try:
            schema = store.read_metadata(layout.scores_key(shard.name))[0]
        except StoreError:
            continue  # found and reported by _check
        return [f.name for f in schema if f.name.startswith(CROP_PREFIX) and f.type == CROP_TYPE]
    return []


def _crop_methods(table: pa.Table, columns: list[str]) -> dict[str, Counter[str]]:
    found = {}
    for column in (c for c in columns if c in table.column_names and table.schema.field(c).type == CROP_TYPE):
        boxes = table[column].combine_chunks()
        found[column] = Counter(boxes.drop_null().field("method").to_pylist())
    return found


def _check(
    store: Store, shard: Shard, done: bool, deep: bool, fingerprint: str | None, crops: list[str], told: bool
) -> _ShardCheck:
    """Check one shard. `told`: the column `reused` is ours, not the user's own."""
    try:
        wanted = store.read_table(layout.manifest_key(shard.name), ["row_id"], verify=deep)["row_id"].to_pylist()
    except StoreError as e:
        return _ShardCheck(Counter(), [f"(all {shard.rows})"], [], str(e), bad_manifest=True)
    problem, wrong_size = None, False
    if len(wanted) != shard.rows:
        problem = f"{layout.manifest_key(shard.name)}: {len(wanted)} rows, the snapshot's index says {shard.rows}"
        wrong_size = True
    if not done:
        return _ShardCheck(Counter(), wanted, [], problem, bad_manifest=wrong_size)
    bad_texts = _texts_problem(store, shard, deep)
    key = layout.scores_key(shard.name)
    try:
        columns = ["row_id", "status", "recall_score", _REUSED, *crops]
        table = store.read_table(key, None if deep else columns, verify=deep)
        carried = store.read_metadata(key)[2].get("aistudio.fingerprint") if fingerprint else None
    except StoreError as e:
        return _ShardCheck(Counter(), wanted, [], str(e), True, wrong_size, bad_texts)
    found = Counter(table["row_id"].to_pylist())
    missing = [r for r in wanted if r not in found]
    doubled = [r for r, n in found.items() if n > 1]
    status = table["status"].to_pylist()
    if wrong_size:
        pass  # the rows cannot be compared
    elif fingerprint and carried != fingerprint:
        problem = f"{key}: scored by another model or settings ({(carried or 'none')[:12]}, run {fingerprint[:12]})"
    elif unknown := set(status) - {s.value for s in Status}:
        problem = f"{key}: unknown status {sorted(map(str, unknown))}"
    elif strangers := set(found) - set(wanted):
        problem = f"{key}: rows that the manifest does not have: {sorted(strangers)[:_NAMED]}"
    elif (told and (wrong := _reused_problem(table))) or (deep and (wrong := vector_problem(table))):
        problem = f"{key}: {wrong}"
    without_text = 0
    if "recall_score" in table.column_names:
        without_text = pc.sum(pc.and_(pc.equal(table["status"], "ok"), pc.is_null(table["recall_score"]))).as_py() or 0
    damaged = not wrong_size and bool(problem or missing or doubled)  # else it is compared with the wrong rows
    return _ShardCheck(
        Counter(status), missing, doubled, problem, damaged, wrong_size, bad_texts, without_text,
        _crop_methods(table, crops), _reused(table) if told else {},
    )  # fmt: skip


def _reused(scores: pa.Table) -> Mapping[str, int]:
    return Counter(scores[_REUSED].to_pylist() if _REUSED in scores.column_names else ())


def _reused_problem(scores: pa.Table) -> str | None:
    """Return what is wrong with a score table's `reused` column: only ok rows are taken over."""
    if _REUSED not in scores.column_names:
        return None  # of an earlier version
    reused = scores[_REUSED]
    if unknown := set(reused.to_pylist()) - {r.value for r in Reused}:
        return f"{_REUSED}: unknown value {sorted(map(str, unknown))}"
    wrong = pc.and_(pc.not_equal(scores["status"], Status.OK.value), pc.not_equal(reused, Reused.NO.value))
    return f"{_REUSED}: failed rows that were taken over" if pc.any(wrong).as_py() else None


def _texts_problem(store: Store, shard: Shard, deep: bool) -> str | None:
    """Return what is wrong with a stored shard's text vectors."""
    key = layout.texts_key(shard.name)
    try:
        if deep:
            for column in store.read_table(key, verify=True).select(["embedding"]).columns:
                vector_matrix(column)
        else:
            store.read_metadata(key)
    except StoreError as e:
        return str(e)
    except (ValueError, KeyError) as e:
        return f"{store.path(key)}: no text vectors: {e}"
    return None


def vector_problem(scores: pa.Table) -> str | None:
    """Return what is wrong with a score table's vectors: ok rows have one of the recorded width, others none."""
    ok = pc.equal(scores["status"], Status.OK.value)
    for field in (f for f in scores.schema if is_vector_column(f.name)):
        column = scores[field.name]
        if not column.is_valid().equals(ok):
            return f"{field.name}: ok rows without a vector, or failed rows with one"
        try:
            rows = vector_matrix(column)
        except ValueError as e:
            return f"{field.name}: {e}"
        if len(rows) and rows.shape[1] != vector_width(field):
            return f"{field.name}: vectors of {rows.shape[1]} numbers, the file says {vector_width(field)}"
        if not np.isfinite(rows).all():
            return f"{field.name}: vectors that are not finite"
    return None


def _read_back(store: Store, key: str) -> str | None:
    """Why the vectors that were just stored cannot be read with the pyarrow at hand, None when they can."""
    try:
        names = [name for name in store.read_metadata(key)[0].names if is_vector_column(name)]
        wrong = vector_problem(store.read_table(key, ["status", *names], verify=True))
    except StoreError as e:
        return f"vectors cannot be read back with pyarrow {pa.__version__}: {e}"
    return f"{key}: {wrong}" if wrong else None


def _named(what: str, shard: Shard, row_ids: list[str]) -> list[str]:
    if not row_ids:
        return []
    more = f" and {len(row_ids) - _NAMED} more" if len(row_ids) > _NAMED else ""
    return [f"shard {shard.name}: {what}: row_id {', '.join(row_ids[:_NAMED])}{more}"]
