"""The ledger against folders that are damaged on purpose: everything wrong is found and named."""

from pathlib import Path

import pyarrow as pa
import pytest

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.ledger import check_run, count_stored
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot
from aistudio.store import Store, open_store

PRINT = "f" * 64


def write_scores(store: Store, shard: str, row_ids: list[str], status: str = "ok", fingerprint: str = PRINT) -> None:
    n = len(row_ids)
    scores = pa.table({"row_id": row_ids, "status": [status] * n, "error": pa.nulls(n, pa.string())})
    store.write_table(f"scores/{shard}.parquet", scores, {"aistudio.fingerprint": fingerprint})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A finished run of 3 shards with 4, 4 and 2 rows."""
    store = open_store(str(tmp_path / "run"))
    shards = [Shard(f"00000-{i:06d}", n) for i, n in enumerate((4, 4, 2))]
    snapshot = Snapshot(shards=shards, passthrough=[], num_rejected=1, rejected_reasons={"x": 1}, identity={})
    first = 0
    for shard in shards:
        ids = [str(first + i) for i in range(shard.rows)]
        store.write_table(layout.manifest_key(shard.name), pa.table({"row_id": ids}))
        store.write_table(f"texts/{shard.name}.parquet", pa.table({"text": ["t"], "embedding": [[1.0]]}))
        write_scores(store, shard.name, ids)
        first += shard.rows
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    return store


def test_a_whole_run_adds_up(store):
    for deep in (False, True):
        ledger = check_run(store, deep=deep, fingerprint=PRINT)
        assert ledger.complete and ledger.counts == {"ok": 10} and not ledger.damaged
        assert (ledger.num_manifest, ledger.num_stored, ledger.num_rejected) == (10, 10, 1)


def test_a_run_in_which_every_row_failed_adds_up(store):
    for shard, ids in (("00000-000000", "0123"), ("00000-000001", "4567"), ("00000-000002", "89")):
        write_scores(store, shard, list(ids), status="http_error")
    ledger = check_run(store)
    assert ledger.complete and ledger.counts == {"http_error": 10}, ledger.problems


def test_without_a_snapshot_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(StoreError, match="no finished manifest snapshot"):
        check_run(open_store(str(tmp_path)))


def test_a_missing_file_names_shard_and_rows(store):
    store.delete("scores/00000-000001.parquet")
    ledger = check_run(store)
    assert ledger.num_missing == 4 and ledger.problems == ["shard 00000-000001: missing: row_id 4, 5, 6, 7"]
    assert not ledger.complete and not ledger.damaged  # absent is not damaged: an ordinary resume brings it
    assert layout.done_shards(store) == {"00000-000000", "00000-000002"}


@pytest.mark.parametrize(
    ("row_ids", "missing", "doubled", "named"),
    [
        (["4", "5", "6"], 1, 0, "missing: row_id 7"),
        (["4", "5", "6", "7", "7"], 0, 1, "stored twice: row_id 7"),
        (["4", "5", "6", "6"], 1, 1, "stored twice: row_id 6"),
        (["4", "5", "6", "7", "99"], 0, 0, "rows that the manifest does not have: ['99']"),
        ([], 4, 0, "missing: row_id 4, 5, 6, 7"),
    ],
)
def test_rows_missing_doubled_or_foreign_are_counted_and_named(store, row_ids, missing, doubled, named):
    write_scores(store, "00000-000001", row_ids)
    ledger = check_run(store)
    assert (ledger.num_missing, ledger.num_doubled) == (missing, doubled) and not ledger.complete
    assert any(named in p for p in ledger.problems), ledger.problems
    assert ledger.damaged == ["00000-000001"]


def test_a_file_that_is_cut_or_flipped_is_named(store):
    key = "scores/00000-000000.parquet"
    whole = store.read_bytes(key)
    store.write_bytes(key, whole[:-20])
    ledger = check_run(store)
    assert ledger.num_missing == 4 and ledger.damaged == ["00000-000000"]
    assert any("damaged or not Parquet" in p and key in p for p in ledger.problems)
    flipped = bytearray(whole)
    flipped[whole.index(b"\x15") + 30] ^= 0x01  # inside the first page
    store.write_bytes(key, bytes(flipped))
    assert not check_run(store, deep=True).complete


def test_damaged_texts_and_snapshots_are_found_by_the_deep_check(store):
    store.write_bytes("texts/00000-000002.parquet", b"PAR1")
    for deep in (False, True):
        found = check_run(store, deep=deep)
        assert found.bad_texts == ["00000-000002"] and any("texts/00000-000002" in p for p in found.problems)
        assert not found.complete and not found.damaged
    store.write_bytes(layout.manifest_key("00000-000000"), b"nothing")
    shallow = check_run(store)
    assert not shallow.complete and any("manifest/00000-000000" in p for p in shallow.problems)


def test_a_snapshot_shard_of_another_size_than_its_index_is_found(store):
    store.write_table(layout.manifest_key("00000-000002"), pa.table({"row_id": ["8", "9", "10"]}))
    assert any("3 rows, the snapshot's index says 2" in p for p in check_run(store).problems)


def test_a_file_of_another_model_is_found(store):
    write_scores(store, "00000-000002", ["8", "9"], fingerprint="0" * 64)
    assert check_run(store).complete
    ledger = check_run(store, fingerprint=PRINT)
    assert ledger.damaged == ["00000-000002"] and "scored by another model" in ledger.problems[0]


def test_an_unknown_status_and_a_stranger_file_are_found(store):
    write_scores(store, "00000-000002", ["8", "9"], status="fine")
    write_scores(store, "00009-000000", ["1"])
    problems = check_run(store).problems
    assert any("unknown status ['fine']" in p for p in problems)
    assert "scores/00009-000000.parquet: no such shard in the manifest snapshot" in problems


def test_problems_are_bounded_but_all_are_counted(tmp_path):
    store = open_store(str(tmp_path))
    shards = [Shard(f"00000-{i:06d}", 1) for i in range(200)]
    snapshot = Snapshot(shards=shards, passthrough=[], num_rejected=0, rejected_reasons={}, identity={})
    for i, shard in enumerate(shards):
        store.write_table(layout.manifest_key(shard.name), pa.table({"row_id": [str(i)]}))
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    ledger = check_run(store)
    assert ledger.num_missing == 200 and len(ledger.problems) <= 60


def test_what_is_stored_so_far_is_counted_within_a_time_limit(store):
    store.delete("scores/00000-000001.parquet")
    so_far = count_stored(store, limit_s=60)
    assert (so_far.num_manifest, so_far.num_stored, so_far.counts) == (10, 6, {"ok": 6})
    hurried = count_stored(store, limit_s=0)
    assert (hurried.num_stored, hurried.num_counted) == (6, 0)


def with_reused(store: Store, shard: str, row_ids: list[str], statuses: list[str], reused: list[str]) -> None:
    table = pa.table({"row_id": row_ids, "status": statuses, "reused": reused})
    store.write_table(f"scores/{shard}.parquet", table, {"aistudio.fingerprint": PRINT})


def test_what_came_from_a_base_is_counted(store):
    with_reused(store, "00000-000001", ["4", "5", "6", "7"], ["ok"] * 4, ["url", "no", "content", "url"])
    ledger = check_run(store)
    assert ledger.complete and ledger.reused == {"url": 2, "no": 1, "content": 1}  # other files are an older version's
    assert ledger.counts == {"ok": 10}


@pytest.mark.parametrize(
    ("statuses", "reused", "named"),
    [
        (["ok", "ok"], ["url", "hearsay"], "reused: unknown value ['hearsay']"),
        (["ok", "timeout"], ["url", "content"], "reused: failed rows that were taken over"),
    ],
)
def test_rows_that_say_what_cannot_be_are_damaged(store, statuses, reused, named):
    with_reused(store, "00000-000002", ["8", "9"], statuses, reused)
    ledger = check_run(store)
    assert ledger.damaged == ["00000-000002"] and any(named in p for p in ledger.problems)


def test_a_column_of_the_users_own_called_reused_says_nothing(store):
    index = store.read_json(layout.MANIFEST_INDEX)
    store.write_json(layout.MANIFEST_INDEX, index | {"passthrough": [["reused", "string"]]})
    with_reused(store, "00000-000002", ["8", "9"], ["ok", "timeout"], ["second hand", "url"])
    ledger = check_run(store)
    assert ledger.complete and ledger.reused == {}
