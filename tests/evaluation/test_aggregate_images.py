"""aistudio/evaluation/aggregate.py with images as queries, against a whole-matrix twin."""

import numpy as np
import pandas as pd
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import RunMismatchError
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.compare import compare
from aistudio.jobs import aggregate as job
from aistudio.search import exact as _aggregate_search
from tests.evaluation.stored_run import FAST, catalogue, under_ray, write_run

IMAGES = {"query": "image", **FAST}


def copies(seed=0):
    """A catalogue in which pictures repeat: within an item, across items, and failed rows; most have a hash."""
    rows, texts = catalogue(seed=seed)
    for i, row in enumerate(rows):
        row["content_hash"] = None if row["status"] != "ok" or i % 9 == 4 else f"sha{i}"
    for first, again in ((0, 1), (0, 20), (11, 13), (11, 14), (50, 51)):
        for column in ("embedding", "content_hash"):
            rows[again][column] = rows[first][column]
    rows[0]["content_hash"] = rows[1]["content_hash"] = rows[20]["content_hash"] = "shared"
    return rows, texts


def twin(rows, relevant=None):
    """row_id -> [(rank, gain)] of its relevant images, by their definition in float64."""
    good = [r for r in rows if r["status"] == "ok"]
    vectors = np.array([r["embedding"] for r in good], dtype=float)
    found, top = {}, {}
    for q, vector in zip(good, vectors, strict=True):
        own = [r is q or (q["content_hash"] is not None and r["content_hash"] == q["content_hash"]) for r in good]
        scores = [np.vecdot(vector, v) for v in vectors]
        ranked = [good[j] for j in np.lexsort((np.arange(len(good)), -np.array(scores))) if not own[j]]
        gains = [float(r["item_id"] == q["item_id"]) for r in ranked]
        if relevant is not None:
            gains = [relevant.get((q["row_id"], r["row_id"]), 0) for r in ranked]
        found[q["row_id"]] = [(p + 1, g) for p, g in enumerate(gains) if g > 0]
        top[q["row_id"]] = [r["row_id"] for r in ranked]
    return found, top


@pytest.fixture
def run(tmp_path):
    rows, texts = copies()
    return write_run(tmp_path / "run", rows, texts), rows


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_the_twin(tmp_path, seed):
    rows, texts = copies(seed)
    store = write_run(tmp_path / "run", rows, texts)
    result = aggregate(store, MetricsSettings(k=[1, 3, 10], **IMAGES))
    found, top = twin(rows)
    scored = [[rank for rank, _ in r] for r in found.values() if r]
    m = result["metrics"]
    assert m["hit_rate@3"]["value"] == pytest.approx(np.mean([r[0] <= 3 for r in scored]), abs=1e-12)
    assert m["cmc@1"] == m["hit_rate@1"]
    assert m["recall@10"]["value"] == pytest.approx(np.mean([sum(x <= 10 for x in r) / len(r) for r in scored]))
    ap = [np.mean([(i + 1) / x for i, x in enumerate(r)]) for r in scored]
    assert m["map"]["value"] == pytest.approx(np.mean(ap), abs=1e-12) and m["map"]["n"] == len(scored)
    assert m["median_rank"]["value"] == np.median([r[0] for r in scored])
    about = result["about"]
    assert about["query"] == "image" and about["queries"] == len(found) == about["gallery_rows"]
    assert about["queries_without_relevant"] == len(found) - len(scored)

    per_query = store.read_table("metrics/per_query.parquet").to_pylist()
    assert [q["query_id"] for q in per_query] == list(found)
    assert [q["first_rank"] for q in per_query] == [r[0][0] if r else None for r in found.values()]
    by_id = {r["row_id"]: r for r in rows}
    assert all(q[c] == by_id[q["query_id"]][c] for q in per_query for c in ("item_id", "text", "image_url"))
    shown = pd.DataFrame(store.read_table("metrics/top.parquet").to_pylist())
    for query, part in shown[shown.part == "top"].groupby("query_id"):
        assert part["row_id"].tolist() == top[query][:12]
        assert part["relevant"].tolist() == [by_id[r]["item_id"] == by_id[query]["item_id"] for r in top[query][:12]]


def test_files_blocks_chunks_and_ray_change_nothing(run, tmp_path, monkeypatch, local_ray):
    store, rows = run
    settings = MetricsSettings(slices=["category", "price"], max_queries=40, relevant_by=["category"], **IMAGES)
    aggregate(store, settings)
    other = write_run(tmp_path / "other", rows, {}, shard=25)
    monkeypatch.setattr(_aggregate_search, "QUERY_CHUNK", 7)
    with under_ray() as mapper:
        aggregate(other, settings.model_copy(update={"block_rows": 4}), mapper)
    for name in ("metrics.json", "curves.json"):
        assert store.read_bytes(f"metrics/{name}") == other.read_bytes(f"metrics/{name}")
    for name in ("per_query", "slices", "relevant_by", "classes"):
        assert store.read_table(f"metrics/{name}.parquet") == other.read_table(f"metrics/{name}.parquet")
    a, b = (s.read_table("metrics/top.parquet").drop_columns(["file", "row_index"]) for s in (store, other))
    assert a == b


