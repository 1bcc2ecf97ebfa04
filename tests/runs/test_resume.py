"""What is done, what is left and how a shard becomes done, without any engine."""

import pyarrow as pa
import pytest

from aistudio.errors import RunMismatchError
from aistudio.run_record import RunRecord
from aistudio.runs import layout
from aistudio.runs.resume import (
    RowsToDo,
    has_delta_columns,
    is_done,
    refuse_unfinished,
    rows_to_do,
    store_shard,
    work_list,
)
from aistudio.runs.shard_writer import Shard
from aistudio.runs.snapshot import Snapshot
from aistudio.status_filter import parse_status
from aistudio.store import open_store

NAMES = [f"00000-{i:06d}" for i in range(4)]
SNAPSHOT = Snapshot(
    shards=[Shard(name, 5) for name in NAMES], passthrough=[], num_rejected=0, rejected_reasons={}, identity={}
)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def scores(value="a"):
    return pa.table({"row_id": [value]})


def test_a_shard_is_done_when_its_scores_are_there_and_the_first_writer_wins(store):
    assert not is_done(store, NAMES[0])
    store_shard(store, NAMES[0], scores("first"), pa.table({"text": ["t"]}), {"aistudio.attempt": "1"})
    store_shard(store, NAMES[0], scores("second"), pa.table({"text": ["t"]}), {"aistudio.attempt": "2"})
    assert is_done(store, NAMES[0])
    assert store.read_table(layout.scores_key(NAMES[0]))["row_id"].to_pylist() == ["first"]
    assert store.read_metadata(layout.scores_key(NAMES[0]))[2]["aistudio.attempt"] == "1"


def test_what_is_left_keeps_the_manifests_order_and_lost_texts_are_work(store):
    assert work_list(store, SNAPSHOT, None) == NAMES and work_list(store, SNAPSHOT, ()) == []
    for name in (NAMES[2], NAMES[0]):
        store_shard(store, name, scores(), pa.table({"text": ["t"]}), {})
    assert work_list(store, SNAPSHOT, None) == [NAMES[1], NAMES[3]]
    assert work_list(store, SNAPSHOT, ()) == [NAMES[0], NAMES[2]]
    store.delete(layout.texts_key(NAMES[2]))
    assert work_list(store, SNAPSHOT, None) == NAMES[1:]


def test_rows_to_do_of_a_resume_and_of_a_retry():
    record = RunRecord(counts={"ok": 10, "timeout": 3, "http_error": 2})
    assert rows_to_do(None, SNAPSHOT, NAMES[1:], None) == RowsToDo(5, 15)
    assert rows_to_do(record, SNAPSHOT, NAMES, ()) == RowsToDo(0, 5)
    assert rows_to_do(record, SNAPSHOT, NAMES, (parse_status("timeout"),)) == RowsToDo(0, 3)
    assert rows_to_do(None, SNAPSHOT, NAMES, ()) == RowsToDo(0, 0)


def test_only_a_finished_run_is_retried(store):
    for snapshot in (None, SNAPSHOT):
        with pytest.raises(RunMismatchError, match="not a finished run"):
            refuse_unfinished(store, snapshot)
    for name in NAMES:
        store_shard(store, name, scores(), scores(), {})
    refuse_unfinished(store, SNAPSHOT)


def test_a_run_keeps_the_columns_that_it_began_with(store):
    assert has_delta_columns(store, SNAPSHOT)
    old = pa.table({"row_id": ["a"], "status": ["ok"]})
    store.write_table(layout.scores_key(NAMES[0]), old)
    assert not has_delta_columns(store, SNAPSHOT)
    new = old.append_column("etag", [["e"]]).append_column("last_modified", [["d"]]).append_column("reused", [["no"]])
    store.write_table(layout.scores_key(NAMES[0]), new)
    assert has_delta_columns(store, SNAPSHOT)
    own = SNAPSHOT.model_copy(update={"passthrough": [("etag", "string")]})  # from when that name was the user's
    assert not has_delta_columns(store, own)
    store.write_bytes(layout.scores_key(NAMES[0]), b"broken")
    store.write_table(layout.scores_key(NAMES[1]), old)
    assert not has_delta_columns(store, SNAPSHOT)
