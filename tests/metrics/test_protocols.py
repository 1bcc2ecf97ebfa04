"""aistudio/metrics/protocols.py: item level, junk, macro and per class, against loops."""

import math

import numpy as np
import pytest

from aistudio.metrics import protocols
from aistudio.metrics.relevant import relevant


def test_item_level_equals_a_loop_over_items():
    rng = np.random.default_rng(3)
    item = np.concatenate([np.arange(12), rng.integers(0, 12, 30)])
    rng.shuffle(item)
    vectors, category = rng.normal(size=(42, 6)), rng.integers(0, 4, 12)
    queries = [int(np.flatnonzero(item == i)[-1]) for i in range(12)]
    found, ranked = protocols.item_level(vectors, item, category, queries, "euclidean")
    for row, own, got in zip(queries, range(12), ranked, strict=True):
        distance = {
            other: min(math.dist(vectors[row], vectors[g]) for g in np.flatnonzero(item == other))
            for other in range(12)
            if other != own
        }
        assert got.tolist() == sorted(distance, key=distance.__getitem__)
        assert own not in got
    want = [
        [place for place, other in enumerate(rows, 1) if category[other] == category[own]]
        for own, rows in enumerate(ranked)
    ]
    assert [found.rank_P[found.query_P == q].tolist() for q in range(12)] == want


def test_junk_is_neither_relevant_nor_wrong():
    query, gallery = [[1.0, 0.0]], [[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]]
    with_junk, _ = protocols.image_level(query, gallery, ["a"], ["a", "b", "a", "a"], drop=[[0, 1]])
    assert with_junk.rank_P.tolist() == [1, 2]


def test_micro_macro_and_classes():
    items = relevant([0, 1, 2, 4], [1, 2, 4, 1], num_queries=5)
    label = np.array([7, 7, 7, 9, 9])  # query 3 has nothing relevant
    micro, macro = protocols.evaluate(items, [1]), protocols.evaluate(items, [1], label)
    classes = protocols.by_class(items, [1], label)
    assert micro["map"] == pytest.approx((1 + 0.5 + 0.25 + 1) / 4) and micro["num_queries"] == 4
    assert classes[7]["map"] == pytest.approx(1.75 / 3) and classes[7]["num_queries"] == 3
    assert classes[9] == {**classes[9], "map": 1.0, "num_queries": 1}
    assert macro["map"] == pytest.approx((1.75 / 3 + 1) / 2)


def test_a_class_without_a_judged_query_is_no_class():
    items = relevant([0], [1], num_queries=2)
    assert list(protocols.by_class(items, [1], ["a", "b"])) == ["a"]
    assert protocols.evaluate(items, [1], ["a", "b"])["map"] == 1.0


def test_nothing_relevant_anywhere_is_nan():
    found = protocols.evaluate(relevant([], [], 2), [1], [0, 1])
    assert math.isnan(found["map"]) and found["num_queries"] == 0
    assert np.isnan(protocols.hits_curve(relevant([], [], 2), 3)).all()


def test_hits_curve_is_found_over_the_last_k():
    items = relevant([0, 0, 1, 1], [1, 9, 2, 3], num_queries=3)
    assert protocols.hits_curve(items, 3).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
