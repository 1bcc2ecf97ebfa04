"""Pictures inside files: the same bytes from every kind of file and place, limits hold, damage fails its row alone."""

import io
import os
import random
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.catalogue.archives import Member
from aistudio.catalogue.tar import Tar
from aistudio.catalogue.zip import Zip
from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images._fetched import FetchFailed
from aistudio.images._parquet_rows import RowReader
from aistudio.images._parts import PartReader
from aistudio.images.download import Downloader
from aistudio.images.urls import BadURL, parse_target
from aistudio.parts import Part, footer_mark, part_address
from aistudio.schema import Status
from tests.archives import tar_of, zip_of
from tests.s3_server import S3Server

BODIES = {f"d/{i}.jpg": random.Random(i).randbytes(100 + 37 * i) for i in range(12)}
MOST = 10_000


def addresses(place: str, data: bytes, kind: str) -> dict[str, str]:
    archive = (Tar if kind == "tar" else Zip)(io.BytesIO(data))
    found = [m for m in archive.members() if isinstance(m, Member)]
    return {m.name: part_address(place, Part(kind, m.name, m.at, m.num_bytes)) for m in found}


def rows_file(bodies, kind=None, **kw) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array(bodies, kind or pa.binary())}), out, **kw)
    return out.getvalue()


def fetch(urls, store=None, **download):
    settings = DownloadSettings.model_validate({"max_bytes": MOST, "retries": 0, **download})
    with Downloader(settings, store or StoreSettings()) as downloader:
        found = dict(downloader.stream([(url, None) for url in urls]))
    return [found[i] for i in range(len(urls))]


def read(place, part, max_bytes=MOST):
    try:
        return PartReader(StoreSettings()).read(str(place), part, max_bytes).body
    except FetchFailed as e:
        return e.status, e.error


@pytest.mark.parametrize("kind", ["tar", "zip", "stored", "parquet", "hub parquet"])
def test_every_picture_comes_back_as_it_went_in(tmp_path, kind):
    if "parquet" in kind:
        hub = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        bodies = list(BODIES.values())
        values = [{"bytes": b, "path": "x"} for b in bodies] if kind.startswith("hub") else bodies
        path = tmp_path / "a.parquet"
        path.write_bytes(rows_file(values, hub if kind.startswith("hub") else None, row_group_size=5))
        urls = [part_address(str(path), Part("row", "image", n)) for n in range(1, 13)]
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        data = tar_of(BODIES) if kind == "tar" else zip_of(BODIES, method)
        path = tmp_path / f"a.{kind}"
        path.write_bytes(data)
        urls = list(addresses(str(path), data, "tar" if kind == "tar" else "zip").values())
    random.Random(3).shuffle(urls)
    found = fetch(urls)
    assert all(f.status is Status.OK for f in found), [f.error for f in found]
    assert sorted(f.body for f in found) == sorted(BODIES.values())


