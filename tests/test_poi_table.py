"""POI look-ups, the published tables and tables of one's own; hostile files are refused."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.errors import ConfigError, WeightsError
from aistudio.poi_table import (
    PoiTable,
    build_table,
    convert_published,
    item_pois,
    kept_pois,
    query_text,
    to_arrow,
)
from aistudio.schema import poi_table_schema

SEED = Path(__file__).parents[2].parent / "shared" / "data" / "seed" / "poi_picture_counts.npy"


def save_dict(path: Path, content: Any) -> Path:
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def test_pois_are_ordered_by_weighted_pictures_and_ties_keep_their_order() -> None:
    counts = {"a1": (1, 0, 0), "b1": (0, 1, 0), "c1": (0, 0, 1), "d1": (5, 0, 0), "e1": (0, 0, 2)}
    assert kept_pois("a1,b1,c1,d1", counts) == ["b1", "d1", "c1", "a1"]  # 1 5 3 5
    assert kept_pois("x,a1,y,z,e1,b1,c1", counts) == ["e1", "b1", "c1", "a1", "x"]
    assert kept_pois("c1, b1", counts) == [" b1", "c1"]  # counted stripped, kept as written


@pytest.mark.parametrize(("names", "kept"), [("", []), ("  ", []), ("海", []), (" 海 ", []), ("海边", ["海边"])])
def test_one_letter_counts_as_no_poi(names: str, kept: list[str]) -> None:
    assert kept_pois(names, {}) == kept


def test_query_text_loses_blanks_at_the_end_only() -> None:
    assert query_text(" 海边,山 \t", "题") == " 海边,山"
    assert query_text("  ", "题") == "题"
    assert query_text("海", "题") == "海"


def test_vectors_are_looked_up_as_written() -> None:
    table = PoiTable(2, {}, {"海边": np.ones(2, np.float32)}, {" 海边": np.full(2, 2, np.float32)})
    pois = item_pois("海边, 海边,?", table)
    assert pois.count == 3
    np.testing.assert_array_equal(pois.pictures[:, 0], [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(pois.names[:, 0], [0, 2, 0, 0, 0])


def test_table_survives_parquet(tmp_path: Path) -> None:
    arrow = to_arrow({"b": (1, 2, 3)}, {"a": np.array([1, 2], np.float32)}, {"b": np.array([3, 4], np.float32)}, 2)
    assert arrow.schema == poi_table_schema(2)
    assert arrow["image_vector"].to_pylist() == [[1, 2], None]
    pq.write_table(arrow, tmp_path / "t.parquet")
    table = PoiTable.from_arrow(pq.read_table(tmp_path / "t.parquet"))
    assert table.counts == {"a": (0, 0, 0), "b": (1, 2, 3)}
    assert list(table.pictures) == ["a"]
    np.testing.assert_array_equal(table.names["b"], [3, 4])
    empty = PoiTable.from_arrow(poi_table_schema(2).empty_table())
    assert item_pois("a1,b1", empty).count == 2
    sliced = PoiTable.from_arrow(arrow.slice(1))  # vectors of a slice do not begin at the buffer's start
    np.testing.assert_array_equal(sliced.names["b"], [3, 4])


def test_tables_that_are_none() -> None:
    with pytest.raises(ConfigError, match="image_vector is missing"):
        PoiTable.from_arrow(pa.table({"name": ["a"]}))
    with pytest.raises(ConfigError, match="counts is missing"):
        PoiTable.from_arrow(to_arrow({"a": (1, 1, 1)}, {}, {}, 2).drop(["counts"]))
    twice = to_arrow({"a": (1, 1, 1)}, {}, {}, 2)
    with pytest.raises(ConfigError, match="more than once"):
        PoiTable.from_arrow(pa.concat_tables([twice, twice]))
    with pytest.raises(ConfigError, match="2 wide, but the ranking model works with 512"):
        PoiTable.from_arrow(twice).require_dim(512)


def test_build_takes_the_ten_best_images_of_each_poi() -> None:
    rng = np.random.default_rng(0)
    names, scores = ["p"] * 12 + ["q"], rng.random(13)
    scores[3] = np.nan
    vectors = rng.random((13, 4), dtype=np.float32)
    table = build_table(names, scores, vectors, {"p": np.ones(4, np.float32)}, {"q": (7, 7, 7)})
    rows = {row["name"]: row for row in table.to_pylist()}
    best = sorted((i for i in range(12) if i != 3), key=lambda i: -scores[i])[:10]
    np.testing.assert_allclose(rows["p"]["image_vector"], vectors[best].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(rows["q"]["image_vector"], vectors[12])
    assert (rows["p"]["counts"], rows["q"]["counts"]) == ([12, 0, 0], [7, 7, 7])
    assert rows["q"]["name_vector"] is None
    assert build_table([], np.empty(0), np.empty((0, 4)), {}).num_rows == 0


def test_published_tables_are_read_like_numpy_reads_them(golden_dir: Path) -> None:
    folder = golden_dir / "public"
    files = [folder / name for name in ("poi_2_pic_num.npy", "poi_imgs_avg10_vector.npy", "poi_name_vector.npy")]
    table = PoiTable.from_arrow(convert_published(*files))
    counts, pictures, names = (np.load(file, allow_pickle=True).item() for file in files)
    assert {k: v for k, v in table.counts.items() if v != (0, 0, 0)} == {k: tuple(v) for k, v in counts.items()}
    for got, want in ((table.pictures, pictures), (table.names, names)):
        assert got.keys() == want.keys()
        assert all((got[k] == want[k]).all() for k in want)


def test_real_published_counts() -> None:
    if not SEED.is_file():
        pytest.skip("the published count table is not on this machine")
    table = PoiTable.from_arrow(convert_published(SEED))
    want = np.load(SEED, allow_pickle=True).item()
    assert table.counts == {k: tuple(int(n) for n in v) for k, v in want.items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    content = {"a": np.arange(3, dtype=">i8"), "b": [np.int64(1), 2, np.int32(3)], "c": (1, 2, 3)}
    path = tmp_path / "c.npy"
    header = np.lib.format
    with path.open("wb") as f:
        header.write_array_header_1_0(f, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(content, dtype=object), f, protocol=protocol)
    table = PoiTable.from_arrow(convert_published(path))
    assert table.counts == {"a": (0, 1, 2), "b": (1, 2, 3), "c": (1, 2, 3)}


class Runs:
    def __init__(self, function: Any, *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (lambda victim: Runs(os.mkdir, str(victim)), r"(posix|nt)\.mkdir"),
        (lambda victim: Runs(eval, f"__import__('os').mkdir({str(victim)!r})"), r"builtins\.eval"),
        (lambda victim: Runs(getattr, "a", "upper"), r"builtins\.getattr"),
        (lambda victim: np.dtype([("x", "O")]), "dtype"),
        (lambda victim: Path(victim), "pathlib"),
    ],
)
def test_hostile_table_is_refused_and_not_run(tmp_path: Path, make: Any, asked: str) -> None:
    victim = tmp_path / "executed"
    path = save_dict(tmp_path / "h.npy", {"a": [1, 2, 3], "b": make(victim)})
    with pytest.raises(WeightsError, match=rf"refused: the file asks for .*{asked}"):
        convert_published(path)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a dictionary"),
        ({1: [1, 2, 3]}, "names as keys"),
        ({"a": [1, 2]}, "a: expected three counts"),
        ({"a": [1, -2, 3]}, "a: expected three counts"),
        ({"a": "xyz"}, "a: expected three counts"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "c.npy"
    wrapped = np.empty((), dtype=object)
    wrapped[()] = content
    np.save(path, wrapped, allow_pickle=True)
    with pytest.raises(WeightsError, match=message):
        convert_published(path)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    whole = save_dict(tmp_path / "c.npy", {"a": [1, 2, 3]})
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-20])
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "page.npy").write_bytes(b"<html></html>")
    for name in ("cut", "plain", "page"):
        with pytest.raises(WeightsError, match=r"damaged, or not a \.npy file|refused"):
            convert_published(tmp_path / f"{name}.npy")
    with pytest.raises(WeightsError, match="cannot be read"):
        convert_published(tmp_path / "none.npy")


def test_vectors_of_two_widths_do_not_belong_together(tmp_path: Path) -> None:
    counts = save_dict(tmp_path / "c.npy", {"a": [1, 2, 3]})
    pictures = save_dict(tmp_path / "p.npy", {"a": np.ones(3, np.float32)})
    names = save_dict(tmp_path / "n.npy", {"a": np.ones(4, np.float32)})
    with pytest.raises(WeightsError, match="different widths"):
        convert_published(counts, pictures, names)


@pytest.mark.parametrize("layout", [pa.list_(pa.float32(), 2), pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_tables_of_other_versions_and_tools_are_read(layout: pa.DataType) -> None:
    table = pa.table(
        {
            "name": ["a", "b"],
            "image_vector": pa.array([None, [1, 2]], layout),
            "name_vector": pa.array([[3, 4], None], layout),
            "counts": pa.array([[1, 2, 3], None]),
        }
    )
    pois = PoiTable.from_arrow(table)
    assert pois.dim == 2
    assert pois.counts == {"a": (1, 2, 3)}
    np.testing.assert_array_equal(pois.pictures["b"], [1, 2])
    np.testing.assert_array_equal(pois.names["a"], [3, 4])


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("image_vector", pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32())), "several widths"),
        ("image_vector", pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float32())), r"several widths: \[2, 3\]"),
        ("image_vector", pa.array([[1.0, None], None], pa.list_(pa.float32())), "numbers missing"),
        ("image_vector", pa.array([[1.0, 2.0], None]), "expected list"),
        ("counts", pa.array([[1, 2], [1, 2, 3]]), "three counts"),
        ("counts", pa.array(["1", "2"]), "counts is string"),
    ],
)
def test_tables_with_wrong_columns_are_refused(column: str, values: pa.Array, message: str) -> None:
    vector = np.array([3, 4], np.float32)
    table = to_arrow({"a": (1, 2, 3), "b": (1, 2, 3)}, {"a": vector}, {"a": vector}, 2)
    position = table.column_names.index(column)
    with pytest.raises(ConfigError, match=message):
        PoiTable.from_arrow(table.set_column(position, column, values))
