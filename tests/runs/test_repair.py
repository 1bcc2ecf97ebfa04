"""Fourteen kinds of damage to a run folder: found, named, and mended as far as nothing need be scored again."""

import shutil
from pathlib import Path

import pytest

from aistudio.errors import RunMismatchError, StoreError
from aistudio.runs import layout
from aistudio.runs.ledger import check_run
from aistudio.runs.record import recorded
from aistudio.runs.repair import rebuild_index, refuse_other_scores, repair
from aistudio.runs.snapshot import load_snapshot
from aistudio.store import Store, open_store
from tests.damaged_runs import DAMAGES, RESCORED, Damage, whole_run


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "run"
    whole_run(open_store(str(folder)))
    return folder


@pytest.fixture
def store(fresh: Path, tmp_path: Path) -> Store:
    shutil.copytree(fresh, tmp_path / "run")
    return open_store(str(tmp_path / "run"))


def test_the_fresh_run_is_whole(store: Store) -> None:
    fingerprint = recorded(store).fingerprint
    assert check_run(store, fingerprint=fingerprint).complete
    assert check_run(store, deep=True, fingerprint=fingerprint).complete
    assert rebuild_index(store, recorded(store)) is None
    assert repair(store, check_run(store, deep=True), has_manifest=False) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_damage_is_found_and_what_is_left_is_scored_again(store: Store, fresh: Path, damage: Damage) -> None:
    record = recorded(store)
    damage.do(store)
    if damage.in_record:
        return  # run.json is made again by `score`: tests/pipeline/test_repair.py
    if damage.in_index:
        with pytest.raises(StoreError, match="no finished manifest snapshot"):
            check_run(store)
    else:
        found = check_run(store, deep=True, fingerprint=record.fingerprint)
        assert not found.complete and any(damage.names in p for p in found.problems), found.problems
    rebuild_index(store, record)
    for _ in range(3):
        repair(store, check_run(store, deep=True, fingerprint=record.fingerprint), has_manifest=False)
    left = check_run(store, deep=True, fingerprint=record.fingerprint)
    assert not left.damaged and not left.strangers and not left.bad_manifest
    there, wanted = ({e.key for e in s.list("")} for s in (store, open_store(str(fresh))))
    lost = wanted - there
    assert there <= wanted
    assert lost == set(damage.rescored)
    for key in there - {layout.RUN}:
        if key.endswith(".parquet"):
            assert store.read_table(key) == open_store(str(fresh)).read_table(key)
    assert load_snapshot(store) == load_snapshot(open_store(str(fresh)))


def test_each_kind_is_there_once() -> None:
    assert len({d.name for d in DAMAGES}) == len(DAMAGES) >= 14
    assert {k for d in DAMAGES for k in d.rescored} <= set(RESCORED)


def test_rows_that_are_nowhere_are_said_to_be_lost_unless_the_manifest_is_there(store: Store) -> None:
    store.delete(layout.manifest_key("00000-000000"))
    store.delete(layout.scores_key("00000-000000"))
    with pytest.raises(StoreError, match=r"00000-000000.*lost.*put the manifest back"):
        repair(store, check_run(store), has_manifest=False)
    assert load_snapshot(store) is not None
    repair(store, check_run(store), has_manifest=True)
    assert load_snapshot(store) is None  # so that it is made anew


def test_an_index_is_not_made_from_shards_that_are_not_proved_to_be_all(store: Store) -> None:
    record = recorded(store)
    store.delete(layout.MANIFEST_INDEX)
    store.delete(layout.manifest_key("00000-000001"))
    assert rebuild_index(store, record) is None
    assert rebuild_index(store, None) is None
    assert not store.exists(layout.MANIFEST_INDEX)


def test_scores_of_other_settings_are_not_taken_up_without_a_record(store: Store) -> None:
    fingerprint = recorded(store).fingerprint
    refuse_other_scores(store, fingerprint)
    with pytest.raises(RunMismatchError, match="scored with other settings"):
        refuse_other_scores(store, "0" * 64)
    store.write_bytes(layout.scores_key("00000-000000"), b"")
    refuse_other_scores(store, fingerprint)  # the next file tells
    for key in layout.score_keys(store):
        store.write_bytes(key, b"PAR1")
    with pytest.raises(RunMismatchError, match="none of its 3 score files can be read"):
        refuse_other_scores(store, fingerprint)
    refuse_other_scores(open_store(f"{store.root}/new"), fingerprint)
