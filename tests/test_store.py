"""One door to storage: whole files or none, the first writer wins, one message per failure; a folder and a real S3."""

import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistudio.config import StoreSettings
from aistudio.errors import ChangedError, StoreError
from aistudio.schema import vector_array, vector_field, vector_width
from aistudio.store import Store, open_store, storable_json
from tests.s3_server import S3Server


@pytest.fixture(scope="module")
def s3() -> Iterator:
    with S3Server(hang_s=1.5) as server:
        yield server


@pytest.fixture
def s3_store(s3, monkeypatch, request) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    s3.fault = None
    s3.faults.clear()
    settings = StoreSettings(endpoint_url=s3.url, retries=3, timeout_s=1)
    return open_store(f"s3://bucket/{abs(hash(request.node.name))}/", settings)


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path) -> Store:
    return open_store(str(tmp_path / "run")) if request.param == "local" else request.getfixturevalue("s3_store")


def table(n: int = 20) -> pa.Table:
    vectors = vector_array(np.arange(4 * n, dtype=np.float32).reshape(n, 4))
    schema = pa.schema([("row_id", pa.string()), vector_field("embedding", 4), ("thumbnail", pa.binary())])
    return pa.table([[str(i) for i in range(n)], vectors, [b"x"] * n], schema=schema)


def once(*names: str):
    """A fault for the first requests, then none."""
    left = list(names)
    return lambda method, path: left.pop(0) if left else None


class TestBoth:
    def test_a_file_comes_back_as_it_was_written(self, store):
        assert store.write_bytes("a/b.bin", b"12345") is True
        assert store.read_bytes("a/b.bin") == b"12345" and store.exists("a/b.bin")
        assert store.write_bytes("a/b.bin", b"6") is True
        assert store.read_bytes("a/b.bin") == b"6"

    def test_the_first_writer_wins_where_asked(self, store):
        assert store.write_bytes("claim", b"first", overwrite=False) is True
        assert store.write_bytes("claim", b"second", overwrite=False) is False
        assert store.read_bytes("claim") == b"first"

    def test_of_many_writers_at_once_one_wins(self, store):
        start, wins = threading.Barrier(6), []

        def claim(i: int) -> None:
            start.wait(10)
            if store.write_bytes("claim", str(i).encode(), overwrite=False):
                wins.append(i)

        threads = [threading.Thread(target=claim, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)
        assert len(wins) == 1 and store.read_bytes("claim") == str(wins[0]).encode()

    def test_listing_is_sorted_recursive_and_by_prefix(self, store):
        assert store.list("scores/") == []
        for key in ("scores/b", "scores/a", "scores/deep/c", "scoresheet", "other"):
            store.write_bytes(key, key.encode())
        assert [e[:2] for e in store.list("scores/")] == [("scores/a", 8), ("scores/b", 8), ("scores/deep/c", 13)]
        assert [e.key for e in store.list("scores")][-1] == "scoresheet"

    def test_deleting_twice_is_no_error(self, store):
        store.write_bytes("x", b"1")
        store.delete("x")
        store.delete("x")
        assert not store.exists("x") and store.list("") == []

    def test_a_missing_file_is_one_message_that_names_it(self, store):
        for read in (store.read_bytes, store.read_table, store.read_metadata, store.read_json):
            with pytest.raises(StoreError, match="gone"):
                read("gone")

    def test_a_table_keeps_types_and_metadata_and_gives_single_columns(self, store):
        store.write_table("t.parquet", table(), {"aistudio.shard": "s"})
        assert store.read_table("t.parquet").equals(table())
        assert store.read_table("t.parquet", ["embedding", "nowhere"], verify=True).column_names == ["embedding"]
        schema, rows, metadata = store.read_metadata("t.parquet")
        assert rows == 20 and metadata["aistudio.shard"] == "s" and vector_width(schema.field("embedding")) == 4
        store.write_table("t.parquet", store.read_table("t.parquet"), {"aistudio.shard": "other"})
        assert store.read_metadata("t.parquet")[2] == {"aistudio.shard": "other"}

    def test_a_damaged_table_is_found(self, store):
        store.write_table("t.parquet", table(2000))
        whole = store.read_bytes("t.parquet")
        page = pq.ParquetFile(pa.BufferReader(whole)).metadata.row_group(0).column(1).data_page_offset
        flipped = bytearray(whole)
        flipped[page + 2000] ^= 0xFF
        store.write_bytes("flipped", bytes(flipped))
        with pytest.raises(StoreError, match=r"flipped: damaged or not Parquet"):
            store.read_table("flipped", verify=True)
        for name, data in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"no parquet at all")):
            store.write_bytes(name, data)
            with pytest.raises(StoreError, match=f"{name}: damaged or not Parquet"):
                store.read_table(name)

    def test_json_round_trip_and_a_broken_one(self, store):
        store.write_json("a.json", {"è": [1, None]})
        assert store.read_json("a.json") == {"è": [1, None]}
        store.write_bytes("b.json", b"{")
        with pytest.raises(StoreError, match=r"b\.json: not valid JSON"):
            store.read_json("b.json")

    def test_the_probe_leaves_nothing_behind(self, store):
        store.check_writable()
        store.check_writable()
        assert store.list("") == []

    def test_a_store_travels_to_another_process(self, store):
        import pickle

        store.write_bytes("x", b"1")
        assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"


