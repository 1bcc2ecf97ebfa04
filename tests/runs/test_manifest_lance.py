"""Lance data sets as manifests: the rows and refusals of Parquet, one version, pictures by address."""

import datetime
import io
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.catalogue import inspect_manifest, read_manifest
from aistudio.config import ManifestSettings, StoreSettings
from aistudio.errors import ManifestError
from aistudio.lance_data import open_lance
from aistudio.parts import split_part
from aistudio.pipeline.sample import take_sample
from aistudio.runs.manifest_lance import count_lance, inspect_lance, list_lance, read_lance
from aistudio.runs.manifest_sample import sample
from aistudio.runs.snapshot import find_manifest, manifest_identity, read_input
from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[2]
lance = pytest.importorskip("lance", reason="the library of the extra `lance`")

JPEG = b"\xff\xd8\xff\xe0" + b"j" * 300
HUB = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(place, table, **kw):
    data = table if isinstance(table, pa.Table) else pa.table(table)
    lance.write_dataset(data, str(place), **kw)
    return str(place)


def settings(path, **kw):
    return ManifestSettings.model_validate({"path": path, "format": "lance", **kw})


def rows_of(path, store=None, **kw):
    """Rows and rejects of a manifest's first data set."""
    options = {name: kw.pop(name) for name in ("id_prefix", "batch_rows") if name in kw}
    wanted, store = settings(path, **kw), store or StoreSettings()
    file = list_lance(wanted, store)[0]
    columns = inspect_lance(file, wanted, store)
    batches = list(read_lance(file, wanted, columns, store, **options))
    assert all(b.candidates.schema == columns.schema for b in batches)
    return [r for b in batches for r in b.candidates.to_pylist()], [r for b in batches for r in b.rejected.to_pylist()]


ODD = {
    "item_id": pa.array([1.0, None, float("nan"), 4.5, 5.0, 6.0]),
    "image_url": ["http://h/1.jpg", "http://h/2.jpg", "http://h/3.jpg", "  ", None, "http://h/\0.jpg"],
    "text": ["a", "  ", None, "d", "e", "f"],
    "my price": [1, 2, None, 4, 5, 6],
    "tags": pa.array([["x", None], [], None, ["y"], [], []], pa.list_(pa.string())),
    "day": pa.array([datetime.date(9999, 12, 31)] * 6),
    "cost": pa.array([None] * 6, pa.decimal128(9, 2)),
    "vector": pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 12, pa.float32()), 2),
    "Größe-#1": ["m"] * 6,
}
LISTS = {
    "item_id": ["a", "b", "c"],
    "image_url": pa.array([["u1", None, "u3"], [], ["u4"]], pa.list_(pa.string())),
    "text": ["x", "y", "z"],
}
BYTES = {"item_id": ["a", "b"], "image_url": pa.array([b"http://h/a", b"http://h/\xff"], pa.large_binary())}


@pytest.mark.parametrize("table", [ODD, LISTS, BYTES], ids=["odd", "lists", "bytes"])
def test_rows_and_rejects_are_those_of_parquet(tmp_path, table):
    """The same table by both readers: every column, every reason."""
    path = write(tmp_path / "m.lance", table)
    out = io.BytesIO()
    pq.write_table(pa.table(table), out)
    wanted = ManifestSettings(path="m", format="parquet")
    columns = inspect_manifest(io.BytesIO(out.getvalue()), path, wanted)
    batches = list(read_manifest(out, path, wanted, columns, id_prefix="3-"))
    rows, rejected = rows_of(path, id_prefix="3-")
    assert [str(r) for r in rows] == [str(r) for b in batches for r in b.candidates.to_pylist()]
    assert rejected == [r for b in batches for r in b.rejected.to_pylist()]
    assert rows and rejected


def test_streams_in_order_over_many_files_and_deleted_rows(tmp_path):
    path = write(
        tmp_path / "m.lance", {"item_id": [f"i{n}" for n in range(250)], "image_url": [f"u{n}" for n in range(250)]},
        max_rows_per_file=70,
    )  # fmt: skip
    lance.dataset(path).delete("item_id = 'i1' or item_id = 'i100'")
    rows, _ = rows_of(path, batch_rows=40)
    kept = [n for n in range(250) if n not in (1, 100)]
    assert [r["item_id"] for r in rows] == [f"i{n}" for n in kept]
    assert [r["source_line"] for r in rows] == list(range(1, 249)) and rows[-1]["row_id"] == "248"
    assert count_lance(list_lance(settings(path), StoreSettings())[0], StoreSettings()) == 248


def test_pictures_become_addresses_of_their_rows(tmp_path):
    path = write(tmp_path / "a b.lance", {"sku": ["a", None, "c"], "photo": pa.array([JPEG, JPEG, None])})
    rows, rejected = rows_of(path, columns={"item_id": "sku", "image_url": "photo"})
    assert [r["reason"] for r in rejected] == ["empty item_id"]
    mark = open_lance(path, StoreSettings()).mark
    assert [r["image_url"] for r in rows] == [f"{path}#lance={n}&column=photo&version={mark}" for n in (1, 3)]
    place, part = split_part(rows[1]["image_url"])
    assert (place, part.kind, part.at, part.name, part.mark) == (path, "lance", 3, "photo", mark)


