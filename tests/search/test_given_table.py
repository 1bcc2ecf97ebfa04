"""A table of somebody else's numbers, read whatever its cells hold: each line is used or has a reason."""

import gzip
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.search.alignment import UNMATCHED_SCHEMA, RowIndex, hash_texts
from aistudio.search.cells import numbers, texts, vectors
from aistudio.search.given import align
from aistudio.search.given_table import open_given
from tests.evaluation.stored_run import DIM, catalogue, write_run
from tests.odd_tables import KINDS, odd_array


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows, vectors_of = catalogue()
    rows[4]["image_url"] = "https://***@x.example/0/4.jpg"  # as an address with a password is stored
    store = write_run(tmp_path_factory.mktemp("given") / "run", rows, vectors_of)
    keys = [f"scores/{i:05d}.parquet" for i in range(9)]
    return store, rows, list(enumerate(keys))


def read(run, path, folder, **settings):
    store, _, files = run
    stored = store.read_metadata(files[0][1])[0].names
    return align(open_given(str(path), stored, MetricsSettings(**settings), store), store, files, folder)


def reasons(given):
    account = given.account
    assert account.used + sum(account.reasons.values()) == account.lines  # every line is accounted for
    table = account.table()
    assert table.schema == UNMATCHED_SCHEMA
    return dict(account.reasons), [(r["line"], r["key"], r["reason"]) for r in table.to_pylist()]


HOSTILE = [  # row 7 and the last five failed
    ("0", 1.5), ("0", 2.5), ("1", "nan"), ("1", 3), ("2", "inf"), ("3", "x"), ("3", None), ("", 1), ("7", 1), ("no", 1),
    ("5", 10**400), ("6", True), ("6", "1e3"), ("8", "1_000"), ("9", " 2 "), ("10", [1]), ("11", {"a": 1}),
]  # fmt: skip
WANTED = {"0": 1.5, "1": 3, "6": 1000, "9": 2}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_hostile_scores(run, tmp_path, suffix):
    lines = [(k, v if suffix == "jsonl" else "" if v is None else str(v)) for k, v in HOSTILE]
    path = tmp_path / f"s.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"row_id": [k for k, _ in lines], "score": [v for _, v in lines]}), path)
    elif suffix == "jsonl":
        more = ["not json", "[1]", json.dumps({"score": 1}), '{"row_id": "\\ud800", "score": 1}']
        path.write_text("\n".join([*(json.dumps({"row_id": k, "score": v}) for k, v in lines), *more]))
    else:
        by = "\t" if "tsv" in suffix else ","
        text = "\n".join([f"row_id{by}score", *(by.join((k, f'"{v}"' if "," in v else v)) for k, v in lines), "12"])
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    given = read(run, path, tmp_path)
    found = {run[1][i]["row_id"]: given.scores_N[i] for i in np.flatnonzero(~np.isnan(given.scores_N))}
    assert found == WANTED and given.has_N.sum() == 4
    counts, told = reasons(given)
    bad, no_key, unknown = {"jsonl": (2, 2, 2), "parquet": (0, 1, 1)}.get(suffix, (1, 1, 1))
    assert counts == {
        "duplicate": 1, "not_a_number": 9, "no_key": no_key, "failed_row": 1, "unknown_row": unknown,
        **({"bad_line": bad} if bad else {}),
    }  # fmt: skip
    assert (2, "0", "duplicate") in told and (9, "7", "failed_row") in told and (10, "no", "unknown_row") in told
    ok = sum(r["status"] == "ok" for r in run[1])
    assert given.account.rows_without == ok - 4 == sum(t[2] == "no_line" for t in told)
    assert (None, "13", "no_line") in told


