"""Manifests on Hugging Face's hub: a branch becomes a commit, and another commit of the same files changes nothing."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings, load_config
from aistudio.errors import ManifestError
from aistudio.hub_files import split_hub
from aistudio.images.download import Downloader
from aistudio.runs.manifest_files import list_images, list_inputs
from aistudio.runs.snapshot import find_manifest, manifest_identity, read_input
from aistudio.schema import Status
from tests.archives import tar_of
from tests.dataset_hub import DatasetHub

JPEGS = [b"\xff\xd8\xff" + bytes([i]) * (500 + i) for i in range(6)]


@pytest.fixture
def hub(monkeypatch):
    with DatasetHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


def parquet(bodies) -> bytes:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    out = io.BytesIO()
    images = pa.array([{"bytes": b, "path": "x.jpg"} for b in bodies], kind)
    pq.write_table(pa.table({"image": images, "text": [f"t{i}" for i in range(len(bodies))]}), out)
    return out.getvalue()


def listed(path, format="parquet"):
    return list_inputs(ManifestSettings(path=path, format=format), StoreSettings())


def test_a_data_set_is_read_row_by_row_at_one_commit(hub, make_config):
    files = {"data/train-0.parquet": parquet(JPEGS[:4]), "data/train-1.parquet": parquet(JPEGS[4:]), "README.md": b"#"}
    sha = hub.commit("shop/photos", files)
    config = make_config("hf://datasets/shop/photos", "parquet", ranking=None)
    found, columns = find_manifest(config)
    assert [f.path for f in found] == [f"hf://datasets/shop/photos@{sha}/data/train-{i}.parquet" for i in (0, 1)]
    hub.commit("shop/photos", {"data/train-0.parquet": parquet(JPEGS[::-1])})  # the branch moves on
    batches = [b for i in (0, 1) for b in read_input(config, found, i, columns, many=True)]
    rows = [row for batch in batches for row in batch.candidates.to_pylist()]
    assert [r["row_id"] for r in rows] == ["0-1", "0-2", "0-3", "0-4", "1-1", "1-2"]
    start = f"hf://datasets/shop/photos@{sha}/data/train-0.parquet#row=1&column=image&footer="
    assert rows[0]["image_url"].startswith(start)
    with Downloader(DownloadSettings(), StoreSettings()) as downloader:
        got = dict(downloader.stream([(r["image_url"], None) for r in rows]))
    assert [got[i].body for i in range(6)] == JPEGS


def test_a_tar_is_read_in_ranges(hub, make_config):
    sha = hub.commit("shop/tars", {"0.tar": tar_of({f"{i}.jpg": b for i, b in enumerate(JPEGS)})})
    config = make_config("hf://datasets/shop/tars/{0..0}.tar", "webdataset", ranking=None)
    found, columns = find_manifest(config)
    rows = [r for b in read_input(config, found, 0, columns, many=False) for r in b.candidates.to_pylist()]
    assert rows[0]["image_url"].startswith(f"hf://datasets/shop/tars@{sha}/0.tar#tar=0.jpg&at=512")
    before = hub.hits["file"]
    with Downloader(DownloadSettings(), StoreSettings()) as downloader:
        got = dict(downloader.stream([(r["image_url"], None) for r in rows]))
    assert [got[i].body for i in range(6)] == JPEGS and hub.hits["file"] - before == 1  # one piece for all
    del hub.commits["shop/tars", sha]
    with Downloader(DownloadSettings(retries=0), StoreSettings()) as downloader:
        ((_, gone),) = downloader.stream([(rows[0]["image_url"].replace("0.tar", "1.tar"), None)])
    assert gone.status is not Status.OK and gone.error


def test_the_same_contents_at_another_commit_are_the_same_manifest(hub, make_config):
    config = make_config("hf://datasets/shop/photos", "parquet", ranking=None)
    identities = []
    for readme, bodies in ((b"1", JPEGS), (b"2", JPEGS), (b"2", JPEGS[::-1])):
        hub.commit("shop/photos", {"a.parquet": parquet(bodies), "README.md": readme})
        identities.append(manifest_identity(config, find_manifest(config)[0]))
    assert identities[0] == identities[1] != identities[2]


def test_folders_patterns_and_revisions(hub):
    first = hub.commit("o/n", {"a/1.parquet": b"x", "a/2.parquet": b"y", "b/3.parquet": b"z", "b/.4.parquet": b""})
    hub.commit("o/n", {"5.parquet": b""}, branch="refs/convert/parquet")
    hub.commit("o/n", {"6.parquet": b""})

    def names(path):
        return [f.path.partition("@")[2].partition("/")[2] for f in listed(f"hf://datasets/o/n{path}")]

    assert names(f"@{first}") == ["a/1.parquet", "a/2.parquet", "b/3.parquet"]
    assert names(f"@{first}/a") == ["a/1.parquet", "a/2.parquet"]
    assert names(f"@{first}/*/[23].parquet") == ["a/2.parquet", "b/3.parquet"]
    assert names(f"@{first}/b/3.parquet") == ["b/3.parquet"]
    assert names("@refs%2Fconvert%2Fparquet") == ["5.parquet"]
    assert names("") == ["6.parquet"]
    assert split_hub("hf://datasets/o/n@refs%2Fpr%2F1/a b").revision == "refs/pr/1"


def test_what_cannot_be_had_is_said_in_one_sentence(hub, tmp_path):
    hub.commit("o/n", {"a.csv": b"x"})
    hub.tokens["o/n"] = "hf_secretsecretsecretsecret"
    for path, message in (
        ("hf://datasets/o/n", "private and gated data sets need HF_TOKEN"),
        ("hf://datasets/o/none", "private and gated data sets need HF_TOKEN"),
        ("hf://datasets/o", r"expected hf://datasets/<owner>/<name>"),
        ("hf://models/o/n", r"expected hf://datasets/<owner>/<name>"),
    ):
        with pytest.raises(ManifestError, match=message):
            listed(path)
    del hub.tokens["o/n"]
    with pytest.raises(ManifestError, match="no parquet manifest files there; the hub keeps a Parquet copy"):
        listed("hf://datasets/o/n")
    with pytest.raises(ManifestError, match="format folder takes a folder on a disk"):
        list_images(ManifestSettings(path="hf://datasets/o/n", format="folder"), StoreSettings())


def test_a_token_opens_a_private_one(hub, monkeypatch):
    hub.commit("o/n", {"a.parquet": b"x"})
    hub.tokens["o/n"] = "hf_secretsecretsecretsecret"
    monkeypatch.setenv("HF_TOKEN", hub.tokens["o/n"])
    assert len(listed("hf://datasets/o/n")) == 1


def test_a_conf_may_name_it(tmp_path):
    conf = tmp_path / "c.yaml"
    conf.write_text("manifest: {path: 'hf://datasets/o/n', format: parquet}\noutput: out\nmodels: {recall: siglip}\n")
    assert load_config(conf).manifest.path == "hf://datasets/o/n"
