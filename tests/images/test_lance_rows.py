"""Pictures in Lance data sets: every byte as it went in, few reads, limits, and damage that costs its rows alone."""

import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images import _lance_rows
from aistudio.images._fetched import FetchFailed
from aistudio.images._parts import PartReader
from aistudio.images.download import Downloader
from aistudio.lance_data import open_lance
from aistudio.parts import Part, part_address
from aistudio.schema import Status
from aistudio.store import open_store
from tests.object_servers import AZ_KEY, AzServer, GsServer
from tests.s3_server import S3Server

lance = pytest.importorskip("lance", reason="the library of the extra `lance`")

MOST = 10_000
BODIES = [random.Random(i).randbytes(100 + 37 * i) for i in range(40)]
HUB = pa.struct([("path", pa.string()), ("bytes", pa.binary())])  # the other way round than usual
BLOB = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})


def write(place, bodies, kind="binary", **kw):
    if kind == "hub":
        values = pa.array([b if b is None else {"path": "x", "bytes": b} for b in bodies], HUB)
    elif kind == "blob 2":
        values, kw = lance.blob_array(bodies), {"data_storage_version": "2.2", **kw}
    else:
        values = pa.array(bodies, pa.large_binary() if kind == "blob" else pa.binary())
    schema = pa.schema([BLOB]) if kind == "blob" else None
    lance.write_dataset(pa.table([values], schema=schema, names=None if schema else ["image"]), str(place), **kw)
    return str(place)


def parts(place, rows, mark=None):
    mark = mark or open_lance(place, StoreSettings()).mark
    return [Part("lance", "image", n, mark=mark) for n in rows]


def read(reader, place, part, max_bytes=MOST):
    try:
        return reader.read(place, part, max_bytes).body
    except FetchFailed as e:
        return e.status, e.error


@pytest.mark.parametrize("kind", ["binary", "hub", "blob", "blob 2"])
def test_every_picture_comes_back_as_it_went_in(tmp_path, kind):
    place = write(tmp_path / "a.lance", BODIES, kind, max_rows_per_file=17)
    lance.dataset(place).delete("true and 1 = 0")
    urls = [part_address(place, part) for part in parts(place, range(1, 41))]
    order = list(range(40))
    random.Random(3).shuffle(order)
    with Downloader(DownloadSettings(max_bytes=MOST, retries=0), StoreSettings()) as downloader:
        found = dict(downloader.stream([(urls[n], None) for n in order]))
    assert [found[i].body for i in range(40)] == [BODIES[n] for n in order], [f.error for f in found.values()]


@pytest.mark.parametrize("kind", ["binary", "hub", "blob", "blob 2"])
def test_limits_and_empty_values(tmp_path, kind):
    place = write(tmp_path / "a.lance", [b"x" * MOST, b"x" * (MOST + 1), b"", None, b"y"], kind)
    reader = PartReader(StoreSettings())
    found = [read(reader, place, part) for part in parts(place, range(1, 6))]
    assert found[0] == b"x" * MOST and found[4] == b"y"
    assert [f[0] for f in found[1:4]] == [Status.TOO_LARGE, Status.EMPTY, Status.EMPTY]
    assert "10,001 bytes; download.max_bytes is 10,000" in found[1][1]


def test_neighbours_are_read_once_by_many_threads(tmp_path, monkeypatch):
    place = write(tmp_path / "a.lance", [random.Random(i).randbytes(500) for i in range(400)])
    taken = []
    real = _lance_rows._taken

    def counted(place, version, column, rows, max_bytes):
        taken.append(rows)
        return real(place, version, column, rows, max_bytes)

    monkeypatch.setattr(_lance_rows, "_taken", counted)
    reader = PartReader(StoreSettings())
    order = sorted(range(400), key=lambda n: n + random.Random(n).random() * 30)
    wanted = parts(place, range(1, 401))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: read(reader, place, wanted[n]), order))
    assert found == [random.Random(n).randbytes(500) for n in order]
    assert len(taken) == 400 // 16 and max(map(len, taken)) == 16


def test_large_pictures_are_read_one_by_one(tmp_path):
    place = write(tmp_path / "a.lance", [os.urandom(3_000_000) for _ in range(3)])
    reader = _lance_rows.LanceReader(StoreSettings())
    [part] = parts(place, [2])
    assert len(reader.read(place, part, 10**7)) == 3_000_000 and not reader._blocks


