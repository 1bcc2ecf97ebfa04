"""The searcher in memory: the same ids and scores as `jobs.search`, bit for bit; filters, pages, memory, its copy."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from aistudio.errors import ConfigError
from aistudio.pipeline.search import plan_search, run_search
from aistudio.search.searcher import Range, Searcher, plan_searcher
from tests.evaluation.stored_run import write_run
from tests.search.test_search_job import MODELS, make_run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "cache"))
    return make_run(tmp_path / "run")


def stored(store, name):
    return store.read_table(f"searches/{name}/results.parquet").to_pylist()


@pytest.mark.parametrize(
    ("overrides", "how"),
    [
        ([], {}),
        (["search.per=row"], {"per": "row"}),
        (["search.leave_out=[row]"], {"leave_out": ["row"]}),
        (["search.leave_out=[]"], {"leave_out": []}),
        (["search.where.category=hat"], {"where": {"category": "hat"}}),
        (["search.where.price=[1,3.0,5]"], {"where": {"price": [1.0, 3.0, 5]}}),
        (["search.diversify.category=2"], {"diversify": {"category": 2}}),
        (["search.duplicate_cosine=0.9", "search.per=row"], {"duplicate_cosine": 0.9, "per": "row"}),
    ],
)
def test_the_same_lists_as_the_job(run, overrides, how):
    store, _ = run
    run_search(plan_search(store.root, "s", [*overrides, "search.top_n=8"], like="items"))
    wanted = stored(store, "s")
    assert wanted
    searcher = Searcher.open(store.root)
    for item in {r["query_id"] for r in wanted}:
        found = searcher.search(searcher.like_item(item), top_n=8, **how)
        got = [(r.rank, r.item_id, r.row_id, r.score, r.why) for r in found.results]
        columns = ("rank", "item_id", "row_id", "score", "why")
        assert got == [tuple(r[c] for c in columns) for r in wanted if r["query_id"] == item]


def test_pages_are_cuts_of_one_list_and_tables_have_columns(run):
    store, rows = run
    searcher = Searcher.open(store.root)
    ask = searcher.like_row("0")
    whole = searcher.search(ask, top_n=10, per="row")
    parts = [searcher.search(ask, top_n=3, offset=offset, per="row") for offset in (0, 3, 6, 9)]
    assert [r for p in parts for r in p.results][:10] == whole.results and parts[0].more
    table = whole.table(["category", "price"]).to_pylist()
    by_id = {r["row_id"]: r for r in rows}
    assert [(t["category"], t["price"]) for t in table] == [
        (by_id[t["row_id"]]["category"], by_id[t["row_id"]]["price"]) for t in table
    ]
    assert not searcher.search(ask, top_n=100).more
    with pytest.raises(ConfigError, match="nope"):
        whole.table(["nope"])
    with pytest.raises(ConfigError, match="at most"):
        searcher.search(ask, top_n=20_000)


def test_ranges_filter_numbers_and_refuse_texts(run):
    store, rows = run
    searcher = Searcher.open(store.root)
    found = searcher.search(searcher.like_row("0"), top_n=50, per="row", where={"price": Range(2, 4.5)})
    price = {r["row_id"]: r["price"] for r in rows}
    assert {price[r.row_id] for r in found.results} == {2.0, 3.0, 4.0}
    with pytest.raises(ConfigError, match="no numbers"):
        searcher.search(searcher.like_row("0"), where={"category": Range(1, 2)})
    with pytest.raises(ConfigError, match="not a column"):
        searcher.search(searcher.like_row("0"), where={"colour": "red"})
    assert searcher.search(searcher.like_row("0"), where={"category": "no such"}).results == []


def test_what_cannot_be_asked_is_said(run):
    store, _ = run
    searcher = Searcher.open(store.root)
    for ask in (
        lambda: searcher.like_row("nope"),
        lambda: searcher.like_row("7"),
        lambda: searcher.like_vector([1, 2]),
    ):
        with pytest.raises(ConfigError):
            ask()
    with pytest.raises(ConfigError, match="finite"):
        searcher.like_vector(np.full(16, np.nan))
    one = searcher.like_row("0")
    with pytest.raises(ConfigError, match="cancel"):
        searcher.mixed([(one, 1.0), (one, -1.0)])
    same = searcher.search(searcher.mixed([(one, 2.0)]), top_n=5)
    assert [r.row_id for r in same.results] == [r.row_id for r in searcher.search(one, top_n=5).results]


def test_memory_is_said_and_refused_with_a_number_and_where_makes_it_fit(run):
    store, rows = run
    plan = plan_searcher(store.root)
    assert plan.rows == len(rows) and "MiB" in plan.text()
    with pytest.raises(ConfigError, match=r"needs .* MiB of memory .* --where"):
        plan_searcher(store.root, memory_bytes=plan.memory_bytes - 1)
    fewer = plan_searcher(store.root, where={"category": "hat"}, memory_bytes=plan.memory_bytes - 1)
    assert fewer.rows == sum(r["category"] == "hat" for r in rows)
    searcher = Searcher(fewer)
    assert {searcher.row(r.row_id)["category"] for r in searcher.search(searcher.like_row("5"), top_n=50).results} == {
        "hat"
    }
    assert searcher.copy.memory_bytes <= fewer.memory_bytes


def test_the_copy_is_used_again_and_made_anew_when_the_run_changes(run, tmp_path):
    store, rows = run
    folder = Searcher.open(store.root).copy.folder
    before = folder.stat().st_ino
    assert Searcher.open(store.root, columns=["category"]).columns == ["row_id", "item_id", "content_hash", "category"]
    assert Searcher.open(store.root).copy.folder.stat().st_ino == before
    searcher = Searcher.open(store.root)
    changed, _ = {**rows[0], "embedding": rows[1]["embedding"]}, None
    write_run(tmp_path / "run", [changed, *rows[1:]], {"a": rows[0]["embedding"], "b": rows[0]["embedding"]})
    run_json = store.read_json("run.json")
    store.write_json("run.json", run_json | {"models": MODELS})
    again = Searcher.open(store.root)
    assert again.copy.folder != folder and not folder.exists()
    assert (again.like_row("0").vectors_SD == rows[1]["embedding"]).all()
    assert searcher.search(searcher.like_row("0")).results  # who has the old one open keeps it
    about = json.loads((again.copy.folder / "about.json").read_text())
    assert about["rows"] == len(again)


def test_many_threads_get_what_one_gets(run):
    store, rows = run
    searcher = Searcher.open(store.root)
    names = [r["row_id"] for r in rows if r["status"] == "ok"]
    wanted = {n: searcher.search(searcher.like_row(n), top_n=4).results for n in names}
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: searcher.search(searcher.like_row(n), top_n=4).results, names * 3)
    assert list(found) == [wanted[n] for n in names * 3]


def test_a_failure_inside_a_product_reaches_every_caller(run):
    store, _ = run
    searcher = Searcher.open(store.root)
    ask = replace(searcher.like_row("0"), vectors_SD=np.ones((1, 99), np.float32))  # no width of this run
    with pytest.raises(ValueError):
        searcher.search(ask)
    assert searcher.search(searcher.like_row("0")).results
