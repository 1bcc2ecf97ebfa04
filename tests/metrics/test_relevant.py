"""aistudio/metrics/relevant.py: ranks after the removal of ignored rows."""

import numpy as np
import pytest

from aistudio.metrics.relevant import without_ignored


@pytest.mark.parametrize("seed", range(20))
def test_ranks_without_ignored_rows_are_those_of_the_shorter_ranking(seed):
    rng = np.random.default_rng(seed)
    query, rank, want, ignored_query, ignored_rank = [], [], [], [], []
    for q in range(int(rng.integers(1, 5))):
        kind = rng.integers(0, 3, size=int(rng.integers(1, 15)))  # 0 wrong, 1 relevant, 2 ignored
        place = 0
        for j, k in enumerate(kind, start=1):
            place += k != 2
            if k == 1:
                query.append(q)
                rank.append(j)
                want.append(place)
            elif k == 2:
                ignored_query.append(q)
                ignored_rank.append(j)
    order = rng.permutation(len(query)).astype(int)
    shuffled = rng.permutation(len(ignored_query)).astype(int)
    got = without_ignored(
        np.array(query, int)[order], np.array(rank, int)[order],
        np.array(ignored_query, int)[shuffled], np.array(ignored_rank, int)[shuffled],
    )  # fmt: skip
    assert got.tolist() == np.array(want, int)[order].tolist()


def test_nothing_ignored_changes_nothing():
    assert without_ignored([0, 1], [3, 2], [], []).tolist() == [3, 2]
    assert without_ignored([], [], [0], [1]).tolist() == []


def test_a_row_cannot_be_both():
    with pytest.raises(ValueError, match="both ignored and counted"):
        without_ignored([0, 0], [3, 2], [0], [2])
