"""aistudio/evaluation/aggregate.py on run folders written as Parquet, against a whole-matrix twin."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, ManifestError, StoreError
from aistudio.evaluation.aggregate import aggregate
from aistudio.jobs import aggregate as job
from aistudio.schema import text_schema
from aistudio.search import exact as _aggregate_search
from aistudio.store import open_store
from tests.evaluation.stored_run import DIM, FAST, PASSTHROUGH, catalogue, under_ray, unit, write_run


def twin(rows, texts):
    """item -> its relevant ranks, from the whole matrix in float64."""
    good = [r for r in rows if r["status"] == "ok"]
    gallery = np.array([r["embedding"] for r in good], dtype=float)
    found = {}
    for item, text in dict.fromkeys((r["item_id"], r["text"]) for r in rows):
        scores = np.array([np.vecdot(texts[text].astype(float), g) for g in gallery])
        order = np.lexsort((np.arange(len(good)), -scores))
        found[item] = [p + 1 for p, g in enumerate(order) if good[g]["item_id"] == item]
    return found, len(good)


@pytest.fixture
def run(tmp_path):
    rows, texts = catalogue()
    return write_run(tmp_path / "run", rows, texts), rows, texts


def test_metrics_equal_the_twin(run):
    store, rows, texts = run
    result = aggregate(store, MetricsSettings(k=[1, 5, 1000], **FAST))
    ranks, gallery = twin(rows, texts)
    scored = {item: r for item, r in ranks.items() if r}
    m = store.read_json("metrics/metrics.json")
    assert m == result["metrics"]
    assert m["hit_rate@5"]["value"] == pytest.approx(np.mean([r[0] <= 5 for r in scored.values()]), abs=1e-12)
    assert m["recall@5"]["value"] == pytest.approx(np.mean([sum(x <= 5 for x in r) / len(r) for r in scored.values()]))
    assert m["recall@1000"]["value"] == 1.0
    assert m["mrr"]["value"] == pytest.approx(np.mean([1 / r[0] for r in scored.values()]), abs=1e-12)
    ap = [np.mean([(i + 1) / x for i, x in enumerate(r)]) for r in scored.values()]
    assert m["map"]["value"] == pytest.approx(np.mean(ap), abs=1e-12)
    assert m["median_rank"]["value"] == np.median([r[0] for r in scored.values()])
    assert m["map"]["n"] == 11 and m["map"]["low"] <= m["map"]["value"] <= m["map"]["high"]
    about = store.read_json("metrics/about.json")
    assert about["gallery_rows"] == gallery and about["failed_rows"] == len(rows) - gallery
    assert about["queries_without_relevant"] == 1 and "item11" in about["notes"][0]

    per_query = store.read_table("metrics/per_query.parquet").to_pylist()
    assert [q["query_id"] for q in per_query] == list(ranks)
    assert [q["first_rank"] for q in per_query] == [r[0] if r else None for r in ranks.values()]
    assert [q["num_relevant"] for q in per_query] == [len(r) for r in ranks.values()]


def test_top_rows_can_be_found_again(run):
    store, rows, texts = run
    aggregate(store, MetricsSettings(k=[3], **FAST))
    ranks, _ = twin(rows, texts)
    top = store.read_table("metrics/top.parquet").to_pylist()
    by_id = {r["row_id"]: r for r in rows}
    for r in top:
        stored = store.read_table(r["file"]).slice(r["row_index"], 1).to_pylist()[0]
        assert stored["row_id"] == r["row_id"] and stored["image_url"] == r["image_url"] and stored["status"] == "ok"
        assert r["relevant"] == (by_id[r["row_id"]]["item_id"] == r["query_id"])
        text = texts[next(x["text"] for x in rows if x["item_id"] == r["query_id"])]
        assert r["score"] == pytest.approx(
            float(text.astype(float) @ np.asarray(stored["embedding"], float)), abs=1e-12
        )
    for item, found in ranks.items():
        own = [r for r in top if r["query_id"] == item]
        assert [r["rank"] for r in own if r["part"] == "top"] == list(range(1, 13))
        assert [r["rank"] for r in own if r["relevant"]] == [x for x in found if x <= 12] + [
            x for x in found if x > 12
        ][-6:]
        assert all(r["rank"] > 12 and r["relevant"] for r in own if r["part"] == "low_relevant")


def test_files_blocks_and_query_chunks_change_nothing(run, tmp_path, monkeypatch):
    store, rows, texts = run
    aggregate(store, MetricsSettings(slices=["category"], **FAST))
    monkeypatch.setattr(_aggregate_search, "QUERY_CHUNK", 5)
    other = write_run(tmp_path / "other", rows, texts, shard=25)
    aggregate(other, MetricsSettings(slices=["category"], block_rows=4, **FAST))
    for name in ("metrics.json", "curves.json"):
        assert store.read_bytes(f"metrics/{name}") == other.read_bytes(f"metrics/{name}")
    for name in ("per_query", "slices"):
        assert store.read_table(f"metrics/{name}.parquet") == other.read_table(f"metrics/{name}.parquet")
    places = ["file", "row_index"]
    a, b = (s.read_table("metrics/top.parquet").drop_columns(places) for s in (store, other))
    assert a == b


def test_ray_tasks_give_the_same(run, local_ray):
    store, _, _ = run
    aggregate(store, MetricsSettings(**FAST))
    here = {name: store.read_bytes(f"metrics/{name}") for name in ("metrics.json", "curves.json")}
    top = store.read_table("metrics/top.parquet")
    with under_ray() as mapper:
        aggregate(store, MetricsSettings(**FAST), mapper)
    assert mapper.num >= 1
    assert here == {name: store.read_bytes(f"metrics/{name}") for name in here}
    assert top == store.read_table("metrics/top.parquet")


def test_a_damaged_vector_names_its_file(run):
    store, rows, texts = run
    rows[3]["embedding"] = np.full(DIM, np.nan, np.float32)
    write_run(store.root, rows, texts)
    with pytest.raises(StoreError, match=r"scores/00000.parquet: embedding: row 3 holds NaN"):
        aggregate(store, MetricsSettings(**FAST))


def test_texts_of_another_model_are_refused(run):
    store, _, _ = run
    for n in range(2):
        table = pa.table(
            {"text": ["酒店 1"], "embedding": pa.array([np.ones(8, np.float32)], text_schema(8).field(1).type)}
        )
        store.write_table(f"texts/{n:05d}.parquet", table)
    with pytest.raises(StoreError, match="images have 16 dimensions, queries 8"):
        aggregate(store, MetricsSettings(**FAST))


def test_half_precision_vectors(run, tmp_path):
    _, rows, texts = run
    half = write_run(tmp_path / "half", rows, texts, dtype="float16")
    found = aggregate(half, MetricsSettings(**FAST))
    assert found["metrics"]["hit_rate@10"]["value"] > 0.9


@pytest.mark.parametrize("policy", ["skip", "zero", "error"])
def test_queries_without_relevant_images(run, policy):
    store, rows, texts = run
    settings = MetricsSettings(no_relevant=policy, **FAST)
    if policy == "error":
        with pytest.raises(ManifestError, match=r"1 of 12 queries have no ok relevant image in the gallery, .*item11"):
            aggregate(store, settings)
        return
    m = aggregate(store, settings)["metrics"]
    assert m["mrr"]["n"] == (11 if policy == "skip" else 12)
    ranks = [r[0] for r in twin(rows, texts)[0].values() if r]
    assert m["mrr"]["value"] == pytest.approx(sum(1 / r for r in ranks) / m["mrr"]["n"])


def test_empty_gallery(tmp_path):
    rows, texts = catalogue()
    rows = [r | {"status": "timeout", "embedding": None, "recall_score": None} for r in rows]
    store = write_run(tmp_path / "run", rows, texts)
    result = aggregate(store, MetricsSettings(slices=["category"], **FAST))
    assert result["metrics"]["hit_rate@5"] == {"value": None, "low": None, "high": None, "n": 0}
    assert result["metrics"]["median_rank"]["value"] is None
    assert "no image is ok: the gallery is empty" in result["about"]["notes"]
    assert store.read_table("metrics/top.parquet").num_rows == 0


def test_no_texts_at_all(tmp_path):
    rows, _ = catalogue()
    store = write_run(tmp_path / "run", rows, {"other": np.ones(DIM, np.float32)})
    result = aggregate(store, MetricsSettings(**FAST))
    assert result["metrics"]["map"]["n"] == 0
    assert result["about"]["notes"] == [
        "12 of 12 queries have no text vector in texts/ and are left out",
        "there are no queries",
    ]


def test_not_a_run_folder(tmp_path):
    with pytest.raises(StoreError, match="no scores"):
        aggregate(open_store(str(tmp_path)), MetricsSettings())


def test_several_texts_of_an_item_are_several_queries(run, tmp_path):
    _, rows, texts = run
    rows[1]["text"] = "酒店 3"
    store = write_run(tmp_path / "two", rows, texts)
    aggregate(store, MetricsSettings(**FAST))
    ids = store.read_table("metrics/per_query.parquet")["query_id"].to_pylist()
    assert ids[:3] == ["item0#1", "item0#2", "item1"] and len(ids) == 13


def test_graded_relevance_from_a_file(run, tmp_path):
    store, _, _ = run
    lines = [
        ("item0", "0", 3),
        ("item0", "6", 1),
        ("item1", "5", 2),
        ("item2", "10", 0),
        ("nobody", "1", 1),
        ("item0", "7", 2),
    ]
    path = tmp_path / "qrels.tsv"
    path.write_text("query\trow_id\trelevance\n" + "".join(f"{q}\t{r}\t{g}\n" for q, r, g in lines))
    result = aggregate(store, MetricsSettings(qrels=str(path), **FAST))
    per_query = {q["query_id"]: q for q in store.read_table("metrics/per_query.parquet").to_pylist()}
    assert per_query["item0"]["num_relevant"] == 2  # row 7 failed
    assert per_query["item1"]["num_relevant"] == 1 and per_query["item2"]["num_relevant"] == 0
    assert result["metrics"]["mrr"]["n"] == 2
    assert any("nobody" in note for note in result["about"]["notes"])
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(ConfigError, match="needs columns query, row_id, relevance"):
        aggregate(store, MetricsSettings(qrels=str(path), **FAST))
    with pytest.raises(ConfigError, match="no such file"):
        aggregate(store, MetricsSettings(qrels=str(tmp_path / "none.tsv"), **FAST))


@pytest.mark.parametrize("kind", ["tsv", "parquet"])
def test_graded_relevance_reaches_every_metric(run, tmp_path, kind):
    """A file of either kind, its gains and ranks through to ndcg, against the definition."""
    store, rows, texts = run
    rng = np.random.default_rng(5)
    good = [r for r in rows if r["status"] == "ok"]
    frame = pd.DataFrame(
        [
            (f"item{i}", r["row_id"], int(g))
            for i in range(8)
            for r, g in zip(good, rng.integers(-1, 4, len(good)), strict=False)
        ],
        columns=["query", "row_id", "relevance"],
    ).sample(frac=0.3, random_state=1)
    path = tmp_path / f"qrels.{kind}"
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, sep="\t", index=False)
    m = aggregate(store, MetricsSettings(k=[3, 10], qrels=str(path), **FAST))["metrics"]
    gallery = np.array([r["embedding"] for r in good], dtype=float)
    ndcg, recall = [], []
    for i in range(8):
        gain = {r: g for q, r, g in frame.itertuples(index=False) if q == f"item{i}" and g > 0}
        scores = [np.vecdot(texts[f"酒店 {i}"].astype(float), v) for v in gallery]
        ranked = [gain.get(good[j]["row_id"], 0) for j in np.lexsort((np.arange(len(good)), -np.array(scores)))]
        if gain:
            discount = 1 / np.log2(np.arange(2, 12))
            ndcg.append(
                (ranked[:10] @ discount) / (np.pad(sorted(gain.values(), reverse=True), (0, 10))[:10] @ discount)
            )
            recall.append(sum(g > 0 for g in ranked[:3]) / len(gain))
    assert m["ndcg@10"]["value"] == pytest.approx(np.mean(ndcg), abs=1e-12) and m["ndcg@10"]["n"] == len(ndcg)
    assert m["recall@3"]["value"] == pytest.approx(np.mean(recall), abs=1e-12)


def test_a_sample_of_the_queries(run, tmp_path):
    store, rows, texts = run
    aggregate(store, MetricsSettings(**FAST))
    whole = {q["query_id"]: q for q in store.read_table("metrics/per_query.parquet").to_pylist()}
    result = aggregate(store, MetricsSettings(max_queries=5, **FAST))
    part = store.read_table("metrics/per_query.parquet").to_pylist()
    assert len(part) == 5 and all(whole[q["query_id"]] == q for q in part)
    assert result["about"]["queries"] == 5 and result["about"]["queries_drawn_from"] == 12
    assert any("queries sampled: 5 of 12" in note for note in result["about"]["notes"])
    names = [q["query_id"] for q in part]
    aggregate(store, MetricsSettings(max_queries=5, **FAST, seed=1))
    assert names != store.read_table("metrics/per_query.parquet")["query_id"].to_pylist()
    fewer = write_run(tmp_path / "fewer", [r for r in rows if r["item_id"] != names[0]], texts)
    aggregate(fewer, MetricsSettings(max_queries=5, **FAST))
    kept = fewer.read_table("metrics/per_query.parquet")["query_id"].to_pylist()
    assert set(names[1:]) < set(kept), "another run of nearly the same manifest draws nearly the same queries"


def test_slices_count_every_query_once(run):
    store, rows, texts = run
    aggregate(store, MetricsSettings(slices=["category", "price", "status"], **FAST))
    table = store.read_table("metrics/slices.parquet").to_pandas()
    ranks = {item: r for item, r in twin(rows, texts)[0].items() if r}
    hats = [1 / r[0] for item, r in ranks.items() if int(item[4:]) % 2]
    row = table[(table.column == "category") & (table.value == "hat") & (table.metric == "mrr")].iloc[0]
    assert row.estimate == pytest.approx(np.mean(hats)) and row.n == len(hats)
    for column in ("category", "price", "status"):
        assert table[(table.column == column) & (table.metric == "map")].n.sum() == 11
    assert table[(table.column == "price") & (table.metric == "map")].value.str.contains(" to ").all()
    assert "(mixed)" in set(table[table.column == "status"].value)
    with pytest.raises(ConfigError, match=r"metrics\.slices: colour is not a column"):
        aggregate(store, MetricsSettings(slices=["colour"], **FAST))


def test_curves_add_up(run):
    store, rows, _ = run
    aggregate(store, MetricsSettings(k=[5], **FAST))
    curves, m = store.read_json("metrics/curves.json"), store.read_json("metrics/metrics.json")
    assert len(curves["retrieval"]["k"]) == 100
    for name in ("hit_rate", "recall", "precision"):
        assert curves["retrieval"][name][4] == pytest.approx(m[f"{name}@5"]["value"])
    assert curves["cmc"]["share"] == pytest.approx(curves["retrieval"]["hit_rate"])
    good = sum(r["status"] == "ok" for r in rows)
    h = curves["histogram"]
    assert sum(h["relevant"]) == good and sum(h["irrelevant"]) == 12 * good - good
    assert len(h["edges"]) == len(h["relevant"]) + 1


PAIR_FIELDS = [
    pa.field("pair_id", pa.string()),
    pa.field("side", pa.string()),
    pa.field("ctr", pa.float64()),
    PASSTHROUGH[0],
]


def pair_run(path, n=40, seed=0, **change):
    rng = np.random.default_rng(seed)
    texts = {f"t{i}": v for i, v in enumerate(unit(rng.normal(size=(n, DIM))))}
    rows = []
    for i in range(n):
        for side in "ab":
            ctr = float(rng.random() * 0.2)
            rows.append(
                {
                    "row_id": f"{i}:{side}", "item_id": f"i{i}", "image_url": "u", "text": f"t{i}", "status": "ok",
                    "embedding": unit(rng.normal(size=DIM)), "recall_score": 0.1, "pair_id": f"i{i}#{i}", "side": side,
                    "rank_score": float(np.float32(ctr * 10 + rng.normal(0, 0.7))), "ctr": ctr, "category": "ab"[i % 2],
                }
            )  # fmt: skip
    for row, values in change.items():
        rows[int(row[1:])].update(values)
    return write_run(path, rows, texts, PAIR_FIELDS, shard=9), rows


def test_pairs_by_the_published_rule(tmp_path):
    dead = {"status": "timeout", "embedding": None, "rank_score": None, "recall_score": None}
    store, rows = pair_run(
        tmp_path / "run",
        r4=dead,
        r11={"ctr": float("nan")},
        r20={"side": "b"},
        r30={"rank_score": 1.5},
        r31={"rank_score": 1.5},
    )
    result = aggregate(store, MetricsSettings(slices=["category"], **FAST))
    used = [(a, b) for i, (a, b) in enumerate(zip(rows[::2], rows[1::2], strict=True)) if i not in (2, 5, 10)]
    want = [(a["ctr"] > b["ctr"]) == (a["rank_score"] > b["rank_score"]) for a, b in used]
    m = result["metrics"]
    assert m["pairwise_accuracy"]["value"] == pytest.approx(np.mean(want)) and m["pairwise_accuracy"]["n"] == 37
    half = [0.5 if a["rank_score"] == b["rank_score"] else float(w) for (a, b), w in zip(used, want, strict=True)]
    assert m["pairwise_accuracy_ties_half"]["value"] == pytest.approx(np.mean(half))
    assert {"roc_auc", "average_precision", "log_loss", "ece", "kendall_tau", "ctr_lift"} <= set(m)
    assert all(m[x]["low"] <= m[x]["value"] <= m[x]["high"] for x in ("roc_auc", "average_precision", "ctr_lift"))
    margin = np.array([a["rank_score"] - b["rank_score"] for a, b in used])
    p, label = 1 / (1 + np.exp(-margin)), np.array([a["ctr"] > b["ctr"] for a, b in used])
    assert m["log_loss"]["value"] == pytest.approx(-np.log(np.where(label, p, 1 - p)).mean(), abs=1e-9)
    from aistudio.metrics import classification

    assert m["ece"]["value"] == pytest.approx(classification.ece(label, p), abs=1e-12)
    assert result["about"]["pairs"] == {
        "used": 37,
        "left_out": {
            "a side is missing, double or neither a nor b": 1,
            "an image failed": 1,
            "the CTR is not a number": 1,
        },
        "score": "rank_score",
    }
    table = store.read_table("metrics/pairs.parquet").to_pylist()
    assert [r["correct"] for r in table] == want
    assert [r["row_id_a"] for r in table] == [a["row_id"] for a, _ in used]
    slices = store.read_table("metrics/slices.parquet").to_pandas()
    assert slices[(slices.column == "category") & (slices.metric == "pairwise_accuracy")].n.sum() == 37


def test_pairs_without_a_ranking_model_use_the_recall_score(tmp_path):
    change = {f"r{i}": {"rank_score": None, "recall_score": i / 100, "ctr": float(1 + i % 2)} for i in range(80)}
    store, _ = pair_run(tmp_path / "run", **change)
    result = aggregate(store, MetricsSettings(**FAST))
    assert result["about"]["pairs"]["score"] == "recall_score"
    assert result["metrics"]["pairwise_accuracy"]["value"] == 1.0  # b is better and scores higher throughout
    assert "ctr_lift" not in result["metrics"], "winner marks 1 and 2 are not rates"
    assert result["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None, "n": 40}, "one class"


def test_any_stored_column_can_slice_pairs(tmp_path):
    store, _ = pair_run(tmp_path / "run")
    columns = ["text", "item_id", "pair_id", "side", "status", "width", "rank_score"]
    aggregate(store, MetricsSettings(slices=columns, **FAST))
    table = store.read_table("metrics/slices.parquet").to_pandas()
    per_column = table[table.metric == "pairwise_accuracy"].groupby("column").n.sum()
    assert per_column.to_dict() == {c: 40 for c in columns if c != "pair_id"}


def test_all_pairs_left_out(tmp_path):
    change = {f"r{i}": {"ctr": None} for i in range(80)}
    store, _ = pair_run(tmp_path / "run", **change)
    m = aggregate(store, MetricsSettings(**FAST))["metrics"]
    assert m["pairwise_accuracy"] == {"value": None, "low": None, "high": None, "n": 0}


def test_the_job_prints_a_table_with_the_papers_names(run, capsys):
    store, _, _ = run
    assert job.main(["--run", store.root, "--set", "metrics.k=[1, 5]", "--set", "report.paper={hit_rate@5: 0.9}"]) == 0
    out = capsys.readouterr().out
    assert (
        "hit_rate@5" in out
        and "recall@5 in the paper" in out
        and f"python -m aistudio report --run {store.root}" in out
    )
    assert set(json.loads(store.read_bytes("metrics/metrics.json"))) >= {"hit_rate@1", "hit_rate@5"}
    assert "hit_rate@10" not in store.read_json("metrics/metrics.json")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_files_of_both_layouts_of_vectors_may_lie_in_one_run(tmp_path, dtype):
    rows, texts = catalogue()
    settings = MetricsSettings(
        slices=["category"], block_rows=16, query="image" if dtype == "float16" else "text", **FAST
    )
    new = write_run(tmp_path / "new", rows, texts, dtype=dtype)
    want = aggregate(new, settings)
    assert want["metrics"]["map"]["value"] > 0.1
    for name, old in {"old": lambda n: True, "mixed": lambda n: n % 2 == 0}.items():
        store = write_run(tmp_path / name, rows, texts, dtype=dtype, old=old)
        assert pa.types.is_fixed_size_list(store.read_metadata("scores/00000.parquet")[0].field("embedding").type)
        assert aggregate(store, settings) == want
        for table in ("top", "per_query", "slices"):
            key = f"metrics/{table}.parquet"
            assert store.read_table(key) == new.read_table(key)
