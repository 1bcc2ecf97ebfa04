"""Archives at web addresses: fetched once, kept in the run, read from there; what goes wrong is said."""

import io
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.errors import ManifestError
from aistudio.images.download import Downloader
from aistudio.parts import split_part
from aistudio.pipeline.first_look import dry_run_lines
from aistudio.pipeline.sample import take_sample
from aistudio.pipeline.snapshot import make_snapshot
from aistudio.runs import layout
from aistudio.runs.snapshot import NormaliseGroup, find_manifest, manifest_identity, read_input
from aistudio.schema import Status
from aistudio.store import open_store
from tests.archives import tar_of, zip_of
from tests.image_server import draw_jpeg

PHOTOS = {f"{i:03d}.jpg": draw_jpeg(i, (60 + i, 40)) for i in range(12)}
TEXTS = {f"{i:03d}.txt": f"item {i}".encode() for i in range(12)}
MEMBERS = dict(sorted((PHOTOS | TEXTS).items()))
PATIENT = {"timeout_s": 60, "connect_timeout_s": 60, "read_timeout_s": 60}  # requests are counted, retries are some


@pytest.fixture
def web(tmp_path):
    """`web.root` is served at `web.url`; `web.hits` counts requests by path, `web.says` may change headers."""
    state = SimpleNamespace(root=tmp_path / "web", hits=Counter(), says={}, cut=None)
    state.root.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            state.hits[self.path] += 1
            super().do_GET()

        def send_header(self, name, value):
            value = state.says.get(name, value)
            if value is not None:
                super().send_header(name, value)

        def copyfile(self, source, outputfile):
            data = source.read()
            outputfile.write(data if state.cut is None else data[: state.cut])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(state.root))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_port}"
        yield state
        http.shutdown()


def hub_parquet() -> bytes:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": body, "path": name} for name, body in PHOTOS.items()], kind)
    out = io.BytesIO()
    pq.write_table(pa.table({"image": images, "text": [f"item {i}" for i in range(12)]}), out)
    return out.getvalue()


FILES = {
    "webdataset": ("a.tar", tar_of(MEMBERS)), "zip": ("a.zip", zip_of(MEMBERS)),
    "parquet": ("a.parquet", hub_parquet()),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(FILES))
def test_an_archive_is_fetched_once_and_read_from_the_run(web, make_config, kind):
    name, data = FILES[kind]
    (web.root / name).write_bytes(data)
    config = make_config(f"{web.url}/{name}?sig=1", kind, None, download=PATIENT)
    files, columns = find_manifest(config)
    snapshot = make_snapshot(config, files, columns, attempt=1, num_actors=1) if kind != "parquet" else None
    if snapshot is None:  # Ray would read it: what can kill its reader stays out of the driver
        group = NormaliseGroup(config.model_dump(mode="json"), files, columns, many=False, num_actors=1)
        group({"group": [0], "first": [0], "last": [1]})
    store = open_store(config.output)
    rows = [r for s in layout.manifest_shards(store) for r in store.read_table(layout.manifest_key(s)).to_pylist()]
    assert [r["text"] for r in rows] == [f"item {i}" for i in range(12)]
    (kept,) = store.list(layout.MANIFEST_PICTURES)
    assert store.read_bytes(kept.key) == data
    assert {split_part(r["image_url"])[0] for r in rows} == {store.path(kept.key)}
    assert {r["source_file"] for r in rows} == {f"{web.url}/{name}?sig=***"}
    (web.root / name).unlink()  # nobody asks again
    with Downloader(DownloadSettings(retries=0), StoreSettings()) as downloader:
        found = dict(downloader.stream([(r["image_url"], None) for r in rows]))
    assert [found[i].body for i in range(12)] == list(PHOTOS.values())
    assert web.hits.total() <= 2  # the answer's head, and the archive


def test_a_server_that_says_no_version_is_asked_for_the_content(web, make_config):
    web.says["Last-Modified"] = None
    (web.root / "a.tar").write_bytes(FILES["webdataset"][1])
    files, columns = find_manifest(make_config(f"{web.url}/a.tar", "webdataset", None))
    assert files[0].sha256 and columns.mapping["text"] == "txt"


