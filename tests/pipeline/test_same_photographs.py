"""The same photographs as a folder, over HTTP, in a bucket, in Parquet, tar and zip, from a database and from the hub.

Equal content hashes and, for each, the same vectors to the last bit; what is broken is accounted for in each.
"""

import hashlib

import pytest

from aistudio.runs import layout
from aistudio.schema import vector_matrix
from tests import photo_sources as sources
from tests.dataset_hub import DatasetHub
from tests.photo_sources import BROKEN, Source
from tests.s3_server import S3Server
from tests.score_here import score_here

NUM = 30


@pytest.fixture(scope="module")
def photos():
    return sources.photographs(NUM)


@pytest.fixture(scope="module")
def server(photos):
    from tests.image_server import ImageServer

    with ImageServer() as server:
        yield {name: server.add(f"{name}.jpg", body) for name, body in photos.items()}


@pytest.fixture(scope="module")
def bucket(photos):
    with pytest.MonkeyPatch.context() as patch, S3Server() as s3:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        for name, body in photos.items():
            s3.client.put_object(Bucket="bucket", Key=f"photos/{name}.jpg", Body=body)
        yield s3


@pytest.fixture
def source(request, tmp_path, photos):
    """One form of the photographs, by its name."""
    kind = request.param
    if kind == "folder":
        return sources.folder(tmp_path / "photos", photos)
    if kind == "http":
        return sources.csv_file(tmp_path / "m.csv", request.getfixturevalue("server"))
    if kind == "s3":
        s3 = request.getfixturevalue("bucket")
        found = sources.csv_file(tmp_path / "m.csv", {n: f"s3://bucket/photos/{n}.jpg" for n in photos})
        s3.client.put_object(Bucket="bucket", Key="m.csv", Body=(tmp_path / "m.csv").read_bytes())
        return Source({"path": "s3://bucket/m.csv", "format": "csv"}, found.rejected)
    if kind == "s3 tar":
        s3 = request.getfixturevalue("bucket")
        found = sources.webdataset_tar(tmp_path / "0.tar", photos)
        s3.client.put_object(Bucket="bucket", Key="tars/00000.tar", Body=(tmp_path / "0.tar").read_bytes())
        return Source({"path": "s3://bucket/tars/{00000..00000}.tar", "format": "webdataset"}, found.rejected)
    if kind == "hub":
        hub = request.getfixturevalue("hub")
        found = sources.hub_parquet(tmp_path / "0.parquet", photos)
        hub.commit("shop/photos", {"data/0.parquet": (tmp_path / "0.parquet").read_bytes()})
        return found._replace(manifest={"path": "hf://datasets/shop/photos", "format": "parquet"})
    if kind == "postgresql":
        server, table = request.getfixturevalue("postgres"), "same_photographs"
        sources.folder(tmp_path / "photos", photos)
        server.fill(table, sources.table_of({n: str(tmp_path / "photos" / f"{n}.jpg") for n in photos}))
        return Source({"path": server.uri, "format": "sql", "query": f"SELECT * FROM {table} ORDER BY item_id"}, 10)
    make = {"parquet": sources.hub_parquet, "webdataset": sources.webdataset_tar, "zip": sources.zip_file}[kind]
    return make(tmp_path / f"photos.{kind}", photos)


@pytest.fixture
def hub(monkeypatch):
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def scored(make_config, source, endpoint):
    config = make_config(
        *(source.manifest["path"], source.manifest["format"], None),
        *(source.manifest.get("columns"), source.manifest.get("query")), store={"endpoint_url": endpoint, "retries": 1},
        download={"max_bytes": sources.MAX_BYTES, "retries": 0}, images={"max_pixels": 1_000_000, "thumbnail_px": 0},
        engine={"shard_rows": 1000},
    )  # fmt: skip
    store = score_here(config)
    tables = [store.read_table(key) for key in layout.score_keys(store)]
    rejected = sum(store.read_table(e.key).num_rows for e in store.list(layout.REJECTED))
    (table,) = tables
    return table, rejected


@pytest.fixture(scope="module")
def expected(tmp_path_factory, photos):
    return {}


@pytest.mark.parametrize(
    "source",
    ["folder", "http", "s3", "parquet", "webdataset", "zip", "postgresql", "hub", "s3 tar"],
    indirect=True,
)
def test_photographs_are_the_same_from_everywhere(request, source, make_config, photos, expected, tmp_path):
    s3 = request.getfixturevalue("bucket") if str(source.manifest["path"]).startswith("s3:") else None
    table, rejected = scored(make_config, source, s3.url if s3 else None)
    statuses = sorted(s for s in table["status"].to_pylist() if s != "ok")
    assert statuses == sorted([*BROKEN.values(), *["empty"] * source.more_failed])
    assert rejected == source.rejected
    good = table.filter([s == "ok" for s in table["status"].to_pylist()])
    vectors = vector_matrix(good["embedding"])
    found = {h: v.tobytes() for h, v in zip(good["content_hash"].to_pylist(), vectors, strict=True)}
    good_photos = [body for name, body in photos.items() if name not in BROKEN]
    assert found.keys() == {hashlib.sha256(body).hexdigest() for body in good_photos} and len(found) == NUM
    expected.setdefault("vectors", found)
    assert found == expected["vectors"]  # of whichever form came first
    if source.manifest["format"] != "folder":
        assert all(
            row["text"] == sources.text_of(row["item_id"]) for row in good.select(["item_id", "text"]).to_pylist()
        )
    assert all(len(url) < 1000 for url in table["image_url"].to_pylist())
    stored = b"".join(p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert stored and not any(secret in stored for secret in (b"p@ss-w0rd", b"p%40ss-w0rd"))
