"""Numbers that would mislead: empty and equal texts, comparisons of what cannot be compared, aggregations side by side.

Each of the first two groups gave confident metrics and exit code 0 at version 8b17918.
"""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, RunMismatchError
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.compare import answer, compare
from aistudio.jobs import aggregate as aggregate_job
from aistudio.jobs import compare as compare_job
from aistudio.store import open_store
from tests.evaluation.stored_run import FAST, catalogue, write_run

SETTINGS = MetricsSettings(**FAST)
BLANK = ["", "  ", "\t\n", "\u3000", "\u200b", "\u00a0\ufeff"]


def test_a_run_without_texts_has_no_text_metrics(tmp_path):
    rows, texts = catalogue()
    rows = [r | {"text": BLANK[i % len(BLANK)]} for i, r in enumerate(rows)]
    store = write_run(tmp_path / "run", rows, {t: next(iter(texts.values())) for t in BLANK})
    result = aggregate(store, SETTINGS)
    assert result["metrics"] == {} and store.read_table("metrics/per_query.parquet").num_rows == 0
    assert result["about"]["notes"][0].startswith("no row has a text: text queries mean nothing here")
    assert result["about"]["rows_without_text"] == sum(r["status"] == "ok" for r in rows)
    image = aggregate(store, MetricsSettings(query="image", **FAST))
    assert image["metrics"]["map"]["n"] > 0


@pytest.mark.parametrize("same", ["photo", "商品"])
def test_one_text_for_every_item_asks_nothing(tmp_path, same):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", [r | {"text": same} for r in rows], {same: next(iter(texts.values()))})
    result = aggregate(store, SETTINGS)
    assert result["metrics"] == {}
    assert f"all 12 items have the same text {same!r}" in result["about"]["notes"][0]


def test_items_without_text_are_no_queries_and_their_images_stay(tmp_path):
    rows, texts = catalogue()
    some = [r | {"text": ""} if r["item_id"] in ("item0", "item3") else r for r in rows]
    texts[""] = next(iter(texts.values()))
    store = write_run(tmp_path / "run", some, texts)
    result = aggregate(store, SETTINGS)
    ids = store.read_table("metrics/per_query.parquet")["query_id"].to_pylist()
    assert len(ids) == 10 and not {"item0", "item3"} & set(ids)
    assert result["about"]["gallery_rows"] == sum(r["status"] == "ok" for r in rows)
    assert "10 rows of 2 items have no text" in result["about"]["notes"][0]


def test_texts_that_items_share_are_said(tmp_path):
    rows, texts = catalogue()
    shared = [r | {"text": "酒店 1"} if int(r["item_id"][4:]) < 8 else r for r in rows]
    result = aggregate(write_run(tmp_path / "run", shared, texts), SETTINGS)
    assert any("8 of 12 queries have a text that another item has too" in note for note in result["about"]["notes"])


def test_pairs_are_not_judged_by_the_score_of_an_empty_text(tmp_path):
    rows, texts = catalogue()
    for i, r in enumerate(rows):
        r |= {"pair_id": f"p{i // 2}", "side": "ab"[i % 2], "ctr": 0.1 * (i % 2 + 1), "text": ""}
    rows[0] |= {"pair_id": "  "}  # a row of no pair
    rows[1] |= {"pair_id": ""}
    fields = [pa.field("pair_id", pa.string()), pa.field("side", pa.string()), pa.field("ctr", pa.float64())]
    store = write_run(tmp_path / "run", rows, texts | {"": texts["酒店 1"]}, fields)
    about = aggregate(store, SETTINGS)["about"]["pairs"]
    assert about["used"] == 0 and about["left_out"]["a score is missing"] > 0


def two_runs(tmp_path, **changed):
    """The same manifest under two models: B's vectors are better."""
    (rows, texts), (other, _) = catalogue(), catalogue()
    for r in other:
        if r["embedding"] is not None:
            r["embedding"] = r["embedding"] + 0.5 * texts[r["text"]]
            r["embedding"] /= np.linalg.norm(r["embedding"])
        r.update(changed.get("row", lambda r: {})(r))
    return write_run(tmp_path / "a", rows, texts), write_run(tmp_path / "b", other, texts)


def failed(r):
    gone = {"status": "timeout", "error": "slow", "embedding": None, "recall_score": None}
    return gone if r["row_id"] in ("3", "21") else {}


def swapped(r):
    return {"item_id": "item5"} if r["row_id"] == "0" else {}


def qrels(tmp_path, name, lines):
    path = tmp_path / name
    path.write_text("query,row_id\n" + "".join(f"{q},{r}\n" for q, r in lines))
    return str(path)


