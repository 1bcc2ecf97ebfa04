"""Exports into buckets: the objects are the files of a local export, and half of one is never taken for a whole one."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ConfigError, StoreError
from aistudio.exports import FORMATS, bucket
from aistudio.exports.bucket import UNFINISHED
from aistudio.exports.export import export_run
from aistudio.exports.source import Wanted
from aistudio.jobs.export import _print
from aistudio.store import open_store
from tests.evaluation.stored_run import catalogue, write_run
from tests.object_servers import AZ_KEY, AzServer, GsServer
from tests.s3_server import S3Server


class _S3(S3Server):
    scheme = "s3"

    def settings(self, **more):
        from aistudio.config import StoreSettings

        return StoreSettings(endpoint_url=self.url, **more)


@pytest.fixture(scope="module", params=[_S3, GsServer, AzServer], ids=["s3", "gs", "az"])
def server(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_BEARER_TOKEN"):
            patch.setenv(name, "test")
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZ_KEY)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        with request.param() as made:
            yield made


@pytest.fixture
def place(server, request):
    """A prefix of its own for each test."""
    server.fault = None
    yield f"{server.scheme}://bucket/{request.node.name.replace('[', '-').replace(']', '')}"
    server.fault = None


@pytest.fixture
def run(tmp_path, server):
    store = write_run(tmp_path / "run", *catalogue())
    return type(store)(store.root, server.settings(retries=0))


def objects(place, server):
    store = open_store(place, server.settings())
    return {entry.key: store.read_bytes(entry.key) for entry in store.list("")}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_read_back_from_the_bucket(run, server, place, name, tmp_path):
    pytest.importorskip({"lance": "lance", "faiss": "faiss", "hf": "datasets"}.get(name, "webdataset"))
    made = export_run(run, name, f"{place}/", Wanted())
    found = objects(place, server)
    assert made.place == place and json.loads(found["export.json"]) == json.loads(json.dumps(made.about))
    assert made.about["rows"] == made.about["rows_read_back"] > 0 and UNFINISHED not in found
    for key, data in found.items():  # copied to a disk it is the export that a local one is
        (tmp_path / "copy" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / key).write_bytes(data)
    local = export_run(run, name, str(tmp_path / "local"), Wanted())
    assert local.about["rows"] == made.about["rows"]
    if name == "npy":
        assert (np.load(io.BytesIO(found["vectors.npy"])) == np.load(tmp_path / "local/vectors.npy")).all()
        assert pq.read_table(tmp_path / "copy/ids.parquet") == pq.read_table(tmp_path / "local/ids.parquet")
    if name == "lance":
        import lance

        assert lance.dataset(str(tmp_path / "copy/images.lance")).count_rows() == made.about["rows"]


def test_what_is_there_is_not_replaced_unasked(run, server, place, capsys):
    export_run(run, "npy", place, Wanted(where={"category": "hat"}))
    before = objects(place, server)
    with pytest.raises(ConfigError, match="there already; name another place, or say --overwrite"):
        export_run(run, "npy", place, Wanted())
    assert objects(place, server) == before
    store = open_store(place, server.settings())
    store.write_bytes("old/part.npy", b"of the first export")
    made = export_run(run, "npy", place, Wanted(), overwrite=True)
    _print(made)
    assert f"written: {place}    copy it into a FOLDER to open it: numpy.load" in capsys.readouterr().out
    after = objects(place, server)
    assert set(after) == set(before) == {"vectors.npy", "ids.parquet", "export.json"}
    assert len(after["vectors.npy"]) > len(before["vectors.npy"])
    store.delete("export.json")
    with pytest.raises(ConfigError, match=r"this is none \(no export.json\)"):
        export_run(run, "npy", place, Wanted(), overwrite=True)


def test_a_run_is_no_place_for_an_export(run, server, place):
    there = open_store(f"{place}/run", server.settings())
    for entry in run.list(""):
        there.write_bytes(entry.key, run.read_bytes(entry.key))
    for out in (f"{place}/run", f"{place}/run/export", place):
        with pytest.raises(ConfigError, match="lies in the run"):
            export_run(there, "npy", out, Wanted(), overwrite=True)
    assert export_run(there, "npy", f"{place}/run-export", Wanted()).about["rows"] > 0


@pytest.mark.parametrize("key", ["ids.parquet", "vectors.npy", "export.json", UNFINISHED])
def test_sending_that_fails_leaves_no_export_and_can_be_done_again(run, server, place, key):
    """At each file in turn, over an export that was there."""
    export_run(run, "npy", place, Wanted(where={"category": "hat"}))
    server.fault = lambda method, path: "denied" if method == "PUT" and path.endswith(key) else None
    with pytest.raises(StoreError):
        export_run(run, "npy", place, Wanted(), overwrite=True)
    server.fault = None
    there = objects(place, server)
    if key == UNFINISHED:
        assert json.loads(there["export.json"])["where"]  # nothing was changed yet
    else:
        assert "export.json" not in there and UNFINISHED in there
        with pytest.raises(ConfigError, match="an export that did not end is there"):
            export_run(run, "npy", place, Wanted())
    export_run(run, "npy", place, Wanted(), overwrite=True)
    assert set(objects(place, server)) == {"vectors.npy", "ids.parquet", "export.json"}


def test_another_object_that_comes_back_is_no_export(run, server, place, monkeypatch):
    real = bucket._send

    def send(path, store, key):
        if key == "vectors.npy":
            data = bytearray(path.read_bytes())
            real_write = store.write_file
            data[-1] ^= 1
            monkeypatch.setattr(store, "write_file", lambda k, stream: real_write(k, io.BytesIO(data)))
        real(path, store, key)

    monkeypatch.setattr(bucket, "_send", send)
    with pytest.raises(StoreError, match=r"read back as another file.*no whole export now.*no export\.json"):
        export_run(run, "npy", place, Wanted())
    assert "export.json" not in objects(place, server)


def test_somebody_else_who_writes_there_is_noticed(run, server, place, monkeypatch):
    real = bucket._send

    def send(path, store, key):
        real(path, store, key)
        if key == "vectors.npy":
            store.write_json(UNFINISHED, {"id": "another"})

    monkeypatch.setattr(bucket, "_send", send)
    with pytest.raises(StoreError, match="somebody else writes there"):
        export_run(run, "npy", place, Wanted())
    assert "export.json" not in objects(place, server)


def test_a_damaged_run_changes_nothing_in_the_bucket(run, server, place, tmp_path):
    export_run(run, "npy", place, Wanted())
    before = objects(place, server)
    path = tmp_path / "run/scores/00005.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="damaged"):
        export_run(run, "npy", place, Wanted(), overwrite=True)
    assert objects(place, server) == before