class TestVersions:
    def test_an_older_version_is_read_as_it_was(self, tmp_path):
        place = write(tmp_path / "a.lance", [b"a", b"b", b"c"])
        before = parts(place, [1, 2, 3])
        lance.dataset(place).delete("image = X'61'")
        lance.write_dataset(pa.table({"image": [b"d"]}), place, mode="append")
        reader = PartReader(StoreSettings())
        assert [read(reader, place, part) for part in before] == [b"a", b"b", b"c"]
        assert [read(reader, place, part) for part in parts(place, [1, 2, 3])] == [b"b", b"c", b"d"]

    def test_another_data_set_gives_no_wrong_picture(self, tmp_path):
        place = write(tmp_path / "a.lance", [b"a"])
        before = parts(place, [1])
        shutil.rmtree(place)
        reader = PartReader(StoreSettings())
        status, error = read(reader, place, before[0])
        assert status is Status.NOT_FOUND, error
        write(place, [b"b"])
        status, error = read(reader, place, before[0])
        assert status is Status.NOT_FOUND and "another data set" in error

    def test_a_version_that_was_cleaned_up(self, tmp_path):
        place = write(tmp_path / "a.lance", [b"a", b"b"])
        [part] = parts(place, [1])
        gone = part._replace(mark=f"7-{part.mark[-8:]}")
        assert read(PartReader(StoreSettings()), place, gone)[0] is Status.NOT_FOUND

    def test_rows_and_columns_that_are_not_there(self, tmp_path):
        place = write(tmp_path / "a.lance", [b"a"])
        [part] = parts(place, [1])
        reader = PartReader(StoreSettings())
        assert read(reader, place, part._replace(at=2)) == (
            Status.NOT_FOUND, "the data set has 1 rows, none of number 2",
        )  # fmt: skip
        assert read(reader, place, part._replace(at=0))[0] is Status.NOT_FOUND
        assert read(reader, place, part._replace(name="picture"))[0] is Status.NOT_FOUND


class TestDamage:
    def test_a_damaged_file_costs_its_rows_alone(self, tmp_path):
        place = write(tmp_path / "a.lance", [os.urandom(2000) for _ in range(40)], max_rows_per_file=20)
        marked = parts(place, range(1, 41))
        files = {f.fragment_id: f.metadata.files[0].path for f in lance.dataset(place).get_fragments()}
        broken = tmp_path / "a.lance/data" / str(files[0])
        broken.write_bytes(broken.read_bytes()[:3000])
        reader = PartReader(StoreSettings())
        found = [read(reader, place, part) for part in marked]
        assert all(isinstance(f, bytes) and len(f) == 2000 for f in found[20:])
        assert {f[0] for f in found[:20]} == {Status.TRUNCATED_IMAGE}, found[0]

    def test_a_file_that_is_gone(self, tmp_path):
        place = write(tmp_path / "a.lance", [b"a"])
        [part] = parts(place, [1])
        shutil.rmtree(tmp_path / "a.lance/data")
        assert read(PartReader(StoreSettings()), place, part)[0] is Status.NOT_FOUND


class _S3(S3Server):
    scheme = "s3"

    def settings(self, **more):
        return StoreSettings(endpoint_url=self.url, **more)


@pytest.mark.parametrize("kind", [_S3, GsServer, AzServer], ids=["s3", "gs", "az"])
def test_from_a_bucket_in_few_requests(tmp_path, monkeypatch, kind):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_BEARER_TOKEN"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZ_KEY)
    place = write(tmp_path / "a.lance", BODIES)
    with kind() as server:
        settings = server.settings(retries=0)
        store = open_store(f"{server.scheme}://bucket/x", settings)
        for path in sorted(p for p in (tmp_path / "a.lance").rglob("*") if p.is_file()):
            store.write_bytes(f"a.lance/{path.relative_to(place)}", path.read_bytes())
        reader, there = PartReader(settings), f"{store.root}/a.lance"
        mark = open_lance(place, StoreSettings()).mark
        server.hits.clear()
        assert [read(reader, there, part) for part in parts(place, range(1, 41), mark)] == BODIES
        assert server.hits["GET"] < 25  # opening, and two or three for each block of 16
        fresh = PartReader(settings)
        [part] = parts(place, [1], mark)
        server.fault = lambda method, path: "denied"
        assert read(fresh, there, part)[0] is Status.ACCESS_DENIED
        server.fault = lambda method, path: "error"
        assert read(fresh, there, part)[0] is Status.CONNECTION_ERROR
        server.fault = None
        assert read(fresh, there, part) == BODIES[0]
        assert read(fresh, f"{store.root}/no.lance", part)[0] is Status.NOT_FOUND
