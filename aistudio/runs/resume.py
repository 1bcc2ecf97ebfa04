"""Resume: which shards of a run are done, which are left, and how one becomes done.

A shard is done when its score file is there (layout.py). An attempt scores those that are not, in any order; before it
commits one, its worker looks for a newer attempt (attempts.py). Which rows are stored is proved afterwards (ledger.py).
"""

from typing import NamedTuple

import pyarrow as pa

from aistudio.errors import RunMismatchError, StoreError
from aistudio.run_record import RunRecord
from aistudio.runs import layout
from aistudio.runs.snapshot import Snapshot
from aistudio.schema import DELTA_FIELDS, Status
from aistudio.status_filter import StatusFilter
from aistudio.store import Store


class RowsToDo(NamedTuple):
    """Rows of a run when an attempt begins."""

    already: int  # that have an outcome
    pending: int  # that get one


def is_done(store: Store, shard: str) -> bool:
    """Say whether the shard's score file is there."""
    return store.exists(layout.scores_key(shard))


def store_shard(store: Store, shard: str, scores: pa.Table, texts: pa.Table, metadata: dict[str, str]) -> None:
    """Commit a shard: texts first, then the score file, whose presence means done. The first writer wins."""
    store.write_table(layout.texts_key(shard), texts)
    store.write_table(layout.scores_key(shard), scores, metadata, overwrite=False)


def work_list(store: Store, snapshot: Snapshot, retry: tuple[StatusFilter, ...] | None) -> list[str]:
    """List the shards that an attempt has to look at, in the manifest's order.

    Args:
        retry: None: score what is not done, or whose texts were lost; else the done shards, for their failed rows.
    """
    done = layout.done_shards(store)
    if retry is not None:
        return [s.name for s in snapshot.shards if s.name in done]
    whole = done & layout.text_shards(store)
    return [s.name for s in snapshot.shards if s.name not in whole]


def frequent_shards(store: Store, snapshot: Snapshot, work: list[str], *, retry: bool) -> tuple[str, ...]:
    """List the shards of first rows of frequent addresses whose pictures an attempt can take over.

    Args:
        work: shards that the attempt looks at.
        retry: it scores failed rows again, and takes nothing that an earlier one found.
    """
    names, wanted = [s.name for s in snapshot.shards if layout.is_frequent(s.name)], set(work)
    return tuple(n for n in names if n in wanted or (not retry and store.exists(layout.frequent_key(n))))


def rows_to_do(
    record: RunRecord | None, snapshot: Snapshot, work: list[str], retry: tuple[StatusFilter, ...] | None
) -> RowsToDo:
    """Count rows that have an outcome and rows that get one; of a retry as far as statuses without codes say."""
    if retry is not None:
        failed = {k: n for k, n in (record.counts if record else {}).items() if k != Status.OK}
        wanted = {one.status for one in retry}
        return RowsToDo(0, sum(n for k, n in failed.items() if not wanted or k in wanted))
    wanted_shards = set(work)
    pending = sum(s.rows for s in snapshot.shards if s.name in wanted_shards)
    return RowsToDo(snapshot.num_rows - pending, pending)


def has_delta_columns(store: Store, snapshot: Snapshot) -> bool:
    """Whether the run's score files have schema.DELTA_FIELDS: as those that are stored already, else yes.

    A run that an earlier version began keeps the columns that it began with; so does one whose manifest has columns of
    these names, from the time when nobody kept them free.
    """
    names = {f.name for f in DELTA_FIELDS}
    if names & {name for name, _ in snapshot.passthrough}:
        return False
    for key in layout.score_keys(store):
        try:
            return names <= set(store.read_metadata(key)[0].names)
        except StoreError:
            continue  # found and reported by the ledger
    return True


def refuse_unfinished(store: Store, snapshot: Snapshot | None) -> None:
    """Raises RunMismatchError unless every shard is done."""
    missing = None if snapshot is None else {s.name for s in snapshot.shards} - layout.done_shards(store)
    if missing is None or missing:
        raise RunMismatchError(f"{store.root}: not a finished run; finish it with `aistudio score` first")