def test_a_sample_keeps_the_values_of_its_queries(run):
    store, _rows = run
    aggregate(store, MetricsSettings(**IMAGES))
    whole = {q["query_id"]: q for q in store.read_table("metrics/per_query.parquet").to_pylist()}
    result = aggregate(store, MetricsSettings(max_queries=9, **IMAGES))
    part = store.read_table("metrics/per_query.parquet").to_pylist()
    assert len(part) == 9 and [whole[q["query_id"]] for q in part] == part
    assert result["about"]["queries_drawn_from"] == len(whole) == result["about"]["gallery_rows"]
    assert [int(q["query_id"]) for q in part] == sorted(int(q["query_id"]) for q in part), "in manifest order"


def test_graded_qrels_name_rows(run, tmp_path):
    store, rows = run
    rng = np.random.default_rng(3)
    pairs = {
        (str(q), str(r)): int(g)
        for q, r, g in zip(*rng.integers(0, 60, (2, 400)), rng.integers(0, 4, 400), strict=False)
    }
    pairs |= {("2", "2"): 3, ("0", "20"): 3}  # a query's own picture is not in its gallery whatever the file says
    path = tmp_path / "qrels.tsv"
    lines = [f"{q}\t{r}\t{g}\n" for (q, r), g in pairs.items()] + ["item0\t3\t1\n"]
    path.write_text("query\trow_id\trelevance\n" + "".join(lines))
    result = aggregate(store, MetricsSettings(k=[10], qrels=str(path), **IMAGES))
    found, _ = twin(rows, pairs)
    ndcg = []
    for (_query, ranked), discount in zip(found.items(), [1 / np.log2(np.arange(2, 12))] * len(found), strict=True):
        if ranked:
            got = sum(g * discount[rank - 1] for rank, g in ranked if rank <= 10)
            ndcg.append(got / (np.array(sorted((g for _, g in ranked), reverse=True)[:10]) @ discount[: len(ranked)]))
    assert result["metrics"]["ndcg@10"]["value"] == pytest.approx(np.mean(ndcg), abs=1e-12)
    assert result["metrics"]["ndcg@10"]["n"] == len(ndcg)
    assert any("are not in this run" in note for note in result["about"]["notes"]), "an item is no query here"


def test_slices_take_the_images_own_values(run):
    store, rows = run
    aggregate(store, MetricsSettings(slices=["category", "width"], **IMAGES))
    table = store.read_table("metrics/slices.parquet").to_pandas()
    found, _ = twin(rows)
    by_id = {r["row_id"]: r for r in rows}
    hats = [1 / r[0][0] for q, r in found.items() if r and by_id[q]["category"] == "hat"]
    row = table[(table.column == "category") & (table.value == "hat") & (table.metric == "mrr")].iloc[0]
    assert row.estimate == pytest.approx(np.mean(hats)) and row.n == len(hats)
    widths = table[(table.column == "width") & (table.metric == "mrr")]
    assert widths["value"].tolist() == ["100", "110", "120", "130", "140"]


def test_the_histogram_leaves_out_the_own_picture(run):
    store, rows = run
    aggregate(store, MetricsSettings(**IMAGES))
    h = store.read_json("metrics/curves.json")["histogram"]
    found, top = twin(rows)
    assert sum(h["relevant"]) == sum(len(r) for r in found.values())
    assert sum(h["relevant"]) + sum(h["irrelevant"]) == sum(len(t) for t in top.values())


def test_nothing_is_ok(tmp_path):
    rows, texts = catalogue()
    rows = [r | {"status": "timeout", "embedding": None, "recall_score": None} for r in rows]
    result = aggregate(write_run(tmp_path / "run", rows, texts), MetricsSettings(slices=["category"], **IMAGES))
    assert result["metrics"]["map"] == {"value": None, "low": None, "high": None, "n": 0}
    assert "no image is ok: the gallery is empty" in result["about"]["notes"]


def test_runs_asked_with_texts_and_with_images_are_not_compared(run, tmp_path):
    store, rows = run
    other = write_run(tmp_path / "other", rows, catalogue()[1])
    aggregate(store, MetricsSettings(**IMAGES))
    aggregate(other, MetricsSettings(**FAST))
    with pytest.raises(RunMismatchError, match=r"what is asked \(metrics\.query\): A image, B text"):
        compare(store, other, MetricsSettings())
    both = write_run(tmp_path / "both", rows, catalogue()[1])
    aggregate(both, MetricsSettings(**IMAGES))
    aggregate(both, MetricsSettings(**FAST))  # beside the first one
    assert compare(store, both, MetricsSettings(bootstrap_samples=20))["metrics"]["map"]["difference"] == 0


def test_the_job_takes_the_setting(run, capsys):
    store, _ = run
    assert job.main(["--run", store.root, "--set", "metrics.query=image", "--set", "metrics.max_queries=20"]) == 0
    assert "20 queries" in capsys.readouterr().out
