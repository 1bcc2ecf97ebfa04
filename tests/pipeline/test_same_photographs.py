"""The same photographs as a folder, over HTTP, in buckets, in Parquet, Lance, tar and zip, from a database and the hub.

Equal content hashes and, for each, the same vectors to the last bit; what is broken is accounted for in each.
"""

import hashlib
from functools import partial

import pytest

from aistudio.runs import layout
from aistudio.schema import vector_matrix
from aistudio.store import open_store
from tests import photo_sources as sources
from tests.dataset_hub import DatasetHub
from tests.object_servers import AZ_KEY, AzServer, GsServer
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
    if "lance" in kind:
        pytest.importorskip("lance", reason="the library of the extra `lance`")
    if kind in SIMPLE:
        return SIMPLE[kind](tmp_path / f"photos.{kind}", photos)
    return ELSEWHERE[kind](request.getfixturevalue, tmp_path, photos)


SIMPLE = {
    "folder": sources.folder, "parquet": sources.hub_parquet, "lance": sources.lance_set,
    "webdataset": sources.webdataset_tar, "zip": sources.zip_file,
}  # fmt: skip


def http(fixture, folder, photos):
    return sources.csv_file(folder / "m.csv", fixture("server"))


def http_tar(fixture, folder, photos):
    found = sources.webdataset_tar(folder / "0.tar", photos)
    url = fixture("image_server").add("tar", (folder / "0.tar").read_bytes())
    return found._replace(manifest={"path": url, "format": "webdataset"})


def s3(fixture, folder, photos):
    found = sources.csv_file(folder / "m.csv", {n: f"s3://bucket/photos/{n}.jpg" for n in photos})
    put(fixture("bucket"), {"m.csv": folder / "m.csv"})
    return Source({"path": "s3://bucket/m.csv", "format": "csv"}, found.rejected)


def s3_tar(fixture, folder, photos):
    found = sources.webdataset_tar(folder / "0.tar", photos)
    put(fixture("bucket"), {"tars/00000.tar": folder / "0.tar"})
    return found._replace(manifest={"path": "s3://bucket/tars/{00000..00000}.tar", "format": "webdataset"})


def s3_lance(fixture, folder, photos):
    found = sources.lance_set(folder / "a.lance", photos)
    files = [path for path in (folder / "a.lance").rglob("*") if path.is_file()]
    put(fixture("bucket"), {f"l/{path.relative_to(folder)}": path for path in files})
    return found._replace(manifest={"path": "s3://bucket/l/a.lance", "format": "lance"})


def put(s3, files):
    for key, path in files.items():
        s3.client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes())


def objects(kind, fixture, folder, photos):
    """gs and az: the manifest lies in the bucket, too."""
    place = fixture(kind)
    store = open_store(f"{kind}://bucket", place.settings())
    for name, body in photos.items():
        store.write_bytes(f"photos/{name}.jpg", body)
    found = sources.csv_file(folder / "m.csv", {n: f"{kind}://bucket/photos/{n}.jpg" for n in photos})
    store.write_bytes("m.csv", (folder / "m.csv").read_bytes())
    settings = place.settings().model_dump(exclude_defaults=True)
    return Source({"path": f"{kind}://bucket/m.csv", "format": "csv"}, found.rejected, 0, settings)


def hub_data(fixture, folder, photos):
    found = sources.hub_parquet(folder / "0.parquet", photos)
    fixture("hub").commit("shop/photos", {"data/0.parquet": (folder / "0.parquet").read_bytes()})
    return found._replace(manifest={"path": "hf://datasets/shop/photos", "format": "parquet"})


def addresses_in_a_database(fixture, folder, photos):
    server, table = fixture("postgres"), "same_photographs"
    sources.folder(folder / "photos", photos)
    server.fill(table, sources.table_of({n: str(folder / "photos" / f"{n}.jpg") for n in photos}))
    return Source({"path": server.uri, "format": "sql", "query": f"SELECT * FROM {table} ORDER BY item_id"}, 10)


def bytes_in_a_database(fixture, folder, photos):
    server = fixture("postgres")
    server.fill("same_bytes", sources.bytes_table(photos))
    query = "SELECT item_id, image_url, text FROM same_bytes ORDER BY item_id"
    return Source({"path": server.uri, "format": "sql", "query": query}, 0, 10)


ELSEWHERE = {
    "http": http, "http tar": http_tar, "s3": s3, "s3 tar": s3_tar, "s3 lance": s3_lance,
    "gs": partial(objects, "gs"), "az": partial(objects, "az"), "hub": hub_data,
    "postgresql": addresses_in_a_database, "postgresql bytes": bytes_in_a_database,
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch):
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def gs(monkeypatch):
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "test")
    with GsServer() as server:
        yield server


@pytest.fixture
def az(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZ_KEY)
    with AzServer() as server:
        yield server


def scored(make_config, source, endpoint):
    config = make_config(
        *(source.manifest["path"], source.manifest["format"], None),
        *(source.manifest.get("columns"), source.manifest.get("query")),
        store={"endpoint_url": endpoint, "retries": 1, **source.store},
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


@pytest.mark.parametrize("source", [*SIMPLE, *ELSEWHERE], indirect=True)
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
