"""Somebody else's scores and vectors, judged: against naive twins, beside the run's own, compared, in the report."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, RunMismatchError
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.compare import compare
from aistudio.evaluation.given import judge_given
from aistudio.jobs import aggregate as job
from aistudio.jobs import compare as compare_job
from aistudio.jobs import report as report_job
from tests.evaluation.stored_run import DIM, FAST, catalogue, unit, write_run
from tests.evaluation.test_aggregate import pair_run

SETTINGS = MetricsSettings(k=[1, 3], **FAST)


@pytest.fixture
def run(tmp_path):
    rows, texts = catalogue()
    return write_run(tmp_path / "run", rows, texts), rows, texts


def good(rows):
    return [r for r in rows if r["status"] == "ok"]


def write_vectors(path, rows, vectors, texts=None):
    texts = texts or {}
    column = [v.tolist() for v in (*vectors, *texts.values())]
    names = [r["row_id"] for r in rows] + [None] * len(texts)
    pq.write_table(pa.table({"row_id": names, "text": [None] * len(rows) + list(texts), "vector": column}), path)
    return str(path)


def first_ranks(store, name):
    table = store.read_table(f"metrics/{name}/per_query.parquet").to_pylist()
    return {r["query_id"]: r["first_rank"] for r in table}


def test_the_runs_own_vectors_give_the_runs_own_numbers(run, tmp_path):
    store, rows, texts = run
    for query in ("text", "image"):
        settings = SETTINGS.model_copy(update={"query": query})
        own = aggregate(store, settings)
        given = texts if query == "text" else None
        path = write_vectors(tmp_path / f"m6_{query}.parquet", good(rows), [r["embedding"] for r in good(rows)], given)
        judged = judge_given(store, settings, path)
        assert judged.theirs["metrics"] == own["metrics"] == judged.ours["metrics"]
        result = compare(store, store, settings, name=f"m6_{query}_ours", name_b=f"m6_{query}")
        assert result["answer"].startswith("A and B do not differ")
        assert store.read_table(f"metrics/m6_{query}/unmatched.parquet").num_rows == 0
    assert store.read_json("metrics/about.json")["name"] == "text"  # never the run's first aggregation


def test_vectors_of_some_rows_are_judged_over_those_rows(run, tmp_path):
    store, rows, _ = run
    some = [r for i, r in enumerate(good(rows)) if i % 4]
    vectors = unit(np.random.default_rng(8).normal(size=(len(some), 5)))  # of another width than ours
    path = write_vectors(tmp_path / "other.parquet", some, vectors)
    judged = judge_given(store, SETTINGS, path)  # without texts: images ask
    about = judged.theirs["about"]
    assert about["query"] == "image" and about["gallery_rows"] == len(some)
    assert about["given"]["rows_without"] == len(good(rows)) - len(some)
    assert judged.ours["about"]["query"] == "image" and judged.ours["about"]["gallery_rows"] == len(some)
    hashes = np.arange(len(some))
    for i, row in enumerate(some):
        scores = vectors.astype(float) @ vectors[i].astype(float)
        order = [j for j in np.argsort(-scores, kind="stable") if hashes[j] != i]
        hits = [k + 1 for k, j in enumerate(order) if some[j]["item_id"] == row["item_id"]]
        assert first_ranks(store, "other")[row["row_id"]] == (hits[0] if hits else None)


def test_ours_answers_the_same_kind_of_query(run, tmp_path):
    store, rows, _ = run
    path = write_vectors(tmp_path / "other.parquet", good(rows)[3:], np.eye(DIM)[np.arange(len(good(rows)) - 3) % DIM])
    judged = judge_given(store, SETTINGS.model_copy(update={"query": "image"}), path)
    assert judged.ours["about"]["definition"]["gallery"] == judged.theirs["about"]["definition"]["gallery"]
    result = compare(store, store, SETTINGS, name="other_ours", name_b="other")
    assert result["queries"]["paired"] == len(good(rows)) - 3 and result["metrics"]["map"]["n"] > 0
    assert store.exists("metrics/other/compare_run_other_ours.json")
    aggregate(store, SETTINGS.model_copy(update={"query": "image"}))
    with pytest.raises(RunMismatchError, match="the images that are searched"):
        compare(store, store, SETTINGS, name="image", name_b="other")


def test_lists_of_queries(run, tmp_path):
    store, rows, _ = run
    rng = np.random.default_rng(2)
    items = sorted({r["item_id"] for r in rows})
    scored = {(q, r["row_id"]): float(rng.integers(0, 4)) for q in items for r in rows if rng.random() < 0.6}
    lines = [f"{q},{r},{s}" for (q, r), s in scored.items()] + ["nobody,0,1", "item0,0,nan", "item0,nope,1"]
    again = next(f"{q},{r},9" for (q, r) in scored if rows[int(r)]["status"] == "ok")
    path = tmp_path / "lists.csv"
    path.write_text("\n".join(["query,row_id,score", *lines, again]))
    judged = judge_given(store, SETTINGS, str(path))
    ok = good(rows)
    for q in items:
        order = sorted(range(len(ok)), key=lambda i: (-scored.get((q, ok[i]["row_id"]), -np.inf), i))
        hits = [k + 1 for k, i in enumerate(order) if ok[i]["item_id"] == q]
        assert first_ranks(store, "lists")[q] == (hits[0] if hits else None)
    failed = sum(rows[int(r)]["status"] != "ok" for _, r in scored)
    given = judged.theirs["about"]["given"]
    assert given["not_used"] == {
        "failed_row": failed, "unknown_query": 1, "not_a_number": 1, "unknown_row": 1, "duplicate": 1
    } and given["used"] + sum(given["not_used"].values()) == given["lines"] == len(lines) + 1  # fmt: skip
    assert judged.ours["metrics"]["map"]["n"] == judged.theirs["metrics"]["map"]["n"] == 11
    top = store.read_table("metrics/lists/top.parquet").to_pylist()
    assert all(np.isfinite(r["score"]) for r in top)
    with pytest.raises(ConfigError, match="none of its queries is in this run; it names a"):
        path.write_text("query,row_id,score\na,0,1\n")
        judge_given(store, SETTINGS, str(path))


def test_images_ask_with_lists_without_their_own_picture(run, tmp_path):
    store, rows, _ = run
    ok = good(rows)
    path = tmp_path / "lists.jsonl"
    lines = [{"query": "0", "row_id": r["row_id"], "score": i} for i, r in enumerate(ok)]
    path.write_text("\n".join(map(json.dumps, [*lines, {"query": "0", "row_id": "0", "score": 99}])))
    judge_given(store, SETTINGS.model_copy(update={"query": "image"}), str(path))
    order = [r for r in reversed(ok) if r["row_id"] != "0"]
    wanted = next(k + 1 for k, r in enumerate(order) if r["item_id"] == "item0")
    assert first_ranks(store, "lists")["0"] == wanted
    top = store.read_table("metrics/lists/top.parquet").to_pylist()
    assert [r["row_id"] for r in top if r["query_id"] == "0"][:3] == [r["row_id"] for r in order[:3]]


def test_scores_of_rows_order_an_items_own_images(run, tmp_path):
    store, rows, _ = run
    rng = np.random.default_rng(4)
    relevant = {r["row_id"] for r in rows if rng.random() < 0.3}
    qrels = tmp_path / "qrels.csv"
    qrels.write_text("query,row_id\n" + "".join(f"{rows[int(i)]['item_id']},{i}\n" for i in sorted(relevant)))
    scores = {r["row_id"]: float(rng.integers(0, 3)) for r in rows if rng.random() < 0.7}
    (tmp_path / "m6.tsv").write_text("row_id\tscore\n" + "".join(f"{i}\t{s}\n" for i, s in scores.items()))
    judged = judge_given(store, SETTINGS.model_copy(update={"qrels": str(qrels)}), str(tmp_path / "m6.tsv"))
    own = {r["row_id"]: r["recall_score"] for r in rows}
    for name, of in (("m6", scores), ("m6_ours", own)):
        found = first_ranks(store, name)
        for item in {r["item_id"] for r in rows}:
            mine = [r["row_id"] for r in good(rows) if r["item_id"] == item]
            order = sorted(mine, key=lambda i: (-of.get(i, -np.inf), int(i)))
            hits = [k + 1 for k, i in enumerate(order) if i in relevant]
            assert found[item] == (hits[0] if hits else None)
    assert judged.theirs["about"]["definition"]["query"] == "text, among the item's own images"
    assert compare(store, store, SETTINGS, name="m6_ours", name_b="m6")["metrics"]["map"]["n"] > 3
    aggregate(store, SETTINGS.model_copy(update={"qrels": str(qrels)}))
    with pytest.raises(RunMismatchError, match="what is asked"):  # another task than finding images among all
        compare(store, store, SETTINGS, name="text", name_b="m6")


def test_scores_judge_pairs_and_are_compared_by_pair(tmp_path, capsys):
    store, rows = pair_run(tmp_path / "run")
    lines = [f"{r['row_id']},{r['ctr']}" for r in rows[:-1]]  # the click rate itself: always right
    (tmp_path / "oracle.csv").write_text("\n".join(["row_id,score", *lines]))
    aggregate(store, SETTINGS)
    assert job.main(["--run", store.root, "--scores", str(tmp_path / "oracle.csv")]) == 0
    said = capsys.readouterr().out
    assert "oracle.csv: 79 lines of scores, 79 used, by row_id; 1 ok rows have none" in said
    assert "rank correlation with the run's own score" in said and "says nothing of retrieval" in said
    theirs = store.read_json("metrics/oracle/metrics.json")
    assert theirs["pairwise_accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 39}
    own = store.read_json("metrics/metrics.json")["pairwise_accuracy"]
    assert store.read_json("metrics/oracle_ours/metrics.json")["pairwise_accuracy"] == own
    command = re.search(r"next: python -m aistudio compare (.*)", said)[1].split()
    assert compare_job.main(command) == 0
    assert "pairs: 39 in both, 1 only in A, 0 only in B" in capsys.readouterr().out
    result = store.read_json("metrics/oracle/compare_run_oracle_ours.json")
    assert result["metrics"]["pairwise_accuracy"]["b"] == 1 and result["a"] == f"{store.root} (oracle_ours)"


def test_scores_without_pairs_and_judgements_say_what_they_lack(run, tmp_path, capsys):
    store, rows, _ = run
    (tmp_path / "s.csv").write_text("\n".join(["row_id,score", *(f"{r['row_id']},{-i}" for i, r in enumerate(rows))]))
    judged = judge_given(store, SETTINGS, str(tmp_path / "s.csv"))
    assert judged.theirs["metrics"] == {} and "says nothing of retrieval" in judged.theirs["about"]["not_computed"]
    assert judged.theirs["about"]["given"]["spearman"]["n"] == len(good(rows))
    assert job.main(["--run", store.root, "--scores", str(tmp_path / "s.csv"), "--name", "again"]) == 0


def test_names_are_not_taken_from_the_runs_own(run, tmp_path):
    store = run[0]
    aggregate(store, SETTINGS)
    (tmp_path / "text.csv").write_text("row_id,score\n0,1\n")
    for name, message in ((None, "has an aggregation text of its own"), ("Bad", "expected small letters")):
        with pytest.raises(ConfigError, match=message):
            judge_given(store, SETTINGS, str(tmp_path / "text.csv"), name=name)
    with pytest.raises(ConfigError, match="26 at most"):
        judge_given(store, SETTINGS, str(tmp_path / "text.csv"), name="a" * 27)
    path = tmp_path / "2026 M6 (März).csv"
    path.write_text("row_id,score\n0,1\n")
    for _ in range(2):  # its own may be replaced
        assert judge_given(store, SETTINGS, str(path)).theirs["about"]["name"] == "scores_2026_m6_m_rz"


def test_a_mistake_is_one_message(run, tmp_path, capsys):
    store = run[0]
    with pytest.raises(ConfigError, match=r"--scores .*none\.csv: cannot be read"):
        job.main(["--run", store.root, "--scores", str(tmp_path / "none.csv")])
    assert not store.exists("metrics/none/about.json")


def test_the_report_shows_them_as_a_column(run, tmp_path):
    store, rows, texts = run
    aggregate(store, SETTINGS)
    vectors = unit(np.stack([r["embedding"] for r in good(rows)]) + 0.4)
    judge_given(store, SETTINGS, write_vectors(tmp_path / "m6.parquet", good(rows), vectors, texts))
    judge_given(store, SETTINGS, write_vectors(tmp_path / "part.parquet", good(rows)[5:], vectors[5:], texts))
    assert report_job.main(["--run", store.root]) == 0
    page = store.read_bytes("report/metrics.html").decode()
    value = store.read_json("metrics/m6/metrics.json")["map"]["value"]
    row = re.search(r"<tr><td><code>map</code>.*?</tr>", page, re.DOTALL)[0]
    assert f'data-value="{value}"' in row and '<th class="n">m6</th>' in page and '<th class="n">part *</th>' in page
    assert "jobs.compare --name part_ours part" in page
    lines = store.read_bytes("report/data/metrics.csv").decode("utf-8-sig").splitlines()
    assert lines[0] == "name,value,low,high,n,paper,m6,part"
