"""The best rows by cosine against NumPy, and rows that are not finite."""

import numpy as np
import pytest

from aistudio.index import cosine_top

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("k", [1, 7, 40, 99])
def test_as_numpy_ranks_them(k: int) -> None:
    queries, gallery = 3 * RNG.standard_normal((11, 16)), RNG.standard_normal((40, 16)) * RNG.uniform(0.1, 9, (40, 1))
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    ).T
    scores, rows = cosine_top(queries, gallery, k)
    assert rows.tolist() == np.argsort(-cosines, axis=1)[:, :k].tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, rows, axis=1), atol=1e-6)


def test_equal_rows_come_in_their_order_and_zeros_have_cosine_zero() -> None:
    gallery = np.array([[0.0, 0], [2, 0], [1, 0], [-1, 0]])
    scores, rows = cosine_top(np.array([[5.0, 0]]), gallery, 4)
    assert rows.tolist() == [[1, 2, 0, 3]] and scores.tolist() == [[1, 1, 0, -1]]


def test_rows_that_are_not_finite_find_nothing_and_are_not_found() -> None:
    queries, gallery = RNG.standard_normal((3, 4)), RNG.standard_normal((5, 4))
    queries[1, 2], gallery[3, 0] = np.nan, np.inf
    scores, rows = cosine_top(queries, gallery, 5)
    assert rows[1].tolist() == [-1] * 5 and np.isneginf(scores[1]).all()
    for own in (0, 2):
        assert sorted(rows[own].tolist()) == [-1, 0, 1, 2, 4]


def test_empty_sides() -> None:
    assert cosine_top(np.empty((0, 4)), RNG.standard_normal((5, 4)), 3)[1].shape == (0, 3)
    assert cosine_top(RNG.standard_normal((2, 4)), np.empty((0, 4)), 3)[1].shape == (2, 0)
