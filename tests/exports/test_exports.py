"""Every export format, read by its own library: counts, ids, vectors and columns, searches, and nothing half-done."""

import datetime
import glob
import json
import sys
import tracemalloc
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ConfigError, StoreError
from aistudio.exports import FORMATS
from aistudio.exports.export import export_run
from aistudio.exports.format import format_of
from aistudio.exports.source import Wanted
from aistudio.search.held import Range
from aistudio.search.searcher import Searcher
from tests.evaluation.stored_run import DIM, catalogue, unit, write_run

HOSTILE = ["", ".", "..", "../../etc/passwd", "a.b/c.d", "/abs", "x" * 400, "名 \n\t", "__meta__", "{0..9}", "%06d",
           "a\\b", "NaN", "null", "\u202e", "-1", "it's", '"', "<b>", "s3://k"]  # fmt: skip
MORE = [
    pa.field("category", pa.string()), pa.field("price", pa.float64()), pa.field("day", pa.date32()),
    pa.field("a.b", pa.string()), pa.field("tags", pa.list_(pa.string())), pa.field("cost", pa.decimal128(9, 2)),
]  # fmt: skip


def hostile_rows():
    rows, texts = catalogue()
    rng = np.random.default_rng(5)
    rows[30]["embedding"] = unit(rng.normal(size=DIM))  # no two rows alike: their order would be anybody's
    for i, row in enumerate(rows):
        row["row_id"] = HOSTILE[i // 2] if i % 2 and i // 2 < len(HOSTILE) else f"r{i}"
        row["thumbnail"] = b"\xff\xd8" + bytes([i]) if row["embedding"] is not None and i % 4 else None
        row["day"] = datetime.date(9999, 12, 31) if i % 2 else None
        row["a.b"], row["tags"], row["cost"] = f"dot {i}", ["x", None], Decimal("12.50")
        row["text"] = ['</script>"', "a.b/c\0d"[:5], "", "酒店"][i % 4]
    rows[3]["price"] = float("nan")
    return rows, texts


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """60 rows, some failed, in files of both layouts of vectors, with an encoder of raw vectors beside."""
    folder = tmp_path_factory.mktemp("exported")
    rows, texts = hostile_rows()
    store = write_run(folder / "run", rows, texts, MORE, old=lambda number: number % 2 == 1)
    models = {"recall": {"name": "tiny", "fingerprint": "f00"}}
    store.write_json("run.json", store.read_json("run.json") | {"models": models, "fingerprint": "abc"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISTUDIO_CACHE", str(folder / "cache"))
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield store


@pytest.fixture(scope="module")
def rows():
    return hostile_rows()[0]


def good(rows):
    return [r for r in rows if r["embedding"] is not None]


def our_ten(store, row_id):
    found = Searcher.open(store.root)
    return found.search(found.like_row(row_id), top_n=10, per="row", leave_out=[]).results


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_says_what_it_holds_and_leaves_the_run_alone(run, rows, name, tmp_path):
    before = {e.key: e.size for e in run.list("")}
    made = export_run(run, name, str(tmp_path / "out"), Wanted())
    assert {e.key: e.size for e in run.list("")} == before
    about = json.loads((tmp_path / "out/export.json").read_text("utf-8"))
    assert about == json.loads(json.dumps(made.about))
    kept = len(rows) if format_of(name).missing else len(good(rows))
    assert about["rows"] == about["rows_read_back"] == kept
    assert about["without_vector"] == len(rows) - len(good(rows)) > 0
    assert about["model"] == {"role": "recall", "name": "tiny", "fingerprint": "f00"}
    assert about["told_as_text"] == ["tags", "cost"] and about["run_fingerprint"] == "abc"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_npy(run, rows, tmp_path):
    export_run(run, "npy", str(tmp_path / "out"), Wanted())
    matrix = np.load(tmp_path / "out/vectors.npy", mmap_mode="r")
    ids = pq.read_table(tmp_path / "out/ids.parquet")
    assert isinstance(matrix, np.memmap) and matrix.dtype == np.float32
    assert (matrix == np.stack([r["embedding"] for r in good(rows)])).all()
    assert ids["row_id"].to_pylist() == [r["row_id"] for r in good(rows)]
    assert ids["a.b"].to_pylist() == [r["a.b"] for r in good(rows)] and "thumbnail" not in ids.column_names
    assert ids["tags"][0].as_py() == '["x", null]' and ids["cost"][0].as_py() == "12.50"
    assert ids["day"].to_pylist() == [r["day"] for r in good(rows)]


def test_faiss_finds_our_ten(run, rows, tmp_path):
    faiss = pytest.importorskip("faiss")
    export_run(run, "faiss", str(tmp_path / "out"), Wanted(columns=["item_id"]))
    index = faiss.read_index(str(tmp_path / "out/index.faiss"))
    ids = pq.read_table(tmp_path / "out/ids.parquet")
    assert index.ntotal == len(ids) == len(good(rows)) and ids.column_names == ["row_id", "item_id"]
    for row in good(rows)[::7]:
        scores, found = index.search(row["embedding"][None], 10)
        ours = our_ten(run, row["row_id"])
        assert ids["row_id"].take(pa.array(found[0])).to_pylist() == [r.row_id for r in ours]
        assert np.allclose(scores[0], [r.score for r in ours], atol=1e-6)


def test_lancedb_finds_our_ten(run, rows, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    made = export_run(run, "lance", str(tmp_path / "out"), Wanted())
    assert made.about["renamed"] == {"a.b": "a_b"}
    table = lancedb.connect(str(tmp_path / "out")).open_table("images")
    stored = table.to_arrow()
    assert stored["row_id"].to_pylist() == [r["row_id"] for r in rows]
    assert [v is None for v in stored["embedding"].to_pylist()] == [r["embedding"] is None for r in rows]
    assert stored["thumbnail"].to_pylist() == [r["thumbnail"] for r in rows]
    for row in good(rows)[::9]:
        found = table.search(row["embedding"]).distance_type("cosine").limit(10).to_list()
        ours = our_ten(run, row["row_id"])
        assert [f["row_id"] for f in found] == [r.row_id for r in ours]
        assert np.allclose([1 - f["_distance"] for f in found], [r.score for r in ours], atol=1e-6)


def test_hugging_face_loads_it(run, rows, tmp_path):
    datasets = pytest.importorskip("datasets")
    export_run(run, "hf", str(tmp_path / "out"), Wanted())
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert isinstance(loaded.features["thumbnail"], datasets.Image)
    found = list(loaded.cast_column("thumbnail", datasets.Image(decode=False)))
    assert [f["row_id"] for f in found] == [r["row_id"] for r in rows]
    pictures = [f["thumbnail"] and f["thumbnail"]["bytes"] for f in found]
    assert pictures == [r["thumbnail"] for r in rows]
    vectors = [None if f["embedding"] is None else np.float32(f["embedding"]).tolist() for f in found]
    assert vectors == [None if r["embedding"] is None else r["embedding"].tolist() for r in rows]


def test_webdataset_keys_are_numbers_whatever_the_ids(run, rows, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    export_run(run, "webdataset", str(tmp_path / "out"), Wanted())
    shards = sorted(glob.glob(f"{tmp_path}/out/*.tar"))  # noqa: PTH207 - as the docs say it
    found = list(webdataset.WebDataset(shards, shardshuffle=False))
    kept = good(rows)
    assert [s["__key__"] for s in found] == [f"{i:09d}" for i in range(len(kept))]
    for sample, row in zip(found, kept, strict=True):
        told = json.loads(sample["json"])
        assert told["row_id"] == row["row_id"] and sample["txt"].decode() == row["text"]
        assert sample.get("jpg") == row["thumbnail"] and told["tags"] == '["x", null]'
        assert told["price"] == (None if np.isnan(row["price"]) else row["price"])
        decoded = webdataset.autodecode.basichandlers("npy", sample["npy"])
        assert (decoded == row["embedding"]).all()


def test_conditions_columns_and_encoders(run, rows, tmp_path):
    where = {"category": "hat", "price": Range(3, 7)}
    made = export_run(run, "npy", str(tmp_path / "out"), Wanted(columns=["price"], where=where))
    ids = pq.read_table(tmp_path / "out/ids.parquet")
    wanted = [r for r in good(rows) if r["category"] == "hat" and 3 <= r["price"] <= 7]
    assert ids.column_names == ["row_id", "price"] and ids["row_id"].to_pylist() == [r["row_id"] for r in wanted]
    assert made.about["where"] == {"category": "hat", "price": [3, 7]}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(columns=["colour"]), "--columns: 'colour' is not a column of the rows; there: row_id"),
        (Wanted(columns=["embedding"]), "--vectors says which"),
        (Wanted(columns=["thumbnail"]), "holds no pictures"),
        (Wanted(vectors="look"), "--vectors look: .* has none of it; it has recall"),
        (Wanted(truncate_dim=DIM), f"--truncate-dim {DIM}: expected 1 to {DIM - 1}"),
        (Wanted(truncate_dim=0), "--truncate-dim 0: expected 1"),
        (Wanted(where={"colour": "red"}), "where: 'colour' is not a column"),
        (Wanted(where={"category": "none such"}), "nothing to export: no row passes --where"),
        (Wanted(where={"status": "timeout"}), r"nothing to export: \d+ rows have no vector"),
    ],
)
def test_a_mistake_is_said_and_nothing_is_left(run, tmp_path, wanted, message):
    with pytest.raises(ConfigError, match=message):
        export_run(run, "npy", str(tmp_path / "out"), wanted)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["npy", "hf", "webdataset", "faiss"])
def test_shorter_and_int8_vectors_say_what_they_lose(run, rows, name, tmp_path):
    full = np.stack([r["embedding"] for r in good(rows)])
    for dim, int8 in ((None, True), (5, False), (5, True)):
        out = tmp_path / f"{dim}{int8}"
        about = export_run(run, name, str(out), Wanted(truncate_dim=dim, int8=int8), sample=20).about
        cut = full[:, :dim] / np.linalg.norm(full[:, :dim], axis=1, keepdims=True)
        kept = cut if not int8 or name != "npy" else _decoded(out)
        assert about["overlap"]["queries"] == 20 and about["vectors"]["dim"] == (dim or DIM)
        if name == "npy":
            assert about["overlap"]["value"] == pytest.approx(_loss(full, cut, kept, 20), abs=0.02)
        assert 0.2 < about["overlap"]["value"] <= 1 and (dim is not None or about["overlap"]["value"] > 0.9)


def _decoded(out):
    codes = np.load(out / "vectors.npy")
    assert codes.dtype == np.int8 and np.abs(codes).max() == 127
    return codes * pq.read_table(out / "ids.parquet")["embedding_step"].to_numpy()[:, None]


def _loss(full, queries, kept, num):
    """The same share, by sorting whole matrices, of the rows that the sample draws."""
    drawn = np.sort(np.argsort(np.random.default_rng(0).random(len(full)), kind="stable")[:num])
    kept = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    shares = []
    for row in drawn:
        tens = []
        for query, gallery in ((full[row], full), (queries[row], kept)):
            order = np.argsort(-(gallery.astype(float) @ query.astype(float)), kind="stable")
            tens.append([i for i in order if i != row][:10])
        shares.append(len(set(tens[0]) & set(tens[1])) / 10)
    return np.mean(shares)


def test_lance_has_no_bytes(run, tmp_path):
    with pytest.raises(ConfigError, match="--int8: lance has no vectors of one byte"):
        export_run(run, "lance", str(tmp_path / "out"), Wanted(int8=True))


def test_raw_vectors_are_kept_raw_and_an_index_has_them_at_length_one(tmp_path):
    rows, _ = catalogue()
    for row in rows:
        row["embedding"] = None if row["embedding"] is None else row["embedding"] * 3
    store = write_run(tmp_path / "run", rows, {})
    for path in (tmp_path / "run/scores").glob("*.parquet"):
        table = pq.read_table(path)
        names = ["embedding_look" if n == "embedding" else n for n in table.column_names]
        store.write_table(f"scores/{path.name}", table.rename_columns(names))
    models = {"encoders.look": {"name": "look", "normalised": False}}
    store.write_json("run.json", store.read_json("run.json") | {"models": models})
    about = export_run(store, "npy", str(tmp_path / "npy"), Wanted()).about
    assert about["vectors"]["column"] == "embedding_look" and not about["vectors"]["unit_length"]
    assert about["model"] == {"role": "encoders.look", "name": "look", "fingerprint": None}
    assert np.allclose(np.linalg.norm(np.load(tmp_path / "npy/vectors.npy"), axis=1), 3, atol=1e-5)
    faiss = pytest.importorskip("faiss")
    export_run(store, "faiss", str(tmp_path / "faiss"), Wanted(vectors="look"))
    found = faiss.read_index(str(tmp_path / "faiss/index.faiss")).search(np.load(tmp_path / "npy/vectors.npy")[:1], 1)
    assert found[1][0][0] == 0 and found[0][0][0] == pytest.approx(3, abs=1e-4)


def test_places(run, tmp_path, monkeypatch):
    inside = f"{run.root}/export"
    for out in (inside, run.root, f"{tmp_path}/../{tmp_path.name}/../../", f"{run.root}/x/.."):
        with pytest.raises(ConfigError, match=r"--out .*(lies in the run|there already)"):
            export_run(run, "npy", out, Wanted(), overwrite=True)
    for out in ("http://h/k", "hf://datasets/o/n", "s3:b/k"):
        with pytest.raises(ConfigError, match="--out"):
            export_run(run, "npy", out, Wanted())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious").write_text("x")
    with pytest.raises(ConfigError, match="there already; name another folder, or say --overwrite"):
        export_run(run, "npy", str(tmp_path / "mine"), Wanted())
    with pytest.raises(ConfigError, match=r"this is none \(it has no export.json\)"):
        export_run(run, "npy", str(tmp_path / "mine"), Wanted(), overwrite=True)
    (tmp_path / "empty").mkdir()
    export_run(run, "npy", str(tmp_path / "empty"), Wanted(where={"category": "hat"}))
    before = (tmp_path / "empty/vectors.npy").read_bytes()
    export_run(run, "npy", str(tmp_path / "empty"), Wanted(), overwrite=True)
    assert len((tmp_path / "empty/vectors.npy").read_bytes()) > len(before)
    monkeypatch.chdir(tmp_path)
    export_run(run, "npy", "new/deep er/[x]", Wanted())
    assert (tmp_path / "new/deep er/[x]/export.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "mine", "new"]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_damaged_run_leaves_what_was_there(name, tmp_path):
    store = write_run(tmp_path / "run", *catalogue())
    export_run(store, name, str(tmp_path / "out"), Wanted())
    was = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    path = tmp_path / "run/scores/00005.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"00005\.parquet: damaged"):
        export_run(store, name, str(tmp_path / "out"), Wanted(), overwrite=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == was
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "run"]


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("fault", ["vector", "id", "lost", "more"])
def test_what_is_read_back_differently_is_no_export(run, name, fault, tmp_path, monkeypatch):
    """The library gives back something else: a number changed by its last bit, an id, a row less, a row more."""
    from dataclasses import replace

    import aistudio.exports.export as module

    form = format_of(name)

    def read(source, folder):
        reads = list(form.read(source, folder))
        last = reads[-1]
        row = int(np.flatnonzero(last.valid_N)[-1])
        vectors, ids = last.vectors_ND.copy(), list(last.row_ids)
        if fault == "vector":
            vectors[row, 3] = np.nextafter(vectors[row, 3], np.float32(9))
        if fault == "id":
            ids[row] += "x"
        end = len(ids) - (fault == "lost")
        yield from [*reads[:-1], last._replace(vectors_ND=vectors[:end], row_ids=ids[:end], valid_N=last.valid_N[:end])]
        if fault == "more":
            yield last

    monkeypatch.setattr(module, "format_of", lambda _: replace(form, read=read))
    with pytest.raises(StoreError, match=r"the vector of row|was read back as|reading back (ended|gave more)"):
        export_run(run, name, str(tmp_path / "out"), Wanted())
    assert not list(tmp_path.iterdir())


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    for name, module in (("lance", "lance"), ("faiss", "faiss"), ("hf", "datasets"), ("webdataset", "webdataset")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=rf"--to {name} needs the package .*pip install .*\[export-{name}\]"):
            format_of(name)


@pytest.mark.parametrize("name", ["npy", "hf", "lance"])
def test_memory_does_not_grow_with_the_run(name, tmp_path, monkeypatch):
    """What Python, NumPy and Arrow hold at most, for a run of two batches and for one of three times as many."""
    from dataclasses import replace

    import aistudio.exports.export as module

    form, most = format_of(name), []

    def watched(parts):
        for part in parts:
            most[-1] = max(most[-1], pa.total_allocated_bytes())
            yield part

    monkeypatch.setattr(
        module, "format_of", lambda _: replace(
            form, write=lambda source, batches, folder: form.write(source, watched(batches), folder),
            read=lambda source, folder: watched(form.read(source, folder)),
        )
    )  # fmt: skip
    rows, _ = catalogue()
    for times in (150, 450):
        many = [{**row, "row_id": f"{n}-{row['row_id']}"} for n in range(times) for row in rows]
        store = write_run(tmp_path / f"run{times}", many, {}, shard=5_000)
        del many
        most.append(0)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        export_run(store, name, str(tmp_path / f"out{times}"), Wanted(columns=["item_id"]))
        most[-1] += tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert most[1] < 1.3 * most[0]
