"""Data sets as manifests: local and on S3, what stands for them in a run, what is refused."""

from pathlib import Path

import pytest

from aistudio.catalogue import LocalFiles, read_gallery, read_queries
from aistudio.config import DownloadSettings, ManifestSettings, StoreSettings, parse_config
from aistudio.errors import ConfigError, ManifestError
from aistudio.jobs import score as job
from aistudio.pipeline.networks import check_network
from aistudio.runs.dataset_files import dataset_files
from aistudio.runs.snapshot import find_manifest, manifest_identity, read_input
from tests.composed_sets import DRAWN, draw, fashioniq, mitstates
from tests.s3_server import S3Server

STORE = StoreSettings()


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        server.settings = StoreSettings(endpoint_url=server.url)
        yield server


def job_of(root: object, format: str, **manifest: object):
    data = {"manifest": {"path": str(root), "format": format, **manifest}, "output": "o", "models": {"recall": "r"}}
    return parse_config(data, "test")


def rows_of(config):
    files, columns = find_manifest(config)
    batches = list(read_input(config, files, 0, columns, many=False))
    rejected = [r["reason"] for b in batches for r in b.rejected.to_pylist()]
    return [r for b in batches for r in b.candidates.to_pylist()], rejected


@pytest.mark.parametrize("dataset", sorted(DRAWN))
def test_s3_gives_what_a_folder_gives(tmp_path, s3, dataset):
    root = DRAWN[dataset](tmp_path / dataset)
    for path in root.rglob("*"):
        if path.is_file():
            s3.client.upload_file(str(path), "bucket", f"sets/{dataset}/{path.relative_to(root).as_posix()}")
    place = f"s3://bucket/sets/{dataset}/"
    settings = ManifestSettings.model_validate({"path": place, "format": dataset})
    here, there = LocalFiles(root), dataset_files(place, s3.settings)
    for local, remote in zip(read_gallery(here, settings), read_gallery(there, settings), strict=True):
        assert remote.rejected.select(["raw", "reason"]) == local.rejected.select(["raw", "reason"])
        for ours, theirs in zip(local.candidates.to_pylist(), remote.candidates.to_pylist(), strict=True):
            assert theirs["image_url"] == place.rstrip("/") + ours["image_url"].removeprefix(str(root))
            elsewhere = {"image_url": "", "source_file": ""}
            assert theirs | elsewhere == ours | elsewhere
    ours, theirs = (read_queries(files, settings) for files in (here, there))
    assert ours.left_out == theirs.left_out
    assert ours.table.drop_columns(["image_url"]) == theirs.table.drop_columns(["image_url"])


def test_a_place_on_s3_without_the_data_set_is_refused(s3):
    for dataset in DRAWN:
        settings = ManifestSettings.model_validate({"path": "s3://bucket/nothing", "format": dataset})
        with pytest.raises(ManifestError, match="expected") as error:
            list(read_gallery(dataset_files("s3://bucket/nothing", s3.settings), settings))
        assert "s3://bucket/nothing" in str(error.value)
    nowhere = dataset_files("s3://no-such-bucket/x", s3.settings)
    with pytest.raises(ManifestError, match="cannot be listed"):
        nowhere.paths("images")


def test_what_is_left_out_is_counted_and_categories_choose(tmp_path):
    root = fashioniq(tmp_path / "iq")
    rows, rejected = rows_of(job_of(root, "fashioniq"))
    assert [r["row_id"] for r in rows] == list("ABCDEFGHI") and rejected == ["missing picture"]
    assert {r["row_id"]: r["categories"] for r in rows}["G"] == "shirt,toptee"
    rows, rejected = rows_of(job_of(root, "fashioniq", categories=["toptee"], split="train"))
    assert [r["row_id"] for r in rows] == list("GHI") and not rejected


def test_the_identity_is_of_the_pictures(tmp_path):
    config = job_of(mitstates(tmp_path / "a"), "mitstates")
    files, columns = find_manifest(config)
    assert files[0].size == 10
    before = manifest_identity(config, files)
    assert manifest_identity(config, find_manifest(config)[0]) == before
    draw(tmp_path / "a" / "images" / "old car" / "9.jpg")  # of the other split
    assert manifest_identity(config, find_manifest(config)[0]) == before
    draw(tmp_path / "a" / "images" / "old castle" / "9.jpg")
    assert manifest_identity(config, find_manifest(config)[0]) != before
    with pytest.raises(ManifestError, match="came or went"):
        list(read_input(config, files, 0, columns, many=False))


@pytest.mark.parametrize(
    ("path", "said"),
    [("https://h/x", "cannot be listed"), (["a", "b"], "one folder"), ("nowhere", "not a folder")],
)
def test_a_root_that_is_no_folder_is_refused(path, said):
    with pytest.raises(ManifestError, match=said):
        dataset_files(path, STORE)


def test_other_formats_have_no_splits():
    with pytest.raises(ConfigError, match="split and categories choose from a data set"):
        job_of("m.csv", "csv", split="val")


def test_a_listing_of_pictures_has_no_addresses_to_look_at(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "socks9://nonsense")
    draw(tmp_path / "folder" / "a.jpg")
    manifest = tmp_path / "m.csv"
    manifest.write_text("item_id,image_url\na,https://h/a.jpg\n", encoding="utf-8")
    trusting = {"download": DownloadSettings(trust_env_proxy=True)}
    for config in (job_of(mitstates(tmp_path / "a"), "mitstates"), job_of(tmp_path / "folder", "folder")):
        check_network(config.model_copy(update=trusting), *find_manifest(config))
    config = job_of(manifest, "csv").model_copy(update=trusting)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        check_network(config, *find_manifest(config))


def _break(dataset: str, root: Path) -> None:
    if dataset == "mitstates":
        (root / "images").rename(root / "pictures")
    elif dataset == "fashion200k":
        (root / "labels").rename(root / "label")
    else:
        (root / "image_splits" / "split.shirt.val.json").unlink()


@pytest.mark.parametrize("dataset", sorted(DRAWN))
def test_a_wrong_layout_is_one_message_before_anything_starts(tmp_path, tiny_models, dataset):
    root = DRAWN[dataset](tmp_path / "set")
    _break(dataset, root)
    conf = tmp_path / "job.yaml"
    conf.write_text(f"manifest: {{path: {root}, format: {dataset}}}\noutput: {tmp_path}/run\n"
                    f"models: {{recall: {tiny_models['recall']}}}\n", encoding="utf-8")  # fmt: skip
    for argv in (["--dry-run"], []):
        with pytest.raises(ManifestError, match="expected") as error:
            job.main(["--conf", str(conf), *argv])
        assert error.value.exit_code == 2 and str(root) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run" / "attempts").exists()
