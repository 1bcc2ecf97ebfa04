"""Brings a damaged run folder to where an ordinary resume makes it whole again: nothing is scored here.

What can be had from the folder's other files is written again (the snapshot's index and shards); what can only be
computed again is deleted, so that it counts as not done. The caller owns the newest attempt.
"""

from collections.abc import Iterable

from aistudio.errors import RunMismatchError, StoreError
from aistudio.run_record import RunRecord
from aistudio.runs import layout
from aistudio.runs.ledger import Ledger
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot, load_snapshot
from aistudio.schema import CANDIDATE_COLUMNS
from aistudio.store import Store


def refuse_other_scores(store: Store, fingerprint: str) -> None:
    """Refuse to go on in a folder without a readable run.json whose scores were made with other settings.

    Raises:
        RunMismatchError: the first score file carries another fingerprint, or cannot be read to tell.
    """
    keys = layout.score_keys(store)
    for key in keys:
        try:
            found = store.read_metadata(key)[2].get("aistudio.fingerprint")
        except StoreError:
            continue
        if found == fingerprint:
            return
        raise RunMismatchError(
            f"{store.root}: its run.json is missing or damaged, and {key} was scored with other settings (fingerprint "
            f"{(found or 'none')[:12]}, now {fingerprint[:12]}); type the command of that run, choose another output, "
            "or start over on this folder with --set start_over=true --yes"
        )
    if keys:
        raise RunMismatchError(
            f"{store.root}: its run.json is missing or damaged, and none of its {len(keys)} score files can be read; "
            "choose another output, or start over on this folder with --set start_over=true --yes"
        )


def rebuild_index(store: Store, record: RunRecord | None) -> str | None:
    """Write a missing or damaged manifest/_index.json again from the shards, if run.json proves that all are there.

    Returns:
        What was done, None when it was not needed or cannot be proved; the snapshot is made from the manifest then.
    """
    if record is None or load_snapshot(store) is not None:
        return None
    rows, identity = record.rows, record.manifest_identity
    shards, passthrough = [], []
    try:
        for name in layout.manifest_shards(store):
            schema, num_rows, _ = store.read_metadata(layout.manifest_key(name))
            shards.append(Shard(name, num_rows))
            passthrough = [(f.name, str(f.type)) for f in schema if f.name not in CANDIDATE_COLUMNS]
        reasons = _rejected_reasons(store)
    except StoreError:
        return None
    whole = (sum(s.rows for s in shards), sum(reasons.values())) == (rows.manifest, rows.rejected)
    if not whole or not identity or not shards:
        return None
    snapshot = Snapshot(
        shards=shards, passthrough=passthrough, num_rejected=sum(reasons.values()), rejected_reasons=reasons,
        identity=identity,
    )  # fmt: skip
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    return f"{layout.MANIFEST_INDEX} was missing or damaged: made again from the {len(shards)} shards"


def _rejected_reasons(store: Store) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for entry in store.list(layout.REJECTED):
        for reason in store.read_table(entry.key, ["reason"])["reason"].to_pylist():
            kind = reason.split(":")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
    return reasons


def repair(store: Store, found: Ledger, *, has_manifest: bool) -> list[str]:
    """Mend what `found` names as far as it can be done without scoring.

    Args:
        has_manifest: the manifest itself can be read, so that its snapshot can be made anew. When that is needed, the
            snapshot's index is deleted.

    Returns:
        What was done, a sentence for each file.

    Raises:
        StoreError: rows of the manifest are lost: neither their snapshot, nor their scores, nor the manifest are there.
    """
    snapshot = load_snapshot(store)
    if snapshot is None:
        return []
    lost = [s for s in snapshot.shards if s.name in set(found.bad_manifest) and not _from_scores(store, s, snapshot)]
    if lost and not has_manifest:
        raise StoreError(
            f"{store.path(layout.manifest_key(lost[0].name))}: its rows are lost: neither this file, nor their scores, "
            "nor the manifest can be read; put the manifest back and type the command again"
        )
    done = [f"{layout.manifest_key(n)} was damaged or missing: mended" for n in found.bad_manifest]
    if lost:
        store.delete(layout.MANIFEST_INDEX)
    done += _delete(store, found.strangers, "belongs to no shard of the manifest: deleted")
    done += _delete(store, map(layout.scores_key, found.damaged), "was damaged: its rows are scored again")
    texts = map(layout.texts_key, found.bad_texts)
    return done + _delete(store, texts, "was damaged or missing: its texts are encoded again")


def _from_scores(store: Store, shard: Shard, snapshot: Snapshot) -> bool:
    """Write a shard's candidate rows again from its score file, which holds them too; False when that is not whole."""
    names = [*CANDIDATE_COLUMNS, *(name for name, _ in snapshot.passthrough)]
    try:
        table = store.read_table(layout.scores_key(shard.name), names, verify=True)
    except StoreError:
        return False
    if table.num_rows != shard.rows or table.column_names != names:
        return False
    return store.write_table(layout.manifest_key(shard.name), table.replace_schema_metadata(None))


def _delete(store: Store, keys: Iterable[str], why: str) -> list[str]:
    done = []
    for key in keys:
        store.delete(key)
        done.append(f"{key} {why}")
    return done
