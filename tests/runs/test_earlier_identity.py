"""Whose run it is: outputs within the manifest's folder, settings that came later, runs of the version before."""

import hashlib
import json
from pathlib import Path

import pytest

from aistudio.errors import RunMismatchError
from aistudio.pipeline.score import prepare
from aistudio.run_record import RunRecord
from aistudio.runs import layout
from aistudio.runs.attempts import claim_attempt
from aistudio.runs.earlier_identity import identity_in_run
from aistudio.runs.manifest_files import InputFile
from aistudio.runs.record import load_run, new_record, open_record
from aistudio.runs.snapshot import Snapshot, find_manifest, manifest_identity, manifest_settings
from aistudio.store import open_store


def begin(config, identity=None):
    """A run folder as its snapshot leaves it; returns what `prepare` found."""
    prepared = prepare(config)
    if identity is not None:
        prepared = prepared._replace(shape=prepared.shape | {"manifest": identity})
    store = prepared.store
    attempt = claim_attempt(store)
    open_record(store, new_record(prepared.config, prepared.shape, prepared.models, attempt), new=True)
    identity = prepared.shape["manifest"]
    snapshot = Snapshot(shards=[], passthrough=[], num_rejected=0, rejected_reasons={}, identity=identity)
    store.write_json(layout.MANIFEST_INDEX, snapshot.model_dump(mode="json"))
    store.write_bytes("manifest/00000-000000.parquet", b"x")
    store.write_bytes("report/images/1.jpg", b"x")
    return prepared


@pytest.mark.parametrize("output", ["run1", "deep/run1", "."])
@pytest.mark.parametrize("format", ["csv", "folder"])
def test_an_output_within_the_manifest_s_folder_is_resumed(tmp_path, make_config, output, format):
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / "a.csv").write_text("item_id,image_url\n1,u\n")
    (folder / "a.jpg").write_bytes(b"x")
    config = make_config(folder, format=format, output=str(folder / output))
    assert begin(config).shape == prepare(config).shape


def test_settings_that_came_later_are_left_out_at_their_default(tmp_path, make_config):
    manifest = tmp_path / "m.csv"
    manifest.write_text("item_id,image_url\n1,u\n")
    config = make_config(manifest)
    assert manifest_settings(config) == {
        "path": str(manifest), "format": "csv", "columns": {}, "passthrough": "all", "encoding": "utf-8", "limit": None,
    }  # fmt: skip
    begin(config)
    other = config.model_copy(update={"manifest": config.manifest.model_copy(update={"quoting": "line"})})
    with pytest.raises(RunMismatchError, match="quoting"):
        prepare(other)


def listing(files: list[InputFile]) -> str:
    return hashlib.sha256(json.dumps([f[:3] for f in files]).encode()).hexdigest()


def test_a_folder_as_the_version_before_listed_it(tmp_path, make_config):
    folder = tmp_path / "shop"
    for name in ("1/a.jpg", "1/._a.jpg", ".DS_Store", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    config = make_config(folder, format="folder")
    paths = sorted(str(p) for p in Path(folder).rglob("*") if p.is_file())
    then = [InputFile(str(folder), len(paths), hashlib.sha256("\n".join(paths).encode()).hexdigest())]
    old = manifest_settings(config) | {"num_files": 1, "num_bytes": 4, "files_sha256": listing(then)}
    begin(config, old)
    assert prepare(config).shape["manifest"] == old
    (folder / "1/b.jpg").write_bytes(b"x")
    with pytest.raises(RunMismatchError, match="files_sha256"):
        prepare(config)


def test_an_address_that_the_version_before_knew_by_its_etag(tmp_path, make_config, monkeypatch):
    manifest = tmp_path / "m.csv"
    manifest.write_text("item_id,image_url\n1,u\n")
    config = make_config(manifest)
    url = "http://h/m.csv"
    monkeypatch.setattr("aistudio.runs.snapshot.content_sha256", lambda *_: "content")
    for version, known in (('"7"', True), ("sha256:abc", False)):
        store = open_store(str(tmp_path / version.strip('"')[:3]))
        files = [InputFile(url, 22, version, "abc")]
        old = manifest_settings(config) | {
            "num_files": 1, "num_bytes": 0, "files_sha256": listing([InputFile(url, -1, version)]),
        }  # fmt: skip
        store.write_json(layout.RUN, {"shape": {"manifest": old}})
        assert (identity_in_run(config, files, load_run(store)) == old) is known
        assert identity_in_run(config, files, load_run(store)) in (old, manifest_identity(config, files))


def test_an_object_on_s3_that_the_version_before_knew_by_its_size(tmp_path, make_config, monkeypatch):
    config = make_config(tmp_path / "m.csv")
    monkeypatch.setattr("aistudio.runs.snapshot.content_sha256", lambda *_: "content")
    files = [InputFile("s3://b/m.csv", 22, '"etag"')]
    old = manifest_settings(config) | {
        "num_files": 1, "num_bytes": 22, "files_sha256": listing([InputFile("s3://b/m.csv", 22, "22")]),
    }  # fmt: skip
    assert identity_in_run(config, files, RunRecord(shape={"manifest": old})) == old
    larger = [InputFile("s3://b/m.csv", 23, '"etag"')]
    assert identity_in_run(config, larger, RunRecord(shape={"manifest": old})) == manifest_identity(config, larger)


def test_a_presigned_address_is_the_same_when_signed_again_and_as_the_version_before_wrote_it(make_config, monkeypatch):
    def at(signature: str, content: str = "content"):
        monkeypatch.setattr("aistudio.runs.snapshot.content_sha256", lambda *_: content)
        url = f"http://h/m.csv?part=1&X-Amz-Date={signature}&X-Amz-Signature={signature}"
        return make_config(url), [InputFile(url, 22, '"7"', "abc")], url

    config, files, url = at("s3cret")
    identity = manifest_identity(config, files)
    assert "s3cret" not in json.dumps(identity) and identity["path"].startswith("http://h/m.csv?part=1&")
    old = identity | {"path": url}
    assert identity_in_run(config, files, RunRecord(shape={"manifest": old})) == old
    config, files, _ = at("another")
    assert manifest_identity(config, files) == identity
    assert identity_in_run(config, files, RunRecord(shape={"manifest": old})) == old
    config, files, _ = at("another", "other content")
    assert identity_in_run(config, files, RunRecord(shape={"manifest": old})) == manifest_identity(config, files) != old


def test_a_new_run_has_the_new_identity(tmp_path, make_config):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/a.jpg").write_bytes(b"x")
    config = make_config(tmp_path, format="folder")
    files, columns = find_manifest(config)
    assert columns.schema.names[-1] == "file"
    assert identity_in_run(config, files, load_run(open_store(config.output))) == manifest_identity(config, files)
