"""Which files a manifest path means, on disk and on S3: links, hidden names, globs, folders of runs."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.catalogue import inspect_manifest, read_manifest
from aistudio.config import ManifestSettings, StoreSettings
from aistudio.errors import ChangedError, ManifestError
from aistudio.runs.manifest_files import list_images, list_inputs, open_input, refuse_if_grown
from aistudio.runs.manifest_walk import matches, visible_keys, walk
from aistudio.runs.snapshot import manifest_identity
from aistudio.s3 import s3_client
from tests.s3_server import S3Server

STORE = StoreSettings()


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def images(root: Path) -> list[str]:
    found_root, paths = list_images(ManifestSettings(path=str(root), format="folder"), STORE)
    return [p.removeprefix(f"{found_root}/") for p in paths]


def inputs(path: str | Path, format: str = "csv", store: StoreSettings = STORE) -> list[str]:
    return [f.path for f in list_inputs(ManifestSettings(path=str(path), format=format), store)]


class TestLinks:
    def test_items_that_are_links_are_there(self, tmp_path):
        root = make(tmp_path / "shop", "1001/a.jpg", "1002/b.JPG")
        make(tmp_path / "elsewhere", "1003/e.jpg", "f.jpg")
        (root / "1003").symlink_to("../elsewhere/1003")
        (root / "1004").symlink_to(tmp_path / "elsewhere/1003")  # the same folder under a second name
        (root / "1002/f.jpg").symlink_to(tmp_path / "elsewhere/f.jpg")
        assert images(root) == ["1001/a.jpg", "1002/b.JPG", "1002/f.jpg", "1003/e.jpg", "1004/e.jpg"]
        (tmp_path / "by_link").symlink_to(root)
        assert len(images(tmp_path / "by_link")) == 5

    def test_loops_end(self, tmp_path):
        root = make(tmp_path / "shop", "a/1.jpg", "b/2.jpg")
        (root / "a/self").symlink_to(".")
        (root / "a/up").symlink_to("..")
        (root / "b/cross").symlink_to("../a")
        (root / "a/cross").symlink_to("../b")
        (root / "a/l.jpg").symlink_to("l.jpg")
        found = images(root)
        assert {"a/1.jpg", "b/2.jpg", "a/cross/2.jpg", "b/cross/1.jpg", "a/l.jpg"} <= set(found)
        assert len(found) < 20

    def test_a_tangle_of_links_is_refused_instead_of_listed_for_ever(self, tmp_path):
        for i in range(12):
            make(tmp_path, f"{i:02}/x.csv")
        for i in range(11):
            (tmp_path / f"{i:02}/next").symlink_to(f"../{i + 1:02}")
        with pytest.raises(ManifestError, match="links to folders"):
            walk(tmp_path)

    def test_a_link_that_leads_nowhere_is_not_lost(self, tmp_path):
        make(tmp_path, "1/a.jpg", "m/1.csv")
        (tmp_path / "1/gone.jpg").symlink_to("nowhere.jpg")
        assert images(tmp_path) == ["1/a.jpg", "1/gone.jpg"]
        (tmp_path / "m/2.csv").symlink_to("nowhere.csv")
        with pytest.raises(ManifestError, match=r"2\.csv: cannot be read"):
            inputs(tmp_path / "m")

    def test_linked_manifests_and_folders_of_them(self, tmp_path):
        make(tmp_path, "far/deep/2.csv", "near/1.csv")
        (tmp_path / "near/more").symlink_to("../far")
        (tmp_path / "near/loop").symlink_to(".")
        near = tmp_path / "near"
        assert inputs(near) == [str(near / "1.csv"), str(near / "more/deep/2.csv")]
        assert inputs(near / "**/*.csv") == inputs(near)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_a_folder_that_cannot_be_read_is_an_error(self, tmp_path):
        make(tmp_path, "shut/1.jpg")
        (tmp_path / "shut").chmod(0)
        try:
            with pytest.raises(ManifestError, match="shut"):
                images(tmp_path)
        finally:
            (tmp_path / "shut").chmod(0o755)


def test_hidden_files_and_folders_are_passed_over_below_the_path_itself(tmp_path):
    root = make(
        tmp_path / ".data/shop", "1/a.jpg", "1/._a.jpg", ".ipynb_checkpoints/a.jpg", ".git/x/b.jpg", "p.csv", "._p.csv",
        ".DS_Store", "sub/q.csv", ".trash/r.csv",
    )  # fmt: skip
    assert images(root) == ["1/a.jpg"]
    assert [Path(p).name for p in inputs(root)] == ["p.csv", "q.csv"]
    assert [Path(p).name for p in inputs(root / "*.csv")] == ["p.csv"]
    assert [Path(p).name for p in inputs(root / "**/*.csv")] == ["p.csv", "q.csv"]
    assert [Path(p).name for p in inputs(root / "._p.csv")] == ["._p.csv"]  # named explicitly
    assert [Path(p).name for p in inputs(root / ".*.csv")] == ["._p.csv"]


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        ("c/*.csv", ["c/a.csv"], ["c/d/a.csv", "c/.a.csv", "c/a.tsv", "d/a.csv"]),
        ("c/**/*.csv", ["c/a.csv", "c/d/a.csv", "c/d/e/a.csv"], ["c/.d/a.csv", "a.csv", "c/d/.a.csv"]),
        ("c/**", ["c/a.csv", "c/d/a"], ["c/.a", "c/.d/a", "d/a"]),
        ("**/x/*.csv", ["x/a.csv", "b/x/a.csv"], ["x/b/a.csv", "a.csv"]),
        ("c/202?-[01][0-9]/*", ["c/2024-01/a"], ["c/2024-21/a", "c/2024-01/b/a"]),
        ("c/.h*", ["c/.ha"], ["c/ha"]),
        ("a**b", ["aXb", "ab", "a/b", "aX/Y/b"], ["a/b/c", "a/.x/b", "xa/b"]),
        ("c/**.csv", ["c/a.csv", "c/d/a.csv", "c/d/e/a.csv"], ["c/.a.csv", "c/.d/a.csv", "c/d/.a.csv", "c/a.tsv"]),
        (
            "c/d**/x[!z-]?.csv",
            ["c/d/xa1.csv", "c/d1/e/xa1.csv"],
            ["c/xa1.csv", "c/d/xz1.csv", "c/d/x/1.csv", "c/d/xa.csv"],
        ),
        ("*a**b*", ["1a/2b3"], ["1a/2b/3", "1/a/b"]),
        ("[z-a]**", [], ["z", "a", "b"]),
    ],
)
def test_globs(pattern, fits, not_):
    for key in fits:
        assert matches(key.split("/"), pattern.split("/")), key
    for key in not_:
        assert not matches(key.split("/"), pattern.split("/")), key


def run_folder(root: Path, name: str) -> Path:
    """A run as its first seconds leave it, and as it is later."""
    return make(
        root / name, "attempts/000001.json", "run.json", "manifest/_index.json", "manifest/00000-000000.parquet",
        "scores/00000-000000.parquet", "report/images/t.jpg",
    )  # fmt: skip


class TestRunFolders:
    def test_are_never_manifests_or_images(self, tmp_path):
        make(tmp_path, "a.parquet", "1/a.jpg", "sub/b.parquet")
        run_folder(tmp_path, "run1")
        run_folder(tmp_path, "sub/run2")
        make(tmp_path / "begun", "attempts/000001.json", "x.parquet")
        wanted = [str(tmp_path / "a.parquet"), str(tmp_path / "sub/b.parquet")]
        assert inputs(tmp_path, "parquet") == inputs(tmp_path / "**.parquet", "parquet") == wanted
        assert inputs(tmp_path / "**/*.parquet", "parquet") == wanted
        with pytest.raises(ManifestError, match="no parquet manifest files"):
            inputs(tmp_path / "*/scores/*.parquet", "parquet")
        assert images(tmp_path) == ["1/a.jpg"]

    def test_the_manifest_s_own_folder_may_be_the_output(self, tmp_path):
        run_folder(make(tmp_path, "cat/a.parquet", "cat/1/a.jpg"), "cat")
        assert inputs(tmp_path / "cat", "parquet") == [str(tmp_path / "cat/a.parquet")]
        assert images(tmp_path / "cat") == ["1/a.jpg"]

    def test_a_user_s_folder_that_only_looks_a_little_like_one_is_read(self, tmp_path):
        make(tmp_path, "run.json", "a/run.json", "a/x.csv", "attempts/notes.csv", "manifest/m.csv", "attempts/1.json")
        assert [p.removeprefix(f"{tmp_path}/") for p in inputs(tmp_path)] == [
            "a/x.csv", "attempts/notes.csv", "manifest/m.csv",
        ]  # fmt: skip

    def test_a_part_of_a_run_that_is_named_is_read(self, tmp_path):
        run = run_folder(tmp_path, "run1")
        make(run, "selection/00000.parquet")
        assert len(inputs(run / "selection", "parquet")) == 1
        assert len(inputs(run / "manifest/00000-000000.parquet", "parquet")) == 1

    def test_keys(self):
        keys = ["c/a.csv", "c/r/attempts/000002.json", "c/r/scores/x.csv", "c/s/run.json", "c/s/b.csv"]
        assert list(visible_keys(keys, "c/")) == ["c/a.csv", "c/s/run.json", "c/s/b.csv"]
        keys = ["run.json", "manifest/_index.json", "manifest/0.csv", "a.csv", "deep/.x/b.csv", "deep/c.csv"]
        assert list(visible_keys(keys, "")) == ["a.csv", "deep/c.csv"]
        assert list(visible_keys(["myrun.json", "mymanifest/_index.json", "a.csv"], "")) == [
            "myrun.json", "mymanifest/_index.json", "a.csv",
        ]  # fmt: skip


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        server.client.create_bucket(Bucket="deep")
        server.client.create_bucket(Bucket="rootcat")
        for key in (
            "catalogue/now.csv", "catalogue/archive/2024.csv", "catalogue/._now.csv", "catalogue/.tmp/x.csv",
            "catalogue2/other.csv", "catalogue/run/attempts/000001.json", "catalogue/run/scores/0.csv", "odd[1].csv",
            "shop/1/a.jpg", "shop/.thumbs/a.jpg", "shop/1/._a.jpg", "shop/readme.txt",
        ):  # fmt: skip
            server.client.put_object(Bucket="deep", Key=key, Body=b"x")
        for key in ("part-1.csv", "part-2.csv", "notes.txt", ".part-3.csv"):
            server.client.put_object(Bucket="rootcat", Key=key, Body=b"x")
        yield StoreSettings(endpoint_url=server.url)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("s3://deep/catalogue/*.csv", ["deep/catalogue/now.csv"]),
        ("s3://deep/catalogue/**/*.csv", ["deep/catalogue/archive/2024.csv", "deep/catalogue/now.csv"]),
        ("s3://deep/catalogue/**.csv", ["deep/catalogue/archive/2024.csv", "deep/catalogue/now.csv"]),
        ("s3://deep/catalogue", ["deep/catalogue/archive/2024.csv", "deep/catalogue/now.csv"]),
        ("s3://deep/catalogue/", ["deep/catalogue/archive/2024.csv", "deep/catalogue/now.csv"]),
        ("s3://deep/cat*/*.csv", ["deep/catalogue/now.csv", "deep/catalogue2/other.csv"]),
        ("s3://deep/odd[1].csv", ["deep/odd[1].csv"]),
        ("s3://rootcat", ["rootcat/part-1.csv", "rootcat/part-2.csv"]),
        ("s3://rootcat/", ["rootcat/part-1.csv", "rootcat/part-2.csv"]),
        ("s3://rootcat/*", ["rootcat/notes.txt", "rootcat/part-1.csv", "rootcat/part-2.csv"]),
        ("s3://rootcat/part-?.csv", ["rootcat/part-1.csv", "rootcat/part-2.csv"]),
    ],
)
def test_on_s3(s3, path, wanted):
    assert [p.removeprefix("s3://") for p in inputs(path, store=s3)] == wanted


def test_images_on_s3(s3):
    root, paths = list_images(ManifestSettings(path="s3://deep/shop/", format="folder"), s3)
    assert (root, paths) == ("s3://deep/shop", ["s3://deep/shop/1/a.jpg"])


class TestObjectsThatAreReplacedByOthersOfTheSameSize:
    """On S3, by others of equal size: neither size nor length tells."""

    @staticmethod
    def put(s3, letter: bytes, rows: int = 40_000) -> list:
        lines = b"".join(b"%06d,http://h/%s.jpg\n" % (i, letter) for i in range(rows))
        s3_client(s3).put_object(Bucket="deep", Key="same/m.csv", Body=b"item_id,image_url\n" + lines)
        return list_inputs(ManifestSettings(path="s3://deep/same/m.csv", format="csv"), s3)

    def test_are_another_manifest(self, s3, make_config, monkeypatch):
        monkeypatch.setattr("aistudio.runs.snapshot._HASHED_BYTES", 0)  # as of a manifest too large to be hashed
        config = make_config("s3://deep/same/m.csv").model_copy(update={"store": s3})
        first, second = (manifest_identity(config, self.put(s3, letter)) for letter in (b"a", b"b"))
        assert first["num_bytes"] == second["num_bytes"] and first != second
        assert manifest_identity(config, self.put(s3, b"b")) == second

    def test_are_noticed_between_finding_and_opening(self, s3):
        (file,) = self.put(s3, b"a")
        self.put(s3, b"b")
        with pytest.raises(ManifestError, match=r"changed while the run was starting: .*another object by now"):
            open_input(file, s3)

    @pytest.mark.parametrize("format", ["csv", "parquet"])
    def test_are_noticed_while_they_are_read(self, s3, format):
        (file,) = self.put(s3, b"a")
        settings = ManifestSettings(path=file.path, format="csv")
        if format == "parquet":
            table = pa.table({"item_id": [str(i) for i in range(40_000)], "image_url": ["http://h/a.jpg"] * 40_000})
            pq.write_table(table, sink := io.BytesIO(), row_group_size=5_000, compression="none", use_dictionary=False)
            s3_client(s3).put_object(Bucket="deep", Key="same/m.parquet", Body=sink.getvalue())
            settings = ManifestSettings(path="s3://deep/same/m.parquet", format="parquet")
            (file,) = list_inputs(settings, s3)
        with open_input(file, s3) as stream:
            columns = inspect_manifest(stream, file.shown, settings)
            stream.seek(0)
            batches = read_manifest(stream, file.shown, settings, columns)
            assert next(batches).candidates.num_rows
            key = file.path.removeprefix("s3://deep/")
            s3_client(s3).put_object(Bucket="deep", Key=key, Body=b"x" * file.size)
            with pytest.raises(ChangedError, match="replaced while it was being read"):
                list(batches)


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"item_id,image_url\n")
    file = list_inputs(ManifestSettings(path=str(path), format="csv"), STORE)[0]
    with open_input(file, STORE), path.open("ab") as more:
        more.write(b"1,u\n")
        more.flush()
        with pytest.raises(ManifestError, match=r"18 bytes.*22 now"):
            refuse_if_grown(file)
    with pytest.raises(ManifestError, match="changed while the run was starting"):
        open_input(file, STORE)
    path.write_bytes(b"")
    with pytest.raises(ManifestError, match="0 now"):
        open_input(file, STORE)
    path.unlink()
    with pytest.raises(ManifestError, match="cannot be read"):
        open_input(file, STORE)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="not a regular file"):
        inputs(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="an empty list"):
        list_inputs(ManifestSettings(path=[], format="csv"), STORE)
    with pytest.raises(ManifestError, match="cannot be listed"):
        list_images(ManifestSettings(path="https://h/x", format="folder"), STORE)
