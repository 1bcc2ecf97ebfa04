"""Drift and flips between the scores of fast settings and exact ones, against a naive count."""

import numpy as np
import pandas as pd
import pytest

from aistudio.evaluation.fidelity import Fidelity, compare_scores


def rows(scores, status="ok", items=None, **columns) -> pd.DataFrame:
    n = len(scores)
    data = {"row_id": [f"r{i}" for i in range(n)], "item_id": items or ["a"] * n, "status": status}
    return pd.DataFrame(data | {"recall_score": np.asarray(scores, np.float32)} | columns)


def only(found: Fidelity):
    (change,) = found.changes
    return change


def test_equal_scores_do_not_drift():
    found = compare_scores(rows([0.1, 0.5, 0.3]), rows([0.1, 0.5, 0.3]))
    change = only(found)
    assert found.drift == 0 and (change.mean, change.p99, change.largest) == (0, 0, 0)
    assert (change.pairs, change.flipped, change.items, change.best_changed) == (3, 0, 1, 0)


def test_flips_and_changed_best_images_against_a_naive_count():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=60).round(1)  # ties
    fast = exact + rng.normal(scale=0.2, size=60)
    items = [f"i{i}" for i in rng.integers(0, 25, 60)]
    change = only(compare_scores(rows(fast, items=items), rows(exact, items=items)))
    old, new = rows(exact)["recall_score"].to_numpy(), rows(fast)["recall_score"].to_numpy()
    pairs = [(i, j) for i in range(60) for j in range(i) if old[i] != old[j]]
    flipped = [(i, j) for i, j in pairs if (new[i] > new[j]) != (old[i] > old[j])]
    assert (change.pairs, change.flipped) == (len(pairs), len(flipped)) and flipped
    groups = [[k for k in range(60) if items[k] == item] for item in set(items)]
    assert change.items == sum(len(g) > 1 for g in groups)
    assert change.best_changed == sum(max(g, key=lambda k: new[k]) != max(g, key=lambda k: old[k]) for g in groups)
    difference = np.abs(new.astype(float) - old)
    assert change.mean == pytest.approx(difference.mean()) and change.largest == pytest.approx(difference.max())
    assert change.drift == pytest.approx(np.quantile(difference, 0.99) / old.astype(float).std())


def test_rows_of_another_order_are_matched_and_failed_ones_counted():
    exact = rows([0.1, 0.2, 0.3, 0.4])
    fast = exact.copy().iloc[::-1].reset_index(drop=True)
    fast.loc[fast["row_id"] == "r2", ["status", "recall_score"]] = ["decode_error", None]
    exact.loc[exact["row_id"] == "r0", "status"] = "model_error"
    found = compare_scores(fast, exact)
    assert (found.num_rows, found.only_exact, found.only_fast, found.drift) == (2, 1, 1, 0)


def test_vectors_are_compared_by_their_distance_and_other_columns_are_left_alone():
    exact = rows([0.5, 0.5], embedding=[np.array([3.0, 4.0]), np.array([0.0, 1.0])], note=["x", "y"])
    fast = rows([0.5, 0.5], embedding=[np.array([3.0, 4.5]), np.array([0.0, 1.0])], note=["z", "y"])
    scores, vectors = compare_scores(fast, exact).changes
    assert (scores.column, vectors.column) == ("recall_score", "embedding")
    assert vectors.mean == pytest.approx(0.05) and vectors.largest == pytest.approx(0.1)


def test_nothing_to_compare_is_no_drift_and_equal_scores_that_move_are_without_measure():
    none = rows([0.1, 0.2], status="http_error")
    assert compare_scores(none, none).changes == () and compare_scores(none, none).drift == 0
    assert compare_scores(rows([0.1, 0.2]), rows([0.1, 0.1])).drift == np.inf
    assert compare_scores(rows([]), rows([])).num_rows == 0