MISFITS = {
    "kind": ({}, {"query": "image"}, None, "what is asked"),
    "sample": ({}, {"max_queries": 5}, None, "the queries that are drawn"),
    "seed": ({"max_queries": 5}, {"max_queries": 5, "seed": 3}, None, "the queries that are drawn"),
    "gallery": ({}, {}, failed, "the images that are searched"),
    "items": ({}, {}, swapped, "which item an image belongs to"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_was_computed_from_other_things_is_refused(tmp_path, case):
    first, second, row, words = MISFITS[case]
    a, b = two_runs(tmp_path, **({"row": row} if row else {}))
    aggregate(a, MetricsSettings(**first, **FAST))
    aggregate(b, MetricsSettings(**second, **FAST))
    with pytest.raises(RunMismatchError) as e:
        compare(a, b, SETTINGS)
    assert e.value.exit_code == 2 and words in str(e.value) and "--recompute" in str(e.value)
    assert not b.exists("metrics/compare_a.json")


def test_other_judgements_are_refused_and_the_same_ones_in_another_file_are_not(tmp_path):
    a, b = two_runs(tmp_path)
    lines = [("item0", "0"), ("item1", "6"), ("item4", "20")]
    aggregate(a, MetricsSettings(qrels=qrels(tmp_path, "one.csv", lines), **FAST))
    aggregate(b, MetricsSettings(qrels=qrels(tmp_path, "two.csv", lines[:2]), **FAST))
    with pytest.raises(RunMismatchError, match=r"what is relevant .*qrels sha256:.*qrels sha256:"):
        compare(a, b, SETTINGS)
    pd.DataFrame(lines[::-1], columns=["query", "row_id"]).to_parquet(tmp_path / "same.parquet")
    aggregate(b, MetricsSettings(qrels=str(tmp_path / "same.parquet"), **FAST))
    assert compare(a, b, SETTINGS)["warnings"] == []


def test_recomputed_over_the_images_that_both_have(tmp_path):
    a, b = two_runs(tmp_path, row=failed)
    aggregate(a, SETTINGS)
    result = compare(a, b, SETTINGS, recompute=True)
    assert result["definition"]["gallery"]["rows"] == aggregate(b, SETTINGS)["about"]["gallery_rows"]
    assert a.read_json("metrics/compared/about.json")["status"]["not_compared"] == 2
    assert b.read_json("metrics/compared/compare_a.json") == result
    rows, texts = catalogue()
    twin = write_run(tmp_path / "twin", [r | failed(r) for r in rows], texts)
    assert aggregate(twin, SETTINGS)["metrics"] == a.read_json("metrics/compared/metrics.json")
    assert result["metrics"]["map"]["difference"] > 0
    images = aggregate(a, MetricsSettings(query="image", **FAST), left_out=pa.array(["3", "21"]))
    assert images["metrics"] == aggregate(twin, MetricsSettings(query="image", **FAST))["metrics"]


def test_other_items_cannot_be_recomputed_away(tmp_path):
    a, b = two_runs(tmp_path, row=swapped)
    with pytest.raises(RunMismatchError, match="which item an image belongs to"):
        compare(a, b, SETTINGS, recompute=True)


def test_runs_of_an_older_version_are_compared_with_a_warning(tmp_path):
    a, b = two_runs(tmp_path)
    aggregate(a, SETTINGS)
    aggregate(b, SETTINGS)
    about = a.read_json("metrics/about.json")
    del about["definition"], about["name"]
    a.write_json("metrics/about.json", about)
    result = compare(a, b, SETTINGS)
    assert len(result["warnings"]) == 1 and result["warnings"][0].startswith("A was aggregated by an older version")
    a.write_json("metrics/about.json", about | {"gallery_rows": 1})
    with pytest.raises(RunMismatchError, match="rows=1, B rows="):
        compare(a, b, SETTINGS)


def test_files_and_their_order_do_not_change_a_definition(tmp_path):
    rows, texts = catalogue()
    found = [aggregate(write_run(tmp_path / str(n), rows, texts, shard=n), SETTINGS)["about"] for n in (7, 25)]
    assert found[0]["definition"] == found[1]["definition"]
    moved = [r | {"image_url": "https://elsewhere.example/x.jpg"} if r["row_id"] == "0" else r for r in rows]
    other = aggregate(write_run(tmp_path / "moved", moved, texts), SETTINGS)["about"]["definition"]
    assert other["gallery"] != found[0]["definition"]["gallery"] and other["items"] == found[0]["definition"]["items"]


def test_the_jobs_answer_and_their_exit_code(tmp_path, capsys):
    a, b = two_runs(tmp_path)
    for store in (a, b):
        assert aggregate_job.main(["--run", store.root]) == 0
    assert "in the paper" not in capsys.readouterr().out
    assert compare_job.main(["--runs", a.root, b.root]) == 0
    out = capsys.readouterr().out
    assert "B is better" in out or "may be chance" in out
    changed = b.read_json("metrics/compare_a.json")["changed"][0]
    assert len(changed["images_a"]) == 3 and set(changed["images_b"][0]) == {"row_id", "relevant"}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"map": (0.1, 0.001)}, "B is better than A in 1 of 1"),
        ({"map": (-0.1, 0.001)}, "B is worse than A in 1 of 1"),
        ({"map": (0.1, 0.001), "mrr": (-0.2, 0.01)}, "B is better in map and worse in mrr"),
        ({"map": (0.1, 0.4)}, "The difference may be chance: map 0.5000 in A, 0.6000 in B, over 12 queries; 12 are"),
        ({"map": (0.0, 1.0)}, "A and B do not differ"),
    ],
)  # fmt: skip
def test_the_answer_in_a_sentence(metrics, words):
    made = {
        n: {"a": 0.5, "b": 0.5 + d, "difference": d, "p_holm": p, "n": 12, "wins": int(d > 0)}
        for n, (d, p) in metrics.items()
    }
    assert answer(made, 0.95).startswith(words)


