"""Stored lists judged by a column: the numbers are those of whole rankings, at every K that the lists reach."""

import numpy as np
import pytest

from aistudio.config import MetricsSettings
from aistudio.evaluation.same_value import (
    ListsByValue,
    class_rows,
    confusion,
    curve_points,
    metric_rows,
    quality,
)
from aistudio.metrics import retrieval
from aistudio.metrics.chance import chance_at_k, chance_levels

NAMES = ["hat", "coat", "shoe"]
SETTINGS = MetricsSettings(bootstrap_samples=0)


def drawn(depth, num=40, seed=0):
    """Every item asks all others in a random order: the lists of `depth`, and the same as exact ranks."""
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 3, num)  # -1: no value
    orders = [rng.permutation(np.delete(np.arange(num), q)) for q in range(num)]
    right = [np.flatnonzero((label[o] == label[q]) & (label[q] >= 0)) + 1 for q, o in enumerate(orders)]
    relevant = np.array([len(r) for r in right])
    lists = ListsByValue(
        NAMES, label, np.stack([label[o[:depth]] for o in orders]), relevant, np.full(num, num - 1)
    )  # fmt: skip
    whole = retrieval.relevant(np.repeat(np.arange(num), relevant), np.concatenate(right), num)
    return lists, whole


def test_metrics_at_k_are_those_of_whole_rankings():
    lists, whole = drawn(10)
    kept = whole.num_Q > 0
    assert (kept == lists.judged_Q).all() and 0 < kept.sum() < 40
    rows = {row["name"]: row for row in metric_rows(lists, [1, 5, 10, 50], SETTINGS)}
    assert set(rows) == {"hit_rate@1"} | {f"{n}@{k}" for n in ("hit_rate", "recall", "precision", "map_capped")
                                          for k in (5, 10)}  # fmt: skip
    expected = retrieval.per_query_similar(whole, [1, 5, 10])
    chance = chance_levels(whole.num_Q[kept], np.full(kept.sum(), 39), [1, 5, 10])
    for name, row in rows.items():
        assert row["value"] == pytest.approx(expected[name][kept].mean()) and row["n"] == kept.sum()
        assert row["chance"] == pytest.approx(chance[name].mean())
        of_class = [expected[name][kept & (lists.label_Q == c)].mean() for c in range(3)]
        assert row["macro"] == pytest.approx(np.mean(of_class))
    found = quality(lists)
    assert np.isnan(found[~kept]).all()
    assert found[kept].tolist() == expected["map_capped@10"][kept].tolist()


def test_curves_and_classes():
    lists, whole = drawn(7)
    kept = whole.num_Q > 0
    points, chance = curve_points(lists, "recall")
    assert [k for k, _ in points] == list(range(1, 8)) == [k for k, _ in chance]
    assert points[2][1] == pytest.approx(retrieval.recall(whole, 3)[kept].mean(), abs=1e-6)
    assert chance[3][1] == pytest.approx(4 / 39, abs=1e-6)
    rows = class_rows(lists, 5)
    assert sum(row["queries"] for row in rows) == kept.sum()
    assert [r["queries"] for r in rows] == sorted((r["queries"] for r in rows), reverse=True)
    for row in rows:
        own = lists.label_Q == NAMES.index(row["name"])
        assert row["precision@5"] == pytest.approx(retrieval.precision(whole, 5)[own].mean())


def test_confusion_counts_the_first_results_and_folds_small_classes():
    lists = ListsByValue(NAMES, np.array([0, 0, 1, 2]), np.array([[0, 1], [2, -1], [1, 1], [0, 0]]),
                         np.array([1, 1, 2, 1]), np.full(4, 9))  # fmt: skip
    names, rows = confusion(lists, 2, most=2)
    assert names == ["hat", "coat", "other"]
    assert [row["name"] for row in rows] == ["hat", "coat"]
    assert rows[0]["shares"] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=1e-4)  # what has no value is not counted
    assert rows[1]["shares"] == [0, 1, 0]


def test_nothing_judged_gives_nothing():
    lists = ListsByValue(NAMES, np.array([-1, 0]), np.array([[0], [-1]]), np.array([0, 0]), np.array([3, 3]))
    assert metric_rows(lists, [1], SETTINGS) == [] == class_rows(lists, 1)
    assert curve_points(lists, "hit_rate") == ([], None) and np.isnan(quality(lists)).all()
    assert confusion(lists, 1, 5) == (["other"], [])


def test_a_list_that_ends_early_or_a_gallery_that_shrank_ends_no_report():
    lists = ListsByValue(NAMES, np.array([0]), np.array([[0, 0, -1]]), np.array([1]), np.array([5]))
    row = {r["name"]: r for r in metric_rows(lists, [3], SETTINGS)}
    assert row["recall@3"]["value"] == 1 and row["precision@3"]["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["hit_rate", "recall", "precision", "map", "map_capped", "ndcg"])
def test_chance_at_one_k_is_the_same_as_with_all_others(name):
    relevant, gallery = [1, 3, 3, 0], [4, 9, 9, 5]
    assert (
        chance_at_k(name, relevant, gallery, 3).tolist() == chance_levels(relevant, gallery, [3])[f"{name}@3"].tolist()
    )
