"""Manifests from a real PostgreSQL: streamed, read only, resumed from the snapshot, the password nowhere."""

import datetime
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings
from aistudio.errors import ManifestError
from aistudio.images.download import Downloader
from aistudio.pipeline.sample import take_sample
from aistudio.pipeline.score import prepare
from aistudio.pipeline.snapshot import make_snapshot
from aistudio.runs import layout
from aistudio.runs.manifest_sql import count_sql, find_sql, read_sql
from aistudio.runs.picture_files import LeftOut, PictureFiles
from aistudio.runs.snapshot import find_manifest, load_snapshot, manifest_identity
from aistudio.schema import Status
from aistudio.store import open_store

postgresql = pytest.importorskip("adbc_driver_postgresql.dbapi", reason="the driver of the extra `sql`")
connect = postgresql.connect
SECRET = ("p@ss-w0rd", "p%40ss-w0rd")


@pytest.fixture(scope="module")
def shop(postgres):
    """A table of 2,500 photos, some rows broken."""
    postgres.run(
        "CREATE TABLE photos AS SELECT n AS sku, 'http://h/' || n || '.jpg' AS url, 'photo ' || n AS title, "
        "n / 4.0 AS price, ARRAY['a', NULL, 'b' || n] AS views, now() AS seen, NULL::text AS nothing, "
        "jsonb_build_object('n', n) AS more FROM generate_series(1, 2500) AS n",
        "UPDATE photos SET url = NULL WHERE sku IN (7, 1200)",
        "UPDATE photos SET url = '  ' WHERE sku = 8",
    )
    return postgres


def settings(server, query="SELECT * FROM photos ORDER BY sku", **kw):
    columns = {"item_id": "sku", "image_url": "url", "text": "title"} | kw.pop("columns", {})
    return ManifestSettings.model_validate(
        {"path": server.uri, "format": "sql", "query": query, "columns": columns, **kw}
    )


def rows_of(settings, **kw):
    columns = find_sql(settings)[1]
    batches = list(read_sql(settings, columns, **kw))
    assert all(b.candidates.schema == columns.schema for b in batches)
    return [r for b in batches for r in b.candidates.to_pylist()], [r for b in batches for r in b.rejected.to_pylist()]


def test_rows_and_rejects_are_those_of_the_query(shop):
    rows, rejected = rows_of(settings(shop), batch_rows=100)
    assert len(rows) == 2497 and [r["line_number"] for r in rejected] == [7, 8, 1200]
    assert {r["reason"] for r in rejected} == {"empty image_url"}
    first = rows[0]
    assert (first["row_id"], first["item_id"], first["image_url"], first["text"]) == (
        "1",
        "1",
        "http://h/1.jpg",
        "photo 1",
    )
    assert float(first["price"]) == 0.25 and json.loads(first["more"]) == {"n": 1} and first["nothing"] is None
    assert rows[-1]["source_line"] == 2500 and first["source_file"].startswith("postgresql://***@127.0.0.1")


def test_an_array_of_addresses_becomes_rows(shop):
    rows, _ = rows_of(
        settings(shop, "SELECT * FROM photos WHERE sku < 3 ORDER BY sku;", columns={"image_url": "views"})
    )
    assert [(r["row_id"], r["image_url"]) for r in rows] == [("1:1", "a"), ("1:3", "b1"), ("2:1", "a"), ("2:3", "b2")]


def test_who_stops_early_waits_for_nothing(shop):
    query = "SELECT n AS sku, 'u' AS url, 't' AS title FROM generate_series(1, 30000000) AS n"
    columns = find_sql(settings(shop, query))[1]
    found = read_sql(settings(shop, query), columns)
    assert next(found).candidates.num_rows == 1000
    found.close()
    assert count_sql(settings(shop)) == 2500


def test_nothing_can_be_written(shop):
    for query in (
        "DELETE FROM photos RETURNING *",
        "SELECT 1 AS sku; DROP TABLE photos",
        "INSERT INTO photos (sku) VALUES (1)",
    ):
        with pytest.raises(ManifestError):
            rows_of(settings(shop, query))
    assert count_sql(settings(shop)) == 2500