class TestLocal:
    def test_a_whole_file_replaces_another_or_leaves_it(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path))
        store.write_bytes("a/file", b"before")
        stream = io.BytesIO(b"x" * 3_000_000)
        stream.seek(5)
        store.write_file("a/file", stream)
        assert store.read_bytes("a/file") == stream.getvalue()

        class Broken(io.BytesIO):
            def read(self, *_):
                raise OSError(errno.EIO, "Input/output error")

        with pytest.raises(StoreError, match="Input/output error"):
            store.write_file("a/file", Broken(b"new"))
        assert store.read_bytes("a/file") == stream.getvalue()
        assert [p.name for p in (tmp_path / "a").iterdir()] == ["file"]

    def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path))
        store.write_bytes("x", b"old")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"x: no space left on the disk; what was stored stays valid"):
            store.write_bytes("x", b"new")
        monkeypatch.undo()
        assert store.read_bytes("x") == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EIO, errno.ENOSPC])
    def test_a_file_system_that_cannot_sync_folders_is_no_failure_but_a_broken_disk_is(
        self, tmp_path, monkeypatch, number
    ):
        store, sync = open_store(str(tmp_path / "run")), os.fsync

        def of_files_only(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", of_files_only)
        if number in (errno.EIO, errno.ENOSPC):
            with pytest.raises(StoreError):
                store.write_bytes("x", b"1")
        else:
            assert store.write_bytes("x", b"1", overwrite=False) and store.read_bytes("x") == b"1"

    def test_a_file_size_limit_is_one_message(self, tmp_path):
        resource = pytest.importorskip("resource")
        store, before = open_store(str(tmp_path)), resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(StoreError, match=r"x: File too large"):
                store.write_bytes("x", b"0" * 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []

    def test_a_denied_write_is_one_message(self, tmp_path, monkeypatch):
        def denied(*_: object, **__: object) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
        with pytest.raises(StoreError, match="no permission"):
            open_store(str(tmp_path)).check_writable()

    def test_a_file_in_the_folders_place_is_an_error_not_a_lost_race(self, tmp_path):
        (tmp_path / "scores").write_text("a file")
        with pytest.raises(StoreError, match="scores"):
            open_store(str(tmp_path)).write_bytes("scores/a", b"1", overwrite=False)

    def test_a_folder_that_cannot_be_read_does_not_look_empty(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path))
        store.write_bytes("scores/a", b"1")

        def denied(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "scandir", denied)
        with pytest.raises(StoreError, match="no permission"):
            store.list("scores/")

    def test_a_file_system_without_hard_links_is_named(self, tmp_path, monkeypatch):
        def unsupported(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", unsupported)
        with pytest.raises(StoreError, match="no hard links"):
            open_store(str(tmp_path)).check_writable()

    def test_unfinished_writes_are_not_listed_and_can_be_swept(self, tmp_path):
        store = open_store(str(tmp_path))
        store.write_bytes("scores/a.parquet", b"1")
        scrap = tmp_path / "scores" / ".b.parquet.0123.tmp"
        scrap.write_bytes(b"half")
        assert [e.key for e in store.list("scores/")] == ["scores/a.parquet"]
        store.sweep("scores/")
        store.sweep("nowhere/")
        assert not scrap.exists() and store.exists("scores/a.parquet")


class TestS3:
    @pytest.mark.parametrize("fault", ["slow_down", "error", "hang"])
    def test_two_failures_in_a_row_are_retried(self, s3, s3_store, fault):
        s3.fault = once(fault, fault)
        s3_store.write_bytes("x", b"123")
        s3.fault = once(fault, fault)
        assert s3_store.read_bytes("x") == b"123"
        s3.fault = once(fault)
        assert [e.key for e in s3_store.list("")] == ["x"]
        assert s3.faults[fault] == 5

    def test_a_body_that_breaks_off_is_asked_for_again(self, s3, s3_store):
        s3_store.write_bytes("x", b"0123456789" * 100)
        s3.fault = once("cut", "cut")
        assert s3_store.read_bytes("x") == b"0123456789" * 100
        assert s3.faults["cut"] == 2

    def test_a_body_that_always_breaks_off_is_one_message(self, s3, s3_store):
        s3_store.write_bytes("x", b"0123456789" * 100)
        s3.fault = lambda method, path: "cut"
        with pytest.raises(StoreError, match=r"s3://bucket/.*/x: "):
            s3_store.read_bytes("x")

    def test_a_store_that_stays_down_is_one_message(self, s3, s3_store):
        s3.fault = lambda method, path: "slow_down"
        with pytest.raises(StoreError, match=r"/x: .*SlowDown") as caught:
            s3_store.write_bytes("x", b"1")
        assert "\n" not in str(caught.value) and s3.faults["slow_down"] == 4  # 1 + retries

    def test_a_denied_write_is_not_retried(self, s3, s3_store):
        s3.fault = lambda method, path: "denied" if method == "PUT" else None
        with pytest.raises(StoreError, match="AccessDenied"):
            s3_store.check_writable()
        assert s3.faults["denied"] == 1

    def test_a_claim_whose_answer_got_lost_is_not_taken_by_two(self, s3, s3_store):
        s3.fault = once("late_error")
        first = s3_store.write_bytes("claim", b"first", overwrite=False)
        assert first is False  # the retry found the file: nobody may believe to be the second first
        assert s3_store.read_bytes("claim") == b"first"

    def test_a_conflict_is_asked_again_because_the_other_writer_may_fail(self, s3, s3_store):
        s3.fault = once("conflict", "conflict")
        assert s3_store.write_bytes("claim", b"1", overwrite=False) is True
        assert s3_store.read_bytes("claim") == b"1"

    def test_a_parquet_file_is_read_in_ranges(self, s3, s3_store):
        s3_store.write_table("t.parquet", table(50_000))
        sizes = []
        read = s3_store._backend._get
        s3_store._backend._get = lambda key, **kw: sizes.append(len(body := read(key, **kw))) or body
        column = s3_store.read_table("t.parquet", ["thumbnail"])
        assert column.num_rows == 50_000
        whole = s3_store.list("")[0].size
        assert 0 < sum(sizes) < whole / 2

    def test_what_is_read_is_one_object_however_many_reads_it_takes(self, s3_store):
        s3_store.write_bytes("a", b"1" * 300_000)
        etag = s3_store.list("a")[0].etag
        with s3_store.open("a", etag=etag) as f:
            assert f.read(10) == b"1" * 10
            s3_store.write_bytes("a", b"2" * 300_000)
            with pytest.raises(ChangedError, match="a: replaced while it was being read"):
                f.read()
        with pytest.raises(ChangedError, match="a: another object by now, of 300,000 bytes"):
            s3_store.open("a", etag=etag)
        with s3_store.open("a") as f:
            assert f.read() == b"2" * 300_000

    def test_a_service_that_refuses_the_condition_is_refused(self, s3, s3_store):
        s3.fault = lambda method, path: "not_implemented" if method == "PUT" else None
        with pytest.raises(StoreError, match="does not honour a conditional create"):
            s3_store.write_bytes("claim", b"first", overwrite=False)

    def test_a_service_that_ignores_the_condition_is_refused_before_a_run(self, s3, s3_store, monkeypatch):
        monkeypatch.setattr(s3, "ignores_conditions", True)
        with pytest.raises(StoreError, match="does not honour a conditional create"):
            s3_store.check_writable()
        assert s3_store.list("") == []  # the probe is gone

    def test_requests_to_a_public_bucket_are_not_signed(self, s3, s3_store, monkeypatch):
        key = s3_store.path("x").removeprefix("s3://bucket/")
        s3.client.put_object(Bucket="bucket", Key=key, Body=b"1", ACL="public-read")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(StoreError, match="credentials"):
            open_store(s3_store.root, s3_store.settings).read_bytes("x")
        settings = s3_store.settings.model_copy(update={"public_buckets": ("s3://bucket",)})
        assert open_store(s3_store.root, settings).read_bytes("x") == b"1"


ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates included
PLAIN_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
)


@given(PLAIN_DATA)
def test_any_plain_data_becomes_json_that_is_read_back(tmp_path_factory, value):
    store = open_store(str(tmp_path_factory.mktemp("json")))
    store.write_json("a.json", {"value": value})
    assert store.read_json("a.json") == {"value": storable_json(value)}
    assert storable_json(storable_json(value)) == storable_json(value)


def test_ordinary_json_is_left_alone_and_the_rest_is_written_as_escapes():
    ordinary = {"a": ["图", 1, 2.5, None, True], "long": "x" * 100_000}
    assert storable_json(ordinary) == ordinary
    assert storable_json({"\udce9": ("a\0", float("nan"), float("inf"))}) == {r"\xe9": [r"a\x00", None, None]}
