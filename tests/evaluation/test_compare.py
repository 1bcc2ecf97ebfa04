"""aistudio/evaluation/compare.py: pairing, signs, corrected p-values, what changed."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.evaluation.compare import compare, run_name
from aistudio.jobs import compare as job
from aistudio.metrics.significance import holm, randomisation_test
from aistudio.store import open_store

SETTINGS = MetricsSettings(bootstrap_samples=200)


def write(path, ids, values, num_relevant=None, correct=None):
    store = open_store(str(path))
    values = np.asarray(values, float)
    columns = {
        "query_id": ids, "item_id": ids, "text": [f"酒店 {i}" for i in ids],
        "num_relevant": [1] * len(ids) if num_relevant is None else num_relevant,
        "first_rank": pa.array([int(1 / v) if v else None for v in values], pa.int64()),
        "hit_rate@1": (values == 1).astype(float), "cmc@1": (values == 1).astype(float), "map": values,
    }  # fmt: skip
    store.write_table("metrics/per_query.parquet", pa.table(columns))
    if correct is not None:
        pairs = pa.table({"pair_id": [str(i) for i in range(len(correct))], "correct": pa.array(correct, pa.bool_())})
        store.write_table("metrics/pairs.parquet", pairs)
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "output": str(path), "models": {"recall": "r.yaml"}}
    store.write_json("run.json", {"config": config})
    return store


@pytest.fixture
def runs(tmp_path):
    a = write(tmp_path / "base", ["q0", "q1", "q2", "q3", "old"], [1, 0.5, 0.25, 0.2, 1], correct=[True, False, False])
    b = write(
        tmp_path / "new",
        ["q3", "q2", "q1", "q0", "n1", "n2"],
        [1, 0.25, 1, 0.5, 0.1, 1],
        correct=[True, True, True, False],
    )
    return a, b


def test_differences_are_taken_query_by_query(runs):
    a, b = runs
    result = compare(a, b, SETTINGS)
    assert b.read_json("metrics/compare_base.json") == result
    assert result["queries"] == {"paired": 4, "only_a": 1, "only_b": 2, "without_relevant": 0}
    assert result["pairs"] == {"paired": 3, "only_a": 0, "only_b": 1}
    m = result["metrics"]["map"]
    difference = [-0.5, 0.5, 0, 0.8]
    assert m["difference"] == pytest.approx(np.mean(difference)) == pytest.approx(m["b"] - m["a"])
    assert (m["wins"], m["ties"], m["losses"], m["n"]) == (2, 1, 1, 4)
    assert m["low"] <= m["difference"] <= m["high"]
    assert m["p_value"] == randomisation_test(difference)
    assert result["metrics"]["pairwise_accuracy"]["wins"] == 2
    assert list(result["metrics"]) == ["hit_rate@1", "map", "pairwise_accuracy"]
    p = [v["p_value"] for v in result["metrics"].values()]
    assert [v["p_holm"] for v in result["metrics"].values()] == pytest.approx(holm(p).tolist())


def test_what_changed_most_comes_first(runs):
    changed = compare(*runs, SETTINGS)["changed"]
    assert [c["query_id"] for c in changed] == ["q3", "q0", "q1"]
    assert changed[0] == {
        "query_id": "q3", "text": "酒店 q3", "a": 0.2, "b": 1.0, "difference": pytest.approx(0.8),
        "first_rank_a": 5, "first_rank_b": 1,
    }  # fmt: skip


def test_a_run_against_itself(runs):
    a, _ = runs
    result = compare(a, a, SETTINGS)
    assert result["changed"] == []
    assert all(m["p_holm"] == 1.0 and m["difference"] == 0 for m in result["metrics"].values())


def test_a_real_gain_is_found_and_noise_is_not(tmp_path):
    rng = np.random.default_rng(0)
    ids, base = [f"q{i}" for i in range(200)], rng.uniform(0.2, 0.6, 200)
    a = write(tmp_path / "a", ids, base)
    better = compare(a, write(tmp_path / "b", ids, base + rng.normal(0.03, 0.1, 200)), SETTINGS)["metrics"]["map"]
    same = compare(a, write(tmp_path / "c", ids, base + rng.normal(0.0, 0.1, 200)), SETTINGS)["metrics"]["map"]
    assert better["p_holm"] < 0.01 and better["low"] > 0
    assert same["p_holm"] > 0.05 and same["low"] < 0 < same["high"]


def test_queries_without_relevant_images_follow_the_policy(tmp_path):
    a = write(tmp_path / "a", ["x", "y"], [1, 0], num_relevant=[1, 0])
    b = write(tmp_path / "b", ["x", "y"], [1, 1])
    assert compare(a, b, SETTINGS)["metrics"]["map"]["n"] == 1
    found = compare(a, b, MetricsSettings(no_relevant="zero", bootstrap_samples=0))
    assert found["metrics"]["map"]["n"] == 2 and found["queries"]["without_relevant"] == 1
    assert found["changed"][0]["first_rank_a"] is None


def test_what_cannot_be_compared(runs, tmp_path):
    a, _ = runs
    with pytest.raises(
        StoreError, match=r"nowhere has no metrics/per_query.parquet; first: python -m aistudio aggregate --run "
    ):
        compare(a, open_store(str(tmp_path / "nowhere")), SETTINGS)
    with pytest.raises(StoreError, match="nothing to compare"):
        compare(a, write(tmp_path / "other", ["z"], [1]), SETTINGS)
    with pytest.raises(ConfigError, match="one run alone"):
        job.main(["--runs", a.root])


def test_names_are_safe_in_a_file_name():
    assert run_name(open_store("/tmp/run 1?/")) == "run_1_"
    assert run_name(open_store("/tmp/酒店-v2.1")) == "酒店-v2.1"


def test_the_job_prints_every_comparison(runs, tmp_path, capsys):
    a, b = runs
    c = write(tmp_path / "third", ["q0", "q1"], [1, 1])
    assert job.main(["--runs", a.root, b.root, c.root, "--set", "metrics.bootstrap_samples=20"]) == 0
    out = capsys.readouterr().out
    assert out.count("p Holm") == 2 and "4 in both, 1 only in A, 2 only in B" in out and "first hit at 5 -> 1" in out
    assert c.exists("metrics/compare_base.json")