def blobs(version):
    if version == 1:
        kind = pa.field("image", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
        return pa.table([pa.array([JPEG] * 3, pa.large_binary())], schema=pa.schema([kind]))
    return pa.table({"image": lance.blob_array([JPEG] * 3)})


@pytest.mark.parametrize("kind", ["hub", "blob 1", "blob 2"])
def test_the_only_column_of_pictures_needs_no_mapping_and_no_items(tmp_path, kind):
    images = pa.table({"image": pa.array([{"bytes": JPEG, "path": ""}] * 3, HUB)}) if kind == "hub" else None
    table = images if images is not None else blobs(int(kind[-1]))
    more = {"data_storage_version": "2.2"} if kind == "blob 2" else {}
    path = write(tmp_path / "m.lance", table.append_column("label", pa.array([3, 1, 2])), **more)
    rows, _ = rows_of(path, batch_rows=2)
    assert [r["item_id"] for r in rows] == ["1", "2", "3"] and [r["label"] for r in rows] == [3, 1, 2]
    assert all("#lance=" in r["image_url"] for r in rows) and "image" not in rows[0]
    only = write(tmp_path / "only.lance", table, **more)
    assert len(rows_of(only, batch_rows=2)[0]) == 3


class TestPlaces:
    @pytest.fixture
    def two(self, tmp_path):
        for name in ("b.lance", "a.lance"):
            write(tmp_path / "sets" / name, {"item_id": [name[0]], "image_url": ["u"]})
        (tmp_path / "sets/notes.txt").write_text("x")
        return tmp_path / "sets"

    @pytest.mark.parametrize("pattern", ["", "/*.lance", "/{a,b}.lance", "/[ab].*"])
    def test_a_folder_or_a_pattern_means_the_data_sets_in_it(self, two, make_config, pattern):
        config = make_config(f"{two}{pattern}", "lance", None)
        files, columns = find_manifest(config)
        assert [f.path for f in files] == [f"{two}/a.lance", f"{two}/b.lance"]
        found = [b for i in (0, 1) for b in read_input(config, files, i, columns, many=True)]
        assert [r["row_id"] for b in found for r in b.candidates.to_pylist()] == ["0-1", "1-1"]
        probed = take_sample(SimpleNamespace(config=config, files=files), 5)
        assert (probed.total, probed.exact, probed.rows.num_rows) == (2, True, 2)

    def test_what_is_not_there_is_said(self, two):
        for path, message in (
            (f"{two}/c.lance", "no such folder.*did you mean"),
            (f"{two}/notes.txt", "a Lance data set is a folder"),
            (f"{two.parent}/*.parquet", "no Lance data set there"),
            ("https://h/a.lance", "read from a disk or a bucket; copy it there"),
            ("hf://datasets/o/n/a.lance", "read from a disk or a bucket; copy it there"),
        ):
            with pytest.raises(ManifestError, match=message):
                list_lance(settings(path), StoreSettings())
        with pytest.raises(ManifestError, match="an empty list"):
            list_lance(settings([]), StoreSettings())

    def test_in_a_bucket(self, two, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        with S3Server() as s3:
            for path in sorted(p for p in two.rglob("*") if p.is_file()):
                s3.client.put_object(Bucket="bucket", Key=f"x/{path.relative_to(two)}", Body=path.read_bytes())
            store = StoreSettings(endpoint_url=s3.url, retries=0)
            for pattern in ("s3://bucket/x", "s3://bucket/x/*.lance", "s3://bucket/x/{a,b}.lance"):
                files = list_lance(settings(pattern), store)
                assert [f.path for f in files] == ["s3://bucket/x/a.lance", "s3://bucket/x/b.lance"]
            assert rows_of("s3://bucket/x/b.lance", store)[0][0]["item_id"] == "b"
            with pytest.raises(ManifestError, match="no Lance data set there"):
                list_lance(settings("s3://bucket/y"), store)
            s3.fault = lambda method, path: "denied"
            with pytest.raises(ManifestError, match=r"AccessDenied|Forbidden|403"):
                list_lance(settings("s3://bucket/x/a.lance"), store)
            s3.fault = None

    def test_init_looks_into_it(self, tmp_path):
        table = {"photo": pa.array([JPEG] * 3), "day": pa.array([2**30] * 3, pa.date32()), "title": ["x"] * 3}
        path = write(tmp_path / "m.lance", table)
        looked = sample(path, StoreSettings())
        assert (looked.format, looked.names, len(looked.rows)) == ("lance", ["photo", "day", "title"], 3)
        hub = pa.array([{"bytes": JPEG, "path": ""}], HUB)
        looked = sample(write(tmp_path / "h.lance", {"image": hub, "title": ["x"]}), StoreSettings())
        assert looked.pictures == "image" and looked.rows == [{"title": "x"}]


class TestOneVersion:
    @pytest.fixture
    def config(self, tmp_path, make_config):
        path = write(tmp_path / "m.lance", {"item_id": ["a", "b"], "image_url": ["u", "v"]})
        return make_config(path, "lance", None)

    def test_what_changes_between_finding_and_reading_is_refused(self, config):
        files, columns = find_manifest(config)
        more = pa.table({"item_id": ["c"], "image_url": ["w"]})
        lance.write_dataset(more, files[0].path, mode="append")
        with pytest.raises(ManifestError, match="changed while the run was starting"):
            list(read_input(config, files, 0, columns, many=False))

    def test_identity_is_that_of_the_rows(self, config):
        identity = manifest_identity(config, find_manifest(config)[0])
        data = lance.dataset(config.manifest.path)
        data.create_scalar_index("item_id", "BTREE")  # a new version of the same rows
        assert manifest_identity(config, find_manifest(config)[0]) == identity
        lance.dataset(config.manifest.path).delete("item_id = 'a'")
        assert manifest_identity(config, find_manifest(config)[0]) != identity

    def test_another_data_set_in_its_place_is_another_manifest(self, config):
        files, columns = find_manifest(config)
        shutil.rmtree(files[0].path)
        write(files[0].path, {"item_id": ["a", "b"], "image_url": ["u", "v"]})
        with pytest.raises(ManifestError, match="changed while the run was starting"):
            list(read_input(config, files, 0, columns, many=False))


class TestWhatIsWrong:
    @pytest.mark.parametrize("where", ["data", "_versions"])
    def test_damage_is_an_error_and_no_short_manifest(self, tmp_path, where):
        table = {"item_id": [f"i{n}" for n in range(3000)], "image_url": [f"u{n}" for n in range(3000)]}
        path = write(tmp_path / "m.lance", table)
        for file in (tmp_path / "m.lance" / where).iterdir():
            file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ManifestError, match=r"m\.lance"):
            rows_of(path)

    def test_a_data_file_that_is_gone(self, tmp_path):
        path = write(tmp_path / "m.lance", {"item_id": ["a"], "image_url": ["u"]})
        shutil.rmtree(tmp_path / "m.lance/data")
        with pytest.raises(ManifestError, match="cannot be read after record 0"):
            rows_of(path)

    def test_settings_that_do_not_fit(self, tmp_path):
        path = write(tmp_path / "m.lance", {"sku": ["a"], "photo": pa.array([JPEG]), "box": [{"x": 1}]})
        for change, message in (
            ({}, "no column for (item_id|image_url)"),
            ({"columns": {"image_url": "foto"}}, "did you mean 'photo'"),
            ({"columns": {"item_id": "box", "image_url": "photo"}}, "item_id needs a column of plain values"),
            ({"columns": {"item_id": "sku", "image_url": "photo"}, "image_separator": "|"}, "holds pictures"),
        ):
            with pytest.raises(ManifestError, match=message):
                rows_of(path, **change)

    def test_other_columns_in_a_later_data_set(self, tmp_path, make_config):
        write(tmp_path / "s/a.lance", {"item_id": ["a"], "image_url": pa.array([JPEG])})
        write(tmp_path / "s/b.lance", {"item_id": ["b"], "image_url": ["http://h/b.jpg"]})
        config = make_config(str(tmp_path / "s"), "lance", None)
        files, columns = find_manifest(config)
        with pytest.raises(ManifestError, match="the manifest's first file holds pictures there"):
            list(read_input(config, files, 1, columns, many=True))

    def test_a_library_that_is_missing_is_named_with_its_extra(self, tmp_path, monkeypatch):
        path = write(tmp_path / "m.lance", {"item_id": ["a"], "image_url": ["u"]})
        monkeypatch.setitem(sys.modules, "lance", None)
        with pytest.raises(ManifestError, match=r"lance is not installed.*aistudio-catalogue\[lance\]"):
            list_lance(settings(path), StoreSettings())


def test_starting_a_program_afterwards_warns_of_nothing(tmp_path):
    """Ray forks to start its processes; what the library says then is noise to who runs a job."""
    path = write(tmp_path / "m.lance", {"item_id": ["a"], "image_url": ["u"]})
    code = (
        "import subprocess\n"
        "from aistudio.config import StoreSettings\n"
        "from aistudio.lance_data import open_lance\n"
        f"open_lance({path!r}, StoreSettings())\n"
        "subprocess.run(['true'], preexec_fn=lambda: None, check=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_panics_is_an_error_of_ours():
    from aistudio.lance_data import LanceError, lance_errors

    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(LanceError, match=r"/d/m\.lance: index out of bounds") as e, lance_errors("/d/m.lance"):
        raise panic("index out of bounds")
    assert e.value.kind == "damaged"
    with pytest.raises(KeyboardInterrupt), lance_errors("/d/m.lance"):
        raise KeyboardInterrupt