def test_rows_are_named_by_item_and_address_or_by_a_column_of_ones_own(run, tmp_path):
    rows = run[1]
    path = tmp_path / "s.csv"
    path.write_text(
        f"item_id,image_url,score\nitem0,{rows[0]['image_url']},1\nitem0,https://me:secret@x.example/0/4.jpg,2\n"
        f"item1,{rows[0]['image_url']},3\n"
    )
    given = read(run, path, tmp_path)
    assert given.scores_N[[0, 4]].tolist() == [1, 2] and reasons(given)[0] == {"unknown_row": 1}
    assert not any("secret" in (key or "") for _, key, _ in given.account.told)
    path.write_text("category,score\nhat,4\nhat,5\n")
    given = read(run, path, tmp_path, scores_key=["category"])
    hats = [i for i, r in enumerate(rows) if r["category"] == "hat" and r["status"] == "ok"]
    assert np.flatnonzero(~np.isnan(given.scores_N)).tolist() == hats and reasons(given)[0] == {"duplicate": 1}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_vectors_of_rows_and_texts(run, tmp_path, suffix):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(8, DIM)) * 10.0 ** rng.integers(-200, 200, (8, 1))  # lengths beyond float32
    cells = [*matrix.tolist(), [1.0] * (DIM - 1), [float("nan")] * DIM, [0.0] * DIM, None, [], [1.0] * DIM, [2.0] * DIM]
    names = ["0", "1", "2", "3", "4", "5", "6", None, "8", "9", "10", "11", "12", None, None]
    texts_ = [None] * 7 + ["酒店 3"] + [None] * 5 + ["no such text", "酒店 3"]
    path = tmp_path / f"v.{suffix}"
    if suffix == "parquet":
        pq.write_table(
            pa.table({"row_id": names, "text": texts_, "vector": pa.array(cells, pa.list_(pa.float64()))}), path
        )
    elif suffix == "jsonl":
        lines = [{"row_id": n, "text": t, "vector": v} for n, t, v in zip(names, texts_, cells, strict=True)]
        path.write_text("\n".join(json.dumps(line) for line in lines))
    else:
        shown = ["" if v is None else " ".join(map(repr, v)) if i % 2 else json.dumps(v) for i, v in enumerate(cells)]
        lines = [f'{n or ""},{t or ""},"{v}"' for n, t, v in zip(names, texts_, shown, strict=True)]
        path.write_text("\n".join(["row_id,text,vector", *lines]))
    given = read(run, path, tmp_path)
    unit = matrix / np.abs(matrix).max(axis=1, keepdims=True)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert np.flatnonzero(given.has_N).tolist() == list(range(7))
    np.testing.assert_allclose(given.vectors_ND[:7], unit[:7], atol=1e-7)
    assert list(given.text_vectors) == ["酒店 3"]
    np.testing.assert_allclose(given.text_vectors["酒店 3"], unit[7], atol=1e-7)
    assert reasons(given)[0] == {"wrong_width": 1, "no_vector": 4, "unknown_text": 1, "duplicate": 1}


def test_unit_rows_stay_as_they_are(run, tmp_path):
    rows = [r for r in run[1] if r["embedding"] is not None]
    kind = pa.list_(pa.float32(), DIM)
    table = pa.table(
        {"row_id": [r["row_id"] for r in rows], "embedding": pa.array([r["embedding"] for r in rows], kind)}
    )
    pq.write_table(table, tmp_path / "v.parquet")
    given = read(run, tmp_path / "v.parquet", tmp_path)
    assert (given.vectors_ND[given.has_N] == np.stack([r["embedding"] for r in rows])).all()


