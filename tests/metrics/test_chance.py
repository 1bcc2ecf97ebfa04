"""aistudio/metrics/chance.py against the mean over every order of a small gallery."""

import itertools

import numpy as np
import pytest

from aistudio.metrics.chance import chance_levels, chance_map
from aistudio.metrics.relevant import relevant
from aistudio.metrics.retrieval import per_query_similar

KS = [1, 2, 3, 5, 9, 25]


@pytest.mark.parametrize(("r", "n"), [(1, 1), (1, 5), (2, 5), (3, 6), (6, 6), (4, 7), (1, 8), (0, 4)])
def test_every_metric_is_its_mean_over_all_orders(r, n):
    orders = list(itertools.combinations(range(1, n + 1), r))  # places of the relevant rows: all equally likely
    query = np.repeat(np.arange(len(orders)), r)
    values = per_query_similar(relevant(query, np.array(orders, int).ravel(), len(orders)), KS)
    got = chance_levels([r], [n], KS)
    assert set(got) == set(values)
    for name, value in values.items():
        assert got[name][0] == pytest.approx(value.mean(), abs=1e-12), name


def test_queries_of_unequal_sizes_keep_their_places():
    got = chance_levels([2, 1, 2], [5, 4, 5], [1])["map"]
    assert got.tolist() == [chance_map(2, 5), chance_map(1, 4), chance_map(2, 5)]
    assert chance_levels([], [], [1])["map"].tolist() == []


def test_more_relevant_than_there_are_is_refused():
    with pytest.raises(ValueError, match="more relevant"):
        chance_levels([3], [2], [1])