def test_a_query_that_fails_half_way_is_an_error_and_no_short_manifest(shop):
    query = "SELECT n AS sku, (10 / (2000 - n))::text AS url, 't' AS title FROM generate_series(1, 3000) AS n"
    with pytest.raises(ManifestError, match="division by zero"):
        rows_of(settings(shop, query))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "SELECT * FROM nowhere"}, "nowhere"),
        ({"query": "SELEC"}, "syntax error"),
        ({"columns": {"item_id": "skuu"}}, "maps item_id to 'skuu'.*did you mean 'sku'"),
        ({"columns": {"image_url": "more"}, "query": "SELECT sku, title, row(1, 2) AS more FROM photos"}, "more"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(shop, change, message):
    with pytest.raises(ManifestError, match=message) as e:
        find_sql(settings(shop, **change))
    assert not any(secret in str(e.value) for secret in SECRET)


@pytest.mark.parametrize("uri", ["postgresql://shop:p%40ss-w0rd@127.0.0.1:1/x", "postgresql://shop:p@ss-w0rd@h h/x",
                                 "postgresql://shop@127.0.0.1:1/x?password=p%40ss-w0rd&nonsense=1"])  # fmt: skip
def test_no_address_gives_its_password_away(postgres, uri):
    wanted = ManifestSettings(path=uri, format="sql", query="SELECT 1")
    with pytest.raises(ManifestError) as e:
        find_sql(wanted)
    assert not any(secret in str(e.value) for secret in SECRET)


def test_a_wrong_password(postgres):
    uri = postgres.uri.replace("p%40ss-w0rd", "wr0ng")
    with pytest.raises(ManifestError, match="password authentication failed") as e:
        find_sql(ManifestSettings(path=uri, format="sql", query="SELECT 1"))
    assert "wr0ng" not in str(e.value)


def test_settings_belong_together():
    good = "postgresql://h/x"
    for manifest, message in (
        ({"path": good, "format": "sql"}, "format sql needs query"),
        ({"path": "a.csv", "format": "sql", "query": "SELECT 1"}, "format sql needs query, and a path"),
        ({"path": good, "format": "csv"}, "read by format sql, not csv"),
        ({"path": "a.csv", "format": "csv", "query": "SELECT 1"}, "read by format sql, not csv"),
    ):
        with pytest.raises(ValueError, match=message):
            ManifestSettings.model_validate(manifest)


class TestInARun:
    def config(self, shop, make_config, query="SELECT * FROM photos ORDER BY sku LIMIT 40"):
        columns = {"item_id": "sku", "image_url": "url", "text": "title"}
        return make_config(shop.uri, "sql", None, columns, query)

    def test_the_snapshot_holds_the_rows_and_no_password(self, shop, make_config):
        config = self.config(shop, make_config)
        files, columns = find_manifest(config)
        snapshot = make_snapshot(config, files, columns, attempt=1, num_actors=2)
        store = open_store(config.output)
        assert snapshot.num_rows == 38 and snapshot.num_rejected == 2 and load_snapshot(store) == snapshot
        rows = [r for s in snapshot.shards for r in store.read_table(layout.manifest_key(s.name)).to_pylist()]
        assert [r["item_id"] for r in rows] == [str(n) for n in range(1, 41) if n not in (7, 8)]
        everything = b"".join(p.read_bytes() for p in Path(config.output).rglob("*") if p.is_file())
        assert not any(secret.encode() in everything for secret in SECRET)

    def test_identity_is_that_of_the_question_not_of_the_answer(self, shop, make_config):
        config = self.config(shop, make_config)
        identity = manifest_identity(config, find_manifest(config)[0])
        shop.run("UPDATE photos SET title = title || '!' WHERE sku = 40")
        assert manifest_identity(config, find_manifest(config)[0]) == identity  # a run goes on with its snapshot
        assert not any(secret in json.dumps(identity) for secret in SECRET)
        other = self.config(shop, make_config, "SELECT * FROM photos ORDER BY sku LIMIT 41")
        assert manifest_identity(other, find_manifest(other)[0]) != identity

    def test_a_run_goes_on_without_its_database(self, shop, make_config, monkeypatch):
        config = self.config(shop, make_config)
        files, columns = find_manifest(config)
        made = make_snapshot(config, files, columns, attempt=1, num_actors=2)
        down = config.manifest.path.replace(str(shop.port), "1")
        monkeypatch.setattr(postgresql, "connect", lambda uri, **_: connect(uri.replace(str(shop.port), "1")))
        with pytest.raises(ManifestError, match="refused"):
            find_manifest(config)
        prepared = prepare(config)
        assert prepared.files == [] and load_snapshot(prepared.store) == made
        other = config.model_copy(update={"manifest": config.manifest.model_copy(update={"path": down})})
        with pytest.raises(ManifestError, match="refused"):  # another database
            prepare(other)

    def test_a_probe_counts_the_rows(self, shop, make_config):
        config = self.config(shop, make_config)
        sample = take_sample(SimpleNamespace(config=config, files=find_manifest(config)[0]), 5)
        assert sample.total == 38 and sample.exact and sample.rows.num_rows == 5


def test_types_of_a_database(postgres):
    postgres.run(
        "CREATE TABLE odd AS SELECT 1::smallint AS item_id, 'u'::varchar(9) AS image_url, true AS yes, 1.5::real AS r, "
        "'2026-01-02'::date AS day, '10:00'::time AS at, '1 day'::interval AS span, 'a1b2'::bytea AS raw, "
        "gen_random_uuid() AS id, '{1,2}'::int[] AS numbers, 'x'::char(3) AS padded, 'NaN'::numeric AS number, "
        "'infinity'::timestamp AS ever, '10.0.0.1'::inet AS host"
    )
    wanted = ManifestSettings(path=postgres.uri, format="sql", query="SELECT * FROM odd")
    (batch,) = read_sql(wanted, find_sql(wanted)[1])
    assert batch.candidates.num_rows == 1 and batch.rejected.num_rows == 0
    (row,) = batch.candidates.drop_columns("ever").to_pylist()
    assert row["item_id"] == "1" and row["yes"] is True and row["r"] == 1.5 and row["raw"] == b"a1b2"
    assert row["day"] == datetime.date(2026, 1, 2) and row["numbers"] == "[1, 2]" and row["number"] in ("nan", "NaN")


class TestPicturesInTheDatabase:
    """A column of bytes: copied into the run while the rows are read, each within download.max_bytes."""

    MOST = 20_000

    @pytest.fixture(scope="class")
    def album(self, postgres):
        """Sixty pictures of different sizes; broken rows among them."""
        bodies = [random.Random(i).randbytes(100 + 300 * i) for i in range(60)]
        bodies[5], bodies[6], bodies[7] = None, b"", b"x" * (self.MOST + 1)
        names = [None if i == 8 else f"s{i:02d}" for i in range(60)]
        more = pa.array([b"kept"] * 60)
        postgres.fill("album", pa.table({"sku": names, "photo": pa.array(bodies), "extra": more, "n": range(60)}))
        return bodies

    def settings(self, postgres, **kw):
        columns = {"item_id": "sku", "image_url": "photo"} | kw.pop("columns", {})
        query = kw.pop("query", "SELECT sku, photo, extra FROM album ORDER BY n")
        return ManifestSettings(path=postgres.uri, format="sql", query=query, columns=columns, **kw)

    def test_each_row_finds_its_own_bytes(self, postgres, album, tmp_path):
        store, wanted = open_store(str(tmp_path / "run")), self.settings(postgres)
        pictures = PictureFiles(store, "00000", self.MOST, file_bytes=100_000)
        columns = find_sql(wanted)[1]
        batches = list(read_sql(wanted, columns, batch_rows=7, pictures=pictures))
        pictures.finish()
        rows = [r for b in batches for r in b.candidates.to_pylist()]
        rejected = [r for b in batches for r in b.rejected.to_pylist()]
        assert [r["line_number"] for r in rejected] == [9] and "photo" not in json.loads(rejected[0]["raw"])
        kept = [i for i in range(60) if i != 8]
        assert [r["item_id"] for r in rows] == [f"s{i:02d}" for i in kept] and rows[0]["extra"] == b"kept"
        assert len(store.list(layout.MANIFEST_PICTURES)) == 4 and "photo" not in rows[0]
        assert sum(e.size for e in store.list(layout.MANIFEST_PICTURES)) < 1.2 * sum(len(b or b"") for b in album)
        with Downloader(DownloadSettings(max_bytes=self.MOST, retries=0), StoreSettings()) as downloader:
            found = dict(downloader.stream([(r["image_url"], None) for r in rows]))
        assert [found[n].body for n, i in enumerate(kept) if i not in (5, 6, 7)] == [
            album[i] for i in kept if i not in (5, 6, 7)
        ]
        assert [found[n].status for n in (5, 6, 7)] == [Status.EMPTY, Status.EMPTY, Status.TOO_LARGE]
        assert f"{self.MOST + 1:,} bytes" in found[7].error and "download.max_bytes" in found[7].error

    def test_pictures_need_no_items_and_take_no_separator(self, postgres, album):
        wanted = ManifestSettings(path=postgres.uri, format="sql", query="SELECT photo AS image_url FROM album")
        columns = find_sql(wanted)[1]
        (batch,) = read_sql(wanted, columns, pictures=LeftOut())
        assert batch.candidates["item_id"].to_pylist() == [str(n) for n in range(1, 61)]
        with pytest.raises(ManifestError, match="image_separator: 'photo' holds pictures"):
            find_sql(self.settings(postgres, image_separator="|"))
        with pytest.raises(ManifestError, match="holds pictures, which only a run can copy"):
            next(read_sql(wanted, columns))

    def test_a_run_keeps_them_without_the_password(self, postgres, album, make_config, tmp_path):
        columns = {"item_id": "sku", "image_url": "photo"}
        query = "SELECT sku, photo FROM album ORDER BY n"
        config = make_config(postgres.uri, "sql", None, columns, query, download={"max_bytes": self.MOST})
        files, found = find_manifest(config)
        snapshot = make_snapshot(config, files, found, attempt=1, num_actors=2)
        assert snapshot.num_rows == 59 and snapshot.num_rejected == 1
        store = open_store(config.output)
        rows = [r for s in snapshot.shards for r in store.read_table(layout.manifest_key(s.name)).to_pylist()]
        (file,) = store.list(layout.MANIFEST_PICTURES)
        place = store.path(file.key)
        assert rows[0]["image_url"] == f"{place}#row=1&column=image"
        assert rows[7]["image_url"] == f"{place}#row=8&column=image&bytes={self.MOST + 1}"
        everything = b"".join(p.read_bytes() for p in Path(config.output).rglob("*") if p.is_file())
        assert not any(secret.encode() in everything for secret in SECRET)
        limited = make_config(postgres.uri, "sql", None, columns, query, output=str(tmp_path / "two"))
        limited = limited.model_copy(update={"manifest": limited.manifest.model_copy(update={"limit": 3})})
        snapshot = make_snapshot(limited, files, found, attempt=1, num_actors=2)
        (file,) = Path(limited.output, "manifest_pictures").iterdir()
        assert snapshot.num_rows == 3 and pq.read_table(file)["image"].to_pylist()[:3] == album[:3]

    def test_reading_again_leaves_one_copy_under_another_address(self, postgres, album, tmp_path):
        """So that no address of an earlier run, or of a task that was killed, means another picture."""
        store, wanted, seen = open_store(str(tmp_path / "run")), self.settings(postgres), []
        columns = find_sql(wanted)[1]
        for _ in range(2):
            pictures = PictureFiles(store, "00000", self.MOST)
            (batch,) = read_sql(wanted, columns, pictures=pictures)
            pictures.finish()
            seen.append(batch.candidates["image_url"][0].as_py())
        assert len(set(seen)) == 2 and len(store.list(layout.MANIFEST_PICTURES)) == 1

    def test_a_probe_holds_a_few(self, postgres, album, make_config):
        query = "SELECT sku AS item_id, photo AS image_url FROM album ORDER BY n"
        config = make_config(postgres.uri, "sql", None, None, query)
        sample = take_sample(SimpleNamespace(config=config, files=find_manifest(config)[0]), 10)
        assert (sample.total, sample.exact, sample.rows.num_rows) == (59, True, 10)
        look = take_sample(SimpleNamespace(config=config, files=[]), 10, look=True)
        assert look.rows["image_url"].to_pylist() == [""] * 10
        images = [row["image_url"]["bytes"] for row in sample.rows.to_pylist()]
        assert all(image in album for image in images) and len(set(images)) == 10


def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    with pytest.raises(ManifestError, match=r"adbc_driver_postgresql is not installed.*aistudio-catalogue\[sql\]"):
        find_sql(ManifestSettings(path="postgresql://h/x", format="sql", query="SELECT 1"))
