"""The verb `search` on stored rows: every kind of query that needs no model, exclusions, metrics, exit codes."""

import json

import numpy as np
import pytest

from aistudio.config import parse_config
from aistudio.errors import AIStudioError, ConfigError
from aistudio.jobs import search as job
from aistudio.pipeline.search import plan_search, run_search
from aistudio.store import open_store
from tests.evaluation.stored_run import catalogue, unit, write_run
from tests.search.twin import TwinRules, twin_list

MODELS = {"recall": {"conf": "r.yaml", "name": "r", "family": "align", "fingerprint": "abc", "files": {}}}


def make_run(path, seed=0, hashes=True, models=MODELS):
    rows, texts = catalogue(seed=seed)
    for i, row in enumerate(rows):
        row["content_hash"] = ("same" if i in (2, 30) else f"h{i}") if hashes and row["status"] == "ok" else None
    store = write_run(path, rows, texts)
    store.write_json("run.json", store.read_json("run.json") | {"models": models})
    return store, rows


def search(store, name="s", overrides=(), **how):
    outcome = run_search(plan_search(store.root, name, overrides, **how))
    return outcome, {f: store.read_table(f"searches/{name}/{f}.parquet").to_pylist() for f in FILES}


FILES = ("queries", "results", "left_out")


@pytest.mark.parametrize("block_rows", [1, 11, 5000])
def test_items_ask_for_items_and_never_get_themselves_or_copies(tmp_path, block_rows):
    store, rows = make_run(tmp_path)
    outcome, found = search(store, like="items", overrides=[f"search.block_rows={block_rows}", "search.top_n=20"])
    assert outcome.about["queries"] == 12 and outcome.about["status"] == {"ok": 11, "no_vector": 1}
    for item in {r["item_id"] for r in rows}:
        own = [r for r in rows if r["item_id"] == item and r["status"] == "ok"]
        hashes = {r["content_hash"] for r in own}
        twin = twin_list(
            rows, [r["embedding"] for r in own], TwinRules(20, "item_id", {}, None),
            lambda row: row["item_id"] != item and row["content_hash"] not in hashes,  # noqa: B023
        ) if own else []  # fmt: skip
        got = [(r["row_id"], r["score"], r["why"]) for r in found["results"] if r["query_id"] == item]
        assert got == [(rows[n]["row_id"], s, f"like {own[v]['row_id']}") for n, s, v in twin]
    reasons = {(r["query_id"], r["row_id"], r["reason"]) for r in found["left_out"]}
    assert ("item0", "30", "duplicate_of:item0") in reasons and ("item0", "0", "same_item") in reasons


def test_the_mean_of_an_item_is_asked_and_found(tmp_path):
    store, rows = make_run(tmp_path, hashes=False)
    _, found = search(store, like="items", overrides=["search.item_score=mean", "search.top_n=3"])
    names = sorted({r["item_id"] for r in rows if r["status"] == "ok"})
    means = {
        n: unit(np.mean([r["embedding"] for r in rows if r["item_id"] == n and r["status"] == "ok"], 0)) for n in names
    }
    for name in names:
        best = sorted((n for n in names if n != name), key=lambda n: -float(means[n] @ means[name]))[:3]
        got = [r for r in found["results"] if r["query_id"] == name]
        assert [r["item_id"] for r in got] == best
        assert np.allclose([r["score"] for r in got], [means[n] @ means[name] for n in best], atol=1e-6)


def test_a_table_of_queries_with_bad_lines_filters_and_metrics(tmp_path, capsys):
    store, rows = make_run(tmp_path / "run")
    lines = [
        {"query_id": "q", "row_id": "0", "relevant": ["5", "6"], "extra": 1}, {"query_id": "q", "item_id": "item2"},
        {"row_id": "nope"}, {"row_id": "7"}, {"text": ["a"]}, {}, {"row_id": "1", "relevant": "10|no such row"},
    ]  # fmt: skip
    table = tmp_path / "q.jsonl"
    table.write_text("\n".join(["not json", *(json.dumps(line) for line in lines)]), encoding="utf-8")
    argv = ["--run", store.root, "--name", "s", "--queries", str(table), "--set", "search.filter=[category]"]
    assert job.main(argv) == 3
    queries = {q["query_id"]: q for q in store.read_table("searches/s/queries.parquet").to_pylist()}
    assert [q["status"] for q in queries.values()] == [
        "bad_query", "ok", "ok", "unknown_row", "no_vector", "bad_query", "bad_query", "ok",
    ]  # fmt: skip
    assert list(queries)[1:3] == ["q", "q#2"]
    results = store.read_table("searches/s/results.parquet").to_pylist()
    category = {r["row_id"]: r["category"] for r in rows}
    assert results
    assert {category[r["row_id"]] for r in results} == {"coat"}  # of items 0 and 2
    told = store.read_table("searches/s/left_out.parquet").to_pylist()
    assert any(r["reason"] == "filtered:category" for r in told)
    metrics = store.read_json("searches/s/metrics.json")
    assert (
        metrics["given/same_category/hit_rate@10"]["n"] == 1
    )  # row 10 is a coat; 5 and 6 are hats, so not in the gallery
    assert queries["q"]["num_relevant"] == 0 and queries["8"]["num_relevant"] == 1
    ranks = [r["rank"] for r in results if r["query_id"] == "8" and r["relevant"]]
    assert ranks == [queries["8"]["first_rank"]]
    assert "nope" not in capsys.readouterr().err