@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_every_type_are_something_or_nothing(kind):
    for seed in range(3):
        cells = odd_array(random.Random(f"{kind} {seed}"), kind, 12)
        found = numbers(cells)
        assert found.shape == (12,) and not np.isinf(found).any()
        assert len(texts(cells)) == 12 and all(t is None or t.strip() for t in texts(cells))
        assert len(vectors(cells)) == 12
        hash_texts(texts(cells))


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_any_type_ends_nothing(run, tmp_path, kind):
    rng = random.Random(kind)
    for value in ("score", "vector"):
        for odd in ("row_id", value):
            columns = {"row_id": pa.array([str(i) for i in range(12)]), value: pa.array([1.0] * 12)}
            columns[odd] = odd_array(rng, kind, 12)
            try:
                pq.write_table(pa.table(columns), tmp_path / "s.parquet")
            except pa.ArrowException:
                continue  # a type that Parquet does not have
            try:
                reasons(read(run, tmp_path / "s.parquet", tmp_path))
            except ConfigError as e:  # not one line can be used
                assert "can be used" in str(e)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.txt", "row_id,score\n0,1\n", "expected a file that ends in .csv"),
        ("s.csv", "row_id,value\n0,1\n", "needs a column score .* found row_id, value; or say with --set"),
        ("s.csv", "row_id,score,vector\n0,1,1 2\n", "it has score and vector: say which"),
        ("s.csv", "colour,score\n0,1\n", "needs a column that names the row"),
        ("s.csv", "row_id,score\n", "needs a column score .* found no lines"),
        ("s.csv", "row_id,score\nz,1\n0,x\n", "none of its 2 lines can be used, by row_id: 1 .*; e.g. "),
        ("s.parquet", "row_id,score\n0,1\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(run, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(run, tmp_path / name, tmp_path)


def test_another_column_by_name(run, tmp_path):
    (tmp_path / "s.csv").write_text("row_id,score,m6,look\n0,1,7,1 2\n")
    given = read(run, tmp_path / "s.csv", tmp_path, scores_column="m6")
    assert given.scores_N[0] == 7
    given = read(run, tmp_path / "s.csv", tmp_path, scores_column="look")
    np.testing.assert_allclose(given.vectors_ND[0], np.array([1, 2]) / 5**0.5, atol=1e-7)
    with pytest.raises(ConfigError, match="has no column m7; there: row_id, score, m6, look"):
        read(run, tmp_path / "s.csv", tmp_path, scores_column="m7")


def test_lines_are_streamed(run, tmp_path):
    """A table of 20,000 vectors passes by: what Arrow holds at a time is a small part of it."""
    num = 20_000
    flat = pa.array(np.random.default_rng(0).normal(size=num * 64).astype(np.float32))
    column = pa.FixedSizeListArray.from_arrays(flat, 64)
    ids = [str(i) if i < 60 else f"other{i}" for i in range(num)]
    pq.write_table(pa.table({"row_id": ids, "vector": column}), tmp_path / "v.parquet", row_group_size=2_000)
    del flat, column
    store = run[0]
    table = open_given(str(tmp_path / "v.parquet"), ["row_id"], MetricsSettings(), store)
    before, most, seen = pa.total_allocated_bytes(), 0, 0
    for lines in table:
        most, seen = max(most, pa.total_allocated_bytes() - before), seen + len(lines.keys)
    assert seen == num and most < num * 64 * 4 / 2
    given = read(run, tmp_path / "v.parquet", tmp_path)
    counts, told = reasons(given)
    assert counts == {"unknown_row": num - 60, "failed_row": 10} and given.account.used == 50
    assert sum(t[2] == "unknown_row" for t in told) == 10_000  # told are some, counted are all


def test_the_index_finds_what_a_dictionary_finds(run):
    store, rows, files = run
    index = RowIndex(store, files, ["item_id"], with_texts=True)
    asked = ["item3", None, "nothing", "item3", "", "item11"]
    line, row = index.find(asked)
    wanted = [(i, j) for i, name in enumerate(asked) for j, r in enumerate(rows) if name and r["item_id"] == name]
    assert sorted(zip(line.tolist(), row.tolist(), strict=True)) == wanted
    assert index.has_text("酒店 3") and not index.has_text("酒店") and len(index) == 60
    assert index.find([])[0].tolist() == []
