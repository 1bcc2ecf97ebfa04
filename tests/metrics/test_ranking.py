"""aistudio/metrics/ranking.py: order, exact ties, rows left out, items."""

import numpy as np
import pytest

from aistudio.metrics import ranking


def naive_order(query, gallery, drop, similarity):
    def score(g):
        if similarity == "euclidean":
            return -sum((a - b) ** 2 for a, b in zip(query, g, strict=True))
        norms = np.sqrt(sum(a * a for a in query)) * np.sqrt(sum(b * b for b in g))
        return sum(a * b for a, b in zip(query, g, strict=True)) / norms if norms else 0.0

    return [i for i in sorted(range(len(gallery)), key=lambda i: (-score(gallery[i]), i)) if i not in drop]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(15))
def test_order_equals_its_naive_twin(seed, similarity):
    rng = np.random.default_rng(seed)
    gallery = rng.normal(size=(int(rng.integers(1, 40)), 5))
    query = rng.normal(size=(4, 5))
    drop = [rng.choice(len(gallery), size=int(rng.integers(0, len(gallery))), replace=False) for _ in query]
    got = list(ranking.rankings(query, gallery, drop, similarity))
    for q, rows, left_out in zip(query, got, drop, strict=True):
        assert rows.tolist() == naive_order(q, gallery, set(left_out.tolist()), similarity)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("width", [3, 17, 128])
def test_copies_tie_exactly_wherever_they_stand(width, similarity):
    rng = np.random.default_rng(width)
    different = rng.normal(size=(7, width))
    which = rng.integers(0, 7, size=203)  # copies all over, also in the odd columns at the end of a product
    for rows in ranking.rankings(different, different[which], similarity=similarity):
        for copy in range(7):
            assert (np.diff(rows[which[rows] == copy]) > 0).all()  # in gallery order
            places = np.flatnonzero(which[rows] == copy)
            assert (np.diff(places) == 1).all()  # side by side


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(9, 4)), rng.normal(size=(30, 4))
    whole = [r.tolist() for r in ranking.rankings(query, gallery)]
    monkeypatch.setattr(ranking, "BLOCK_SCORES", 60)
    assert [r.tolist() for r in ranking.rankings(query, gallery)] == whole


def test_a_zero_vector_is_like_nothing():
    (rows,) = ranking.rankings([[0.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]])
    assert rows.tolist() == [0, 1]
    (rows,) = ranking.rankings([[1.0, 0.0]], [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert rows.tolist() == [2, 1, 0]


def test_empty_sides():
    assert list(ranking.rankings(np.empty((0, 3)), np.ones((2, 3)))) == []
    assert [r.tolist() for r in ranking.rankings(np.ones((1, 3)), np.empty((0, 3)))] == [[]]


@pytest.mark.parametrize(
    ("query", "gallery", "drop", "message"),
    [
        ([[1.0, np.nan]], [[1.0, 0.0]], None, "query vectors are not finite, the first is row 0"),
        ([[1.0, 0.0]], [[1.0, 0.0], [np.inf, 0.0]], None, "gallery vectors are not finite, the first is row 1"),
        ([[1.0, 0.0]], [[1.0]], None, "2 wide, the gallery 1"),
        ([[1.0]], [[1.0]], [[], []], "2 lists for 1 queries"),
        ([[1.0]], [[1.0]], [[1]], "outside the gallery"),
        ([1.0], [[1.0]], None, "shape"),
    ],
)
def test_wrong_input_is_refused(query, gallery, drop, message):
    with pytest.raises(ValueError, match=message):
        list(ranking.rankings(query, gallery, drop))


def test_same_rows_by_any_key():
    keys = np.array(["b", "a", "b", "c"])
    assert [r.tolist() for r in ranking.same_rows(np.array(["b", "zz", "c"]), keys)] == [[0, 2], [], [3]]


def test_collapse_keeps_each_items_best_image():
    items, won = ranking.collapse(np.array([4, 1, 0, 2]), np.array(["x", "y", "y", "z", "x"]))
    assert (items.tolist(), won.tolist()) == (["x", "y"], [4, 1])


def test_items_numbered_closely_collapse_as_any_others():
    rng = np.random.default_rng(0)
    rows, item = rng.permutation(200).astype(np.int64), rng.integers(0, 40, 200)
    for close, wide in zip(ranking.collapse(rows, item), ranking.collapse(rows, item * 10**12), strict=True):
        assert (close == wide).all() or (close * 10**12 == wide).all()
    firsts = dict.fromkeys(item[rows].tolist())
    assert ranking.collapse(rows, item)[0].tolist() == list(firsts)