def test_aggregations_live_beside_each_other(tmp_path):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    text = aggregate(store, SETTINGS)["metrics"]
    image = aggregate(store, MetricsSettings(query="image", **FAST))["metrics"]
    own = aggregate(store, MetricsSettings(qrels=qrels(tmp_path, "q.csv", [("item0", "0")]), **FAST), name="mine")
    for name, metrics in (("text", text), ("image", image), ("mine", own["metrics"])):
        assert store.read_json(f"metrics/{name}/metrics.json") == metrics
        assert store.exists(f"metrics/{name}/top.parquet")
    assert store.read_json("metrics/metrics.json") == text
    again = aggregate(store, MetricsSettings(qrels=qrels(tmp_path, "q.csv", [("item0", "0")]), **FAST))
    assert any("this replaces the aggregation 'text'" in note for note in again["about"]["notes"])
    assert store.read_json("metrics/metrics.json") == again["metrics"] == store.read_json("metrics/text/metrics.json")
    with pytest.raises(ConfigError, match="--name"):
        aggregate(store, SETTINGS, name="../x")


# --- judgements and pairs of one's own -----------------------------------------------------------------------


def judged(tmp_path, frame, name, **settings):
    """num_relevant by query and the result, with the judgements in a file of the name's kind."""
    rows, texts = catalogue()
    for i, r in enumerate(rows):
        r |= {"sku": f"s{i}", "number": float(i)}
    fields = [pa.field("sku", pa.string()), pa.field("number", pa.float64())]
    store = write_run(tmp_path / "run", rows, texts, fields)
    path, data = tmp_path / name, pd.DataFrame(frame)
    if name.endswith(".parquet"):
        data.to_parquet(path)
    else:
        text = data.to_csv(sep="," if ".csv" in name else "\t", index=False).encode("utf-8-sig")
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    result = aggregate(store, MetricsSettings(qrels=str(path), **settings, **FAST))
    queries = store.read_table("metrics/per_query.parquet").to_pylist()
    return {q["query_id"]: q["num_relevant"] for q in queries if q["num_relevant"]}, result


URL = "https://x.example/{}/{}.jpg"
KEYS = {
    "row_id": [{"row_id": "0"}, {"row_id": "6"}],
    "item and address": [{"item_id": f"item{i}", "image_url": URL.format(i, i)} for i in (0, 1)],
    "address": [{"image_url": URL.format(0, 0)}, {"image_url": URL.format(1, 1)}],
    "text of one's own": [{"sku": "s0", "note": "x"}, {"sku": "s6", "note": "y"}],
}  # fmt: skip


@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.parquet", "q.csv.gz"])
@pytest.mark.parametrize("key", KEYS)
def test_judgements_name_rows_by_the_users_keys(tmp_path, key, name):
    frame = [{"query": f"item{i}", **k, "relevance": 1} for i, k in enumerate(KEYS[key])]
    found, result = judged(tmp_path, frame, name)
    assert found == {"item0": 1, "item1": 1} and result["metrics"]["map"]["n"] == 2


def test_a_number_names_rows_in_parquet_and_a_choice_must_be_said(tmp_path):
    frame = [{"query": "item0", "number": 0.0, "sku": "s1"}]
    with pytest.raises(ConfigError, match=r"several could: number, sku; say which with metrics.qrels_key"):
        judged(tmp_path, frame, "q.parquet")
    assert judged(tmp_path, frame, "q.parquet", qrels_key=["number"])[0] == {"item0": 1}
    with pytest.raises(ConfigError, match="colour is not a column of both"):
        judged(tmp_path, frame, "q.parquet", qrels_key=["colour"])


