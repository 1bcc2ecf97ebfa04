"""The output of img2dataset as a manifest: every row once, its own bytes behind its address, nothing fetched."""

import pyarrow.parquet as pq
import pytest

from aistudio.config import DownloadSettings, StoreSettings, load_config
from aistudio.errors import ConfigError, ManifestError
from aistudio.images.download import Downloader
from aistudio.jobs.import_img2dataset import main
from aistudio.runs.img2dataset import import_output
from aistudio.runs.snapshot import find_manifest
from tests.img2dataset_output import write_output
from tests.s3_server import S3Server

JPEGS = [b"\xff\xd8\xff" + bytes([i]) * (50 + i) for i in range(9)]
SHARDS = [[*JPEGS[:4], "404", JPEGS[4]], ["timed out"], JPEGS[5:]]


def fetched(rows, store=None):
    with Downloader(DownloadSettings(retries=0), store or StoreSettings()) as downloader:
        found = dict(downloader.stream([(row["image_url"], None) for row in rows]))
    return [found[i].body for i in range(len(rows))]


@pytest.mark.parametrize("output_format", ["webdataset", "files", "parquet"])
def test_every_format_gives_the_same_manifest(tmp_path, output_format):
    write_output(tmp_path / "out", SHARDS, output_format)
    target = tmp_path / "m" / "manifest.parquet"
    done = import_output(str(tmp_path / "out"), target, StoreSettings())
    assert (done.shards, done.rows, dict(done.left_out), done.notes) == (3, 9, {"failed_to_download": 2}, [])
    rows = pq.read_table(target).to_pylist()
    assert fetched(rows) == JPEGS
    assert [r["item_id"] for r in rows[:5]] == ["000000000", "000000001", "000000002", "000000003", "000000005"]
    assert (
        rows[4]["text"] == "picture 5 of 0" and rows[4]["url"] == "http://h/0/5.jpg" and rows[4]["status"] == "success"
    )
    assert "jpg" not in rows[0]
    left = pq.read_table(tmp_path / "m" / "manifest_left_out.parquet").to_pylist()
    assert [(r["shard"], r["key"], r["reason"]) for r in left] == [
        ("00000", "000000004", "failed_to_download"), ("00001", "000010000", "failed_to_download"),
    ]  # fmt: skip


def test_rows_that_failed_can_be_fetched_again(tmp_path):
    write_output(tmp_path / "out", SHARDS, "webdataset")
    done = import_output(str(tmp_path / "out"), tmp_path / "m.parquet", StoreSettings(), fetch_failed=True, item="url")
    rows = pq.read_table(tmp_path / "m.parquet").to_pylist()
    assert done.fetch == 2 and not done.left_out and len(rows) == 11
    assert [r["image_url"] for r in rows if r["status"] != "success"] == ["http://h/0/4.jpg", "http://h/1/0.jpg"]
    assert rows[0]["item_id"] == "http://h/0/0.jpg"


def test_what_is_unfinished_damaged_or_missing_is_told_and_counted(tmp_path):
    folder = tmp_path / "out"
    write_output(folder, [JPEGS[:4], JPEGS[4:6], JPEGS[6:8], JPEGS[8:]], "webdataset")
    (folder / "00001_stats.json").unlink()
    whole = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(whole[: len(whole) // 2])
    (folder / "00002_stats.json").write_text('{"count": 7}')
    (folder / "00003_stats.json").write_text("{")
    done = import_output(str(folder), tmp_path / "m.parquet", StoreSettings())
    assert done.shards == 3 and done.rows + sum(done.left_out.values()) == 7
    assert done.left_out["its picture is missing"] >= 1
    notes = "\n".join(done.notes)
    for told in ("shard 00001: left out whole", "00000.tar: the archive", "say 7 rows, its table has 2",
                 "shard 00003: its statistics cannot be read"):  # fmt: skip
        assert told in notes


def test_an_output_in_a_bucket(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    write_output(tmp_path / "out", SHARDS, "webdataset")
    with S3Server() as s3:
        for path in (tmp_path / "out").iterdir():
            s3.client.put_object(Bucket="bucket", Key=f"laion/{path.name}", Body=path.read_bytes())
        store = StoreSettings(endpoint_url=s3.url)
        import_output("s3://bucket/laion", tmp_path / "m.parquet", store)
        assert fetched(pq.read_table(tmp_path / "m.parquet").to_pylist(), store) == JPEGS


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [p.unlink() for p in folder.glob("*_stats.json")], "no finished shard"),
        (lambda folder: (folder / "00000.tfrecord").write_bytes(b""), "tfrecord is not read"),
        (lambda folder: (folder / "00000.parquet").write_bytes(b"x"), "not a readable Parquet file"),
        (lambda folder: pq.write_table(pq.read_table(folder / "00000.parquet").drop_columns("status"),
                                       folder / "00000.parquet"), "no column 'status'"),
    ],
)  # fmt: skip
def test_what_is_no_output_is_refused(tmp_path, spoil, message):
    write_output(tmp_path / "out", [JPEGS[:2]], "webdataset")
    spoil(tmp_path / "out")
    with pytest.raises(ManifestError, match=message):
        import_output(str(tmp_path / "out"), tmp_path / "m.parquet", StoreSettings())


def test_the_job_writes_a_conf_that_finds_its_manifest(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_output(tmp_path / "out", SHARDS, "webdataset")
    command = ["out", "--out", "laion.parquet", "--conf", "laion.yaml"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "3 shards: 9 rows in laion.parquet; 2 left out" in shown and "failed_to_download" in shown
    files, columns = find_manifest(load_config("laion.yaml"))
    assert len(files) == 1 and columns.mapping["image_url"] == "image_url"
    with pytest.raises(ConfigError, match="there already; say --force"):
        main(command)
    assert main([*command, "--force"]) == 0
