"""Copies of stored pictures: right, made once, and within a limit that all runs share."""

import os

import pyarrow as pa
import pytest

from aistudio.serving.thumbnails import Thumbnails
from aistudio.store import open_store

PICTURES = [b"%d" % i * 500 for i in range(10)]


@pytest.fixture
def store(tmp_path):
    """Three files of ten pictures each."""
    made = open_store(str(tmp_path / "run"))
    for name in "abc":
        made.write_table(f"scores/{name}.parquet", pa.table({"thumbnail": pa.array(PICTURES, pa.binary())}))
    return made


def copies(tmp_path):
    return {path.parent.name: path for path in (tmp_path / "pictures").glob("*/*.arrow")}


def test_the_least_used_go_first_whichever_run_they_belong_to(store, tmp_path):
    first = Thumbnails(store, tmp_path / "pictures/first", 10**9)
    assert [first.get("scores/a.parquet", i) for i in (0, 9, 10)] == [PICTURES[0], PICTURES[9], None]
    (only,) = copies(tmp_path).values()
    size = only.stat().st_size
    os.utime(only, (1, 1))
    second = Thumbnails(store, tmp_path / "pictures/second", 2 * size)
    assert second.get("scores/b.parquet", 3) == PICTURES[3] and set(copies(tmp_path)) == {"first", "second"}
    os.utime(copies(tmp_path)["second"], (2, 2))
    third = Thumbnails(store, tmp_path / "pictures/third", 2 * size)
    assert third.get("scores/c.parquet", 4) == PICTURES[4] and set(copies(tmp_path)) == {"second", "third"}
    assert first.get("scores/a.parquet", 5) == PICTURES[5]  # mapped: it goes on
    assert Thumbnails(store, tmp_path / "pictures/first", 2 * size).get("scores/a.parquet", 5) == PICTURES[5]
    assert set(copies(tmp_path)) == {"first", "third"}


def test_opening_a_copy_counts_as_use(store, tmp_path):
    Thumbnails(store, tmp_path / "pictures/first", 10**9).get("scores/a.parquet", 0)
    path = copies(tmp_path)["first"]
    os.utime(path, (1, 1))
    Thumbnails(store, tmp_path / "pictures/first", 10**9).get("scores/a.parquet", 0)
    assert path.stat().st_mtime > 1


def test_what_is_asked_for_now_stays_even_beyond_the_limit(store, tmp_path):
    pictures = Thumbnails(store, tmp_path / "pictures/first", 0)
    assert pictures.get("scores/a.parquet", 1) == PICTURES[1] and len(copies(tmp_path)) == 1
    assert pictures.get("scores/b.parquet", 1) == PICTURES[1] and len(copies(tmp_path)) == 1