def test_several_archives_are_told_apart(web, make_config):
    names = sorted(MEMBERS)
    for number in range(3):
        half = {n: MEMBERS[n] for n in names[8 * number : 8 * number + 8]}
        (web.root / f"{number}.tar").write_bytes(tar_of(half))
    paths = [f"{web.url}/{n}.tar" for n in range(3)]
    config = make_config(paths[0], "webdataset", None, download=PATIENT)
    config = config.model_copy(update={"manifest": config.manifest.model_copy(update={"path": paths})})
    files, columns = find_manifest(config)
    identity = manifest_identity(config, files)
    assert web.hits == {"/0.tar": 2, "/1.tar": 1, "/2.tar": 1}  # heads, and the first archive
    group = NormaliseGroup(config.model_dump(mode="json"), files, columns, many=True, num_actors=1)
    group({"group": [0], "first": [0], "last": [3]})
    store = open_store(config.output)
    assert [e.key[-11:] for e in store.list(layout.MANIFEST_PICTURES)] == [f"-{n:06d}.tar" for n in range(3)]
    assert web.hits == {"/0.tar": 2, "/1.tar": 2, "/2.tar": 2}
    assert manifest_identity(config, find_manifest(config)[0]) == identity
    (web.root / "2.tar").write_bytes(tar_of({"x.jpg": PHOTOS["000.jpg"]}))
    assert manifest_identity(config, find_manifest(config)[0]) != identity


def test_one_that_changes_in_between_is_refused(web, make_config):
    (web.root / "a.tar").write_bytes(FILES["webdataset"][1])
    (web.root / "b.tar").write_bytes(FILES["webdataset"][1])
    config = make_config(f"{web.url}/a.tar", "webdataset", None)
    manifest = config.manifest.model_copy(update={"path": [f"{web.url}/a.tar", f"{web.url}/b.tar"]})
    config = config.model_copy(update={"manifest": manifest})
    files, columns = find_manifest(config)
    (web.root / "b.tar").write_bytes(tar_of({"x.jpg": PHOTOS["000.jpg"]}))
    with pytest.raises(ManifestError, match="changed while the run was starting"):
        list(read_input(config, files, 1, columns, many=True, pictures=None))


def test_what_cannot_be_had_is_said(web, make_config):
    (web.root / "a.tar").write_bytes(FILES["webdataset"][1])
    with pytest.raises(ManifestError, match="the server answered 404"):
        find_manifest(make_config(f"{web.url}/no.tar", "webdataset", None))
    with pytest.raises(ManifestError, match="compressed file cannot be read one by one"):
        (web.root / "a.tar.gz").write_bytes(b"\x1f\x8b")
        find_manifest(make_config(f"{web.url}/a.tar.gz", "webdataset", None))
    config = make_config(f"{web.url}/a.tar", "webdataset", None)
    files, columns = find_manifest(config)
    with pytest.raises(ManifestError, match="not done over HTTP; copy"):  # who has no run to keep it in
        list(read_input(config, files, 0, columns, many=False))
    web.cut = 5000
    with pytest.raises(ManifestError, match=r"the body ended early: 5,000 of"):
        find_manifest(config)


def test_a_look_is_taken_and_a_probe_refused(web, make_config):
    (web.root / "a.tar").write_bytes(FILES["webdataset"][1])
    config = make_config(f"{web.url}/a.tar", "webdataset", None)
    files, columns = find_manifest(config)
    prepared = SimpleNamespace(config=config, files=files, columns=columns, pinned=SimpleNamespace(recall=None))
    with pytest.raises(ManifestError, match="not done over HTTP; copy"):
        take_sample(prepared, 5)
    assert take_sample(prepared, 5, look=True).total == 12
    said = "\n".join(dry_run_lines(prepared))
    assert "the run copies them to manifest_pictures/ first" in said and "would fail" not in said


def test_a_broken_archive_costs_what_it_holds(web, make_config):
    """A tar that ends early gives its whole members; limits hold for each of them."""
    (web.root / "a.tar").write_bytes(FILES["webdataset"][1][:-6000])
    config = make_config(f"{web.url}/a.tar", "webdataset", None)
    files, columns = find_manifest(config)
    snapshot = make_snapshot(config, files, columns, attempt=1, num_actors=1)
    assert 8 <= snapshot.num_rows < 12 and snapshot.num_rejected == 1
    assert "the archive has no end mark" in next(iter(snapshot.rejected_reasons))
    large = make_config(f"{web.url}/a.tar", "webdataset", None, download={"max_bytes": 700, "retries": 0})
    batches = list(read_input(large, files, 0, columns, many=False, pictures=Kept()))
    rows = [r for b in batches for r in b.candidates.to_pylist()]
    kept = web.root / "a.tar"
    urls = [r["image_url"].replace("/kept", str(kept)) for r in rows]
    with Downloader(large.download, StoreSettings()) as downloader:
        found = dict(downloader.stream([(url, None) for url in urls]))
    assert {f.status for f in found.values()} == {Status.TOO_LARGE}


class Kept:
    def keep(self, stream, kind):
        return "/kept"

    def add(self, values):
        raise AssertionError("no column of bytes here")
