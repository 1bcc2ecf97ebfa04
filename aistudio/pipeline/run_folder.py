"""What an attempt does to its run folder before it scores: emptying, cleaning up, mending, a new snapshot."""

from typing import TYPE_CHECKING

from aistudio.errors import ManifestError
from aistudio.pipeline.progress import say
from aistudio.pipeline.snapshot import make_snapshot
from aistudio.runs import layout
from aistudio.runs.ledger import Ledger, check_names, check_run
from aistudio.runs.repair import rebuild_index, repair
from aistudio.runs.shape import fingerprint
from aistudio.runs.snapshot import Snapshot, load_snapshot
from aistudio.secrets import redact
from aistudio.store import Store

if TYPE_CHECKING:
    from aistudio.pipeline.score import Prepared

_ROUNDS = 3  # of checking and mending: a shard whose candidate rows were lost is checked whole only once they are back


def empty(store: Store) -> None:
    """Delete everything of the run but its attempts."""
    for prefix in layout.EMPTIED:
        for entry in store.list(prefix):
            store.delete(entry.key)


def clean_up(prepared: "Prepared", thorough: bool) -> None:
    """Remove what killed processes left half-written, and mend what is damaged as far as nothing need be scored.

    An unfinished run is only listed, unless `thorough`: what is damaged there is found when it ends.
    """
    store, record = prepared.store, prepared.record
    for folder in layout.WRITTEN_BY_WORKERS:
        store.sweep(folder)
    if rebuilt := rebuild_index(store, record):
        say(rebuilt)
    over = prepared.record_damaged or (record is not None and record.state in ("complete", "incomplete"))
    if thorough or over:
        _mend(prepared, thorough)
    elif (snapshot := load_snapshot(store)) is not None:
        _tell(prepared, check_names(store, snapshot))
    if load_snapshot(store) is None:
        for entry in (e for folder in layout.FROM_MANIFEST for e in store.list(folder)):
            store.delete(entry.key)  # of a manifest that was refused, perhaps


def new_snapshot(prepared: "Prepared", attempt: int, num_actors: int, thorough: bool) -> Snapshot:
    """Make the snapshot from the manifest. Scores of an earlier one stay where they are of the same rows.

    Raises:
        ManifestError: as make_snapshot, or the manifest is gone.
    """
    config, store = prepared.config, prepared.store
    if not prepared.files or prepared.columns is None:
        shown = redact(str(config.manifest.path))
        raise ManifestError(f"manifest.path: {shown}: not there, and its snapshot is damaged")
    before = prepared.record.plan.num_actors if prepared.record else None
    share = before or num_actors  # the same shards as before
    snapshot = make_snapshot(config, prepared.files, prepared.columns, attempt, share)
    if layout.score_keys(store):
        _mend(prepared, thorough)
    return snapshot


def _mend(prepared: "Prepared", thorough: bool) -> None:
    store = prepared.store
    for _ in range(_ROUNDS):
        if load_snapshot(store) is None:
            return
        found = check_run(store, deep=thorough, fingerprint=fingerprint(prepared.shape))
        if not _tell(prepared, found):
            return


def _tell(prepared: "Prepared", found: Ledger) -> bool:
    """Mend and say what was done; whether there was anything."""
    lines = repair(prepared.store, found, has_manifest=bool(prepared.files))
    for line in lines:
        say(line)
    return bool(lines)