def test_numbers_of_relevant_items(tmp_path):
    store, rows = make_run(tmp_path / "run", hashes=False)
    table = tmp_path / "q.csv"
    table.write_text("query_id,row_id,relevant\na,0,item3|item4\nb,10,item0\n", encoding="utf-8")
    outcome, found = search(store, queries=str(table), overrides=["search.top_n=2", "search.k=[1,4]"])
    for name, row, wanted in (("a", 0, {"item3", "item4"}), ("b", 10, {"item0"})):
        twin = twin_list(
            rows, [rows[row]["embedding"]], TwinRules(4, "item_id", {}, None),
            lambda r: r["item_id"] != rows[row]["item_id"],  # noqa: B023
        )  # fmt: skip
        hits = [rows[n]["item_id"] in wanted for n, _, _ in twin]
        query = next(q for q in found["queries"] if q["query_id"] == name)
        assert query["first_rank"] == (hits.index(True) + 1 if any(hits) else None)
        assert query["num_relevant"] == len(wanted) and query["num_results"] == 2  # searched deeper than is stored
    assert set(outcome.metrics) == {
        f"{m}@{k}" for m in ("hit_rate", "recall", "precision", "map", "ndcg") for k in (1, 4)
    }


def test_names_that_are_rows_and_items_are_refused(tmp_path):
    store, _ = make_run(tmp_path / "run")
    table = tmp_path / "q.csv"
    table.write_text("row_id,relevant\n0,item3|5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"search\.relevant_by"):
        search(store, queries=str(table))
    outcome, _ = search(store, queries=str(table), overrides=["search.relevant_by=item_id"])
    assert "1 of 2 relevant ids are not in the run, by item_id" in outcome.about["notes"]


def test_another_run_asks_only_with_the_same_model(tmp_path):
    store, _ = make_run(tmp_path / "a")
    other, rows = make_run(tmp_path / "b", seed=1)
    _, found = search(store, like=other.root)
    assert {r["query_id"] for r in found["results"]} == {r["item_id"] for r in rows if r["status"] == "ok"}
    assert all(r["item_id"] != r["query_id"] for r in found["results"])
    strange, _ = make_run(tmp_path / "c", models={"recall": MODELS["recall"] | {"fingerprint": "other"}})
    with pytest.raises(ConfigError, match="same model"):
        plan_search(store.root, "s", like=strange.root)


@pytest.mark.parametrize(
    ("how", "overrides", "said"),
    [
        ({"like": "no.jpg"}, (), "no such file or run"), ({"like": "items", "model": "look"}, (), "no vectors"),
        ({"like": "items"}, ["search.where={nope: 1}"], "nope is not a column"),
        ({"like": "items"}, ["search.filter=[category=nope]"], "nope is not a column"),
        ({"like": "items"}, ["search.item_score=mean", "search.per=row"], "must be max"),
        ({"like": "items"}, ["search.k=[0]"], "1 or more"), ({"queries": "no.csv"}, (), "cannot be read"),
        ({"queries": "no.xlsx"}, (), "expected a file that ends in"), ({"queries": "mitstates:nowhere"}, (), "folder"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_said_before_anything_runs(tmp_path, how, overrides, said):
    store, _ = make_run(tmp_path)
    with pytest.raises(AIStudioError, match=said) as error:
        plan_search(store.root, "s", overrides, **how)
    assert error.value.exit_code == 2


def test_the_dry_run_writes_nothing_and_a_search_replaces_its_name_alone(tmp_path, capsys):
    store, _ = make_run(tmp_path)
    assert job.main(["--run", store.root, "--name", "s", "--like", "items", "--dry-run"]) == 0
    assert not store.list("searches/") and "60 rows of 16 numbers" in capsys.readouterr().out
    search(store, "other", like="items")
    store.write_bytes("searches/s/old.parquet", b"x")
    search(store, "s", like="items")
    assert [e.key for e in store.list("searches/s/")] == [
        f"searches/s/{f}" for f in ("about.json", "left_out.parquet", "queries.parquet", "results.parquet")
    ]
    assert open_store(store.root).exists("searches/other/about.json")


def test_the_section_is_no_part_of_old_settings():
    base = {"manifest": {"path": "m", "format": "csv"}, "output": "o", "models": {"recall": "r"}}
    assert parse_config(base, "t").search.top_n == 10


def test_an_item_beside_a_text_is_refused_and_never_ignored(tmp_path):
    store, _ = make_run(tmp_path / "run")
    table = tmp_path / "q.jsonl"
    lines = [
        {"query_id": "both", "text": "red", "item_id": "item3"}, {"query_id": "blank", "text": " ", "item_id": "item3"},
        {"query_id": "item", "item_id": "item3"}, {"query_id": "picture", "row_id": "5", "item_id": "item1"},
    ]  # fmt: skip
    table.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    _, found = search(store, queries=str(table))
    queries = {q["query_id"]: q for q in found["queries"]}
    assert queries["both"]["status"] == "bad_query" and "row_id or image_url" in queries["both"]["error"]
    assert {q["status"] for n, q in queries.items() if n != "both"} == {"ok"}
    assert "both" not in {r["query_id"] for r in found["results"]}