def test_from_a_bucket_in_ranges(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    tar, table = tar_of(BODIES), rows_file(list(BODIES.values()))
    with S3Server() as s3:
        s3.client.put_object(Bucket="bucket", Key="x/a.tar", Body=tar)
        s3.client.put_object(Bucket="bucket", Key="x/a.parquet", Body=table)
        urls = list(addresses("s3://bucket/x/a.tar", tar, "tar").values())
        urls += [part_address("s3://bucket/x/a.parquet", Part("row", "image", n)) for n in range(1, 13)]
        urls += [urls[0].replace("a.tar", "gone.tar"), urls[0].replace("bucket/x", "nobucket/x")]
        store = StoreSettings(endpoint_url=s3.url, retries=0)
        s3.hits.clear()
        found = fetch(urls, store)
        assert [f.body for f in found[:-2]] == [*BODIES.values(), *BODIES.values()]
        assert [f.status for f in found[-2:]] == [Status.NOT_FOUND, Status.NOT_FOUND]
        assert s3.hits["HEAD"] <= 8  # each file is opened once or twice, not once per picture
        assert s3.hits["GET"] < 10  # one block for all members


class TestLimits:
    def test_of_archives_members(self, tmp_path):
        data = zip_of({"bomb.jpg": b"0" * 10_000_000, "big.jpg": os.urandom(20_000)})
        (tmp_path / "a.zip").write_bytes(data)
        found = fetch(addresses(str(tmp_path / "a.zip"), data, "zip").values())
        assert [f.status for f in found] == [Status.TOO_LARGE, Status.TOO_LARGE]
        part = Part("tar", "x.jpg", 512, 10**15)
        assert read(tmp_path / "a.zip", part)[0] is Status.TOO_LARGE

    def test_of_rows(self, tmp_path):
        path = tmp_path / "a.parquet"
        path.write_bytes(rows_file([b"x" * 10_000, b"x" * 10_001, b"", None, b"y"]))
        found = [read(path, Part("row", "image", n)) for n in range(1, 6)]
        assert found[0] == b"x" * 10_000 and found[4] == b"y"
        assert [f[0] for f in found[1:4]] == [Status.TOO_LARGE, Status.EMPTY, Status.EMPTY]
        assert "10,001 bytes; download.max_bytes is 10,000" in found[1][1]


class TestDamage:
    def test_an_archive_that_was_replaced_gives_no_wrong_picture(self, tmp_path):
        path = tmp_path / "a.tar"
        first = tar_of({"a.jpg": b"a" * 600, "b.jpg": b"b" * 600})
        urls = addresses(str(path), first, "tar")
        path.write_bytes(tar_of({"b.jpg": b"b" * 600, "a.jpg": b"a" * 600}))
        found = fetch(urls.values())
        assert [f.status for f in found] == [Status.NOT_FOUND] * 2
        assert "another one than when it was listed" in found[0].error

    def test_a_parquet_file_that_was_replaced_gives_no_wrong_picture(self, tmp_path):
        path = tmp_path / "a.parquet"
        first, second = rows_file([b"a" * 50, b"b" * 50]), rows_file([b"b" * 50, b"a" * 51])
        reader = PartReader(StoreSettings())
        marks = [footer_mark(io.BytesIO(data)) for data in (first, second)]
        assert len(set(marks)) == 2
        for data, seen in ((first, [b"a" * 50, None]), (second, [None, b"b" * 50]), (first, [b"a" * 50, None])):
            path.write_bytes(data)
            for mark, expected in zip(marks, seen, strict=True):
                part = Part("row", "image", 1, mark=mark)
                try:
                    assert reader.read(str(path), part, MOST).body == expected
                except FetchFailed as e:
                    assert expected is None and e.status is Status.NOT_FOUND and "another file" in e.error

    def test_cut_short(self, tmp_path):
        data = tar_of({"a.jpg": b"a" * 600, "b.jpg": b"b" * 600})
        (tmp_path / "a.tar").write_bytes(data[:1800])
        first, second = fetch(addresses(str(tmp_path / "a.tar"), data, "tar").values())
        assert first.body == b"a" * 600
        assert second.status is Status.NOT_FOUND or second.status is Status.TRUNCATED_IMAGE
        (tmp_path / "b.tar").write_bytes(data[:2300])
        _, second = fetch(addresses(str(tmp_path / "b.tar"), data, "tar").values())
        assert second.status is Status.TRUNCATED_IMAGE and "of 600 bytes are there" in second.error

    def test_a_zips_checksum_and_method(self, tmp_path):
        data = bytearray(zip_of({"a.jpg": b"a" * 600}, zipfile.ZIP_STORED))
        data[30 + 5 + 100] ^= 1
        (tmp_path / "a.zip").write_bytes(data)
        (found,) = fetch(addresses(str(tmp_path / "a.zip"), bytes(data), "zip").values())
        assert found.status is Status.TRUNCATED_IMAGE and "checksum" in found.error
        odd = zip_of({"a.jpg": b"a" * 600}, zipfile.ZIP_LZMA)
        (tmp_path / "b.zip").write_bytes(odd)
        (found,) = fetch(addresses(str(tmp_path / "b.zip"), odd, "zip").values())
        assert found.status is Status.UNSUPPORTED_IMAGE and "packed by method 14" in found.error

    def test_a_zip_that_was_streamed_has_its_checksum_behind_the_data(self, tmp_path):
        out = io.BytesIO()

        class Pipe(io.RawIOBase):
            def writable(self):
                return True

            def write(self, data):
                return out.write(data)

        with zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.jpg", b"a" * 600)
        data = out.getvalue()
        assert struct.unpack_from("<H", data, 6)[0] & 0x8
        (tmp_path / "a.zip").write_bytes(data)
        (found,) = fetch(addresses(str(tmp_path / "a.zip"), data, "zip").values())
        assert found.body == b"a" * 600

    def test_pages_of_a_parquet_file(self, tmp_path):
        path = tmp_path / "a.parquet"
        bodies = [os.urandom(2000) for _ in range(40)]
        data = bytearray(rows_file(bodies, row_group_size=20, compression="zstd", write_page_checksum=False))
        data[4:24] = b"\xff" * 20  # the first page's header
        path.write_bytes(data)
        urls = [part_address(str(path), Part("row", "image", n)) for n in range(1, 41)]
        found = fetch(urls)
        assert [f.body for f in found[20:]] == bodies[20:]  # the other row group
        assert {f.status for f in found[:20]} <= {Status.TRUNCATED_IMAGE, Status.OK}
        assert found[0].status is Status.TRUNCATED_IMAGE and "damaged" in found[0].error

    def test_what_is_not_there(self, tmp_path):
        path = tmp_path / "a.parquet"
        path.write_bytes(rows_file([b"x"]))
        part = Part("row", "image", 2)
        assert read(path, part) == (Status.NOT_FOUND, "the file has 1 rows, none of number 2")
        assert read(path, Part("row", "picture", 1))[0] is Status.NOT_FOUND
        assert read(tmp_path / "gone.parquet", part)[0] is Status.NOT_FOUND
        assert read(tmp_path / "gone.tar", Part("tar", "a", 512, 1))[0] is Status.NOT_FOUND
        assert read(tmp_path, Part("tar", "a", 512, 1))[0] is Status.CONNECTION_ERROR  # a folder
        (tmp_path / "no.parquet").write_bytes(b"not Parquet")
        assert read(tmp_path / "no.parquet", part)[0] is Status.TRUNCATED_IMAGE


def test_rows_asked_for_in_any_order_by_many_threads_are_decoded_about_once(tmp_path):
    path = tmp_path / "a.parquet"
    bodies = [random.Random(i).randbytes(500) for i in range(400)]
    path.write_bytes(rows_file(bodies, row_group_size=200))
    opened = []

    def open_file(place):
        opened.append(place)
        return open(place, "rb")  # noqa: PTH123

    reader = RowReader(open_file)
    order = sorted(range(400), key=lambda n: n + random.Random(n).random() * 30)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: reader.read(str(path), Part("row", "image", n + 1), MOST), order))
    assert found == [bodies[n] for n in order]
    assert len(opened) == 3  # the footer and two row groups