def test_rows_that_the_run_does_not_have_are_said(tmp_path):
    frame = [{"query": "item0", "row_id": r} for r in ("0", "gone", "7")]  # 7 failed, so it is there
    found, result = judged(tmp_path, frame, "q.csv")
    assert found == {"item0": 1}
    assert any("1 of 3 images that" in n and "e.g. gone" in n for n in result["about"]["notes"])
    with pytest.raises(ConfigError, match="none of its 1 images is in this run, by row_id; it names gone"):
        judged(tmp_path, frame[1:2], "q.csv")


def test_an_ignored_image_is_taken_out_of_its_querys_ranking(tmp_path):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    aggregate(store, SETTINGS)
    top = [r for r in store.read_table("metrics/top.parquet").to_pylist() if r["query_id"] == "item2"]
    wanted, better = next((r, top[: r["rank"] - 1]) for r in top if r["rank"] > 2)
    lines = [f"item2,{wanted['row_id']},1\n", *(f"item2,{r['row_id']},ignore\n" for r in better[1:])]
    (tmp_path / "q.csv").write_text("query,row_id,relevance\n" + "".join(lines))
    aggregate(store, MetricsSettings(qrels=str(tmp_path / "q.csv"), **FAST))
    [query] = [q for q in store.read_table("metrics/per_query.parquet").to_pylist() if q["query_id"] == "item2"]
    assert query["first_rank"] == 2
    (tmp_path / "q.csv").write_text("query,row_id,relevance\nitem2,1,maybe\n")
    with pytest.raises(ConfigError, match="a number or `ignore` on every line; record 1 has 'maybe'"):
        aggregate(store, MetricsSettings(qrels=str(tmp_path / "q.csv"), **FAST))


def test_pairs_of_a_file_of_ones_own(tmp_path):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    lines = [
        "p1,a,0.3,0",
        "p1,b,0.1,1",
        "p2,A,0.1,2",
        "p2,b,0.2,3",
        "p3,a,0.1,0",
        "p3,b,0.1,7",
        "p4,a,1,no",
        "p4,b,2,no2",
    ]
    (tmp_path / "pairs.csv").write_text("pair_id,side,ctr,row_id\n" + "\n".join(lines))
    about = aggregate(store, MetricsSettings(pairs=str(tmp_path / "pairs.csv"), **FAST))["about"]["pairs"]
    assert about["used"] == 2 and about["left_out"] == {"an image failed": 1, "neither of its images is in this run": 1}
    score = {r["row_id"]: r["recall_score"] for r in rows}
    found = {r["pair_id"]: r["correct"] for r in store.read_table("metrics/pairs.parquet").to_pylist()}
    assert found == {"p1": score["0"] > score["1"], "p2": not score["2"] > score["3"]}


def test_an_address_with_a_password_is_found_under_its_stored_name(tmp_path):
    rows, texts = catalogue()
    rows[0]["image_url"] = "https://***@x.example/0.jpg"
    store = write_run(tmp_path / "run", rows, texts)
    (tmp_path / "q.csv").write_text("query,image_url\nitem0,https://me:pw@x.example/0.jpg\n")
    assert aggregate(store, MetricsSettings(qrels=str(tmp_path / "q.csv"), **FAST))["metrics"]["map"]["n"] == 1
    assert open_store(store.root).exists("metrics/text/metrics.json")


@pytest.mark.parametrize("setting", ["qrels", "pairs"])
def test_a_file_that_is_not_there_is_named_with_the_one_meant(tmp_path, setting):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    (tmp_path / "judged.csv").write_text("query,row_id\nitem0,1\n")
    with pytest.raises(
        ConfigError, match=rf"metrics\.{setting}: .*judgd\.csv: no such file; did you mean .*judged\.csv\?"
    ):
        aggregate(store, MetricsSettings(**{setting: str(tmp_path / "judgd.csv")}, **FAST))


def test_metrics_over_texts_that_the_tokenizer_does_not_know_say_so(tmp_path, capsys):
    rows, texts = catalogue()
    store = write_run(tmp_path / "run", rows, texts)
    warning = "the recall model's tokenizer does not know 97% of the tokens of these texts"
    store.write_json("run.json", store.read_json("run.json") | {"texts": {"warning": warning}})
    arguments = ["--run", store.root, "--set", "metrics.bootstrap_samples=0"]
    assert aggregate_job.main(arguments) == 0 and f"warning: {warning}" in capsys.readouterr().out
    assert aggregate_job.main([*arguments, "--set", "metrics.query=image"]) == 0  # pictures alone: no word of texts
    assert "warning" not in capsys.readouterr().out