def test_places(tmp_path):
    inside = "#tar=a.jpg&at=512&bytes=9"
    assert parse_target(f"hf://datasets/o/n@1/a.tar{inside}").scheme == "hf"
    assert parse_target(f"S3://b/a.tar{inside}".lower()).part == Part("tar", "a.jpg", 512, 9)
    assert parse_target(f"file:///d/a%20b.tar{inside}").path == "/d/a b.tar"
    assert parse_target(f"http://h/a.tar{inside}").part is None  # a fragment, as ever
    for wrong in (f"ftp://h/a.tar{inside}", f"s3://b{inside}", f"hf://x{inside}"):
        with pytest.raises(BadURL):
            parse_target(wrong)
    with pytest.raises(BadURL, match="climbs out"):
        parse_target(f"https://h/../a.tar{inside}", {"https://h/": "/data/"})


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_bucket_that_fails_costs_the_rows_asked_for_meanwhile(monkeypatch, kind):
    monkeypatch.setattr("aistudio.file_ranges.BLOCK_BYTES", 512)  # else all members are in memory after the first
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    data = tar_of(BODIES) if kind == "tar" else rows_file(list(BODIES.values()), row_group_size=12)
    with S3Server() as s3:
        s3.client.put_object(Bucket="bucket", Key="a", Body=data)
        rows = [part_address("s3://bucket/a", Part("row", "image", n)) for n in range(1, 13)]
        urls = rows if kind == "parquet" else list(addresses("s3://bucket/a", data, "tar").values())
        settings = DownloadSettings(max_bytes=MOST, retries=0)
        with Downloader(settings, StoreSettings(endpoint_url=s3.url, retries=0)) as downloader:

            def now(some):
                found = dict(downloader.stream([(url, None) for url in some]))
                return [found[i] for i in range(len(some))]

            assert now(urls[:1])[0].body == BODIES["d/0.jpg"]
            for fault, status in (("error", Status.CONNECTION_ERROR), ("denied", Status.ACCESS_DENIED)):
                s3.fault = lambda method, path, fault=fault: fault
                failed = now([urls[0], urls[11]] if kind == "tar" else [urls[0]])  # other rows are in memory already
                assert {f.status for f in failed} == {status}, [f.error for f in failed]
                s3.fault = None
            assert [f.body for f in now(urls)] == list(BODIES.values())
            again = tar_of(dict(reversed(BODIES.items()))) if kind == "tar" else data
            s3.client.put_object(Bucket="bucket", Key="a", Body=again + b"\0" * 512)
            replaced = now(urls[3:4])[0]
            assert replaced.status is Status.NOT_FOUND or replaced.body == BODIES["d/3.jpg"]
