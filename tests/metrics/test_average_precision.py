"""The six average precisions, the capped precision and the fixed "recall" against the formulas, written as loops."""

import doctest
import importlib

import numpy as np
import pytest

from aistudio.metrics import retrieval as r

KS = [1, 2, 3, 5, 10, 40]
MODULES = ["average_precision", "chance", "protocols", "ranking", "relevant", "retrieval"]


def naive(name, k, hits):
    """One query's value from its list of relevance by place, by the textbook."""
    total = sum(hits)
    if total == 0:
        return 0.0
    precision_at = [sum(hits[:j]) / j for j in range(1, len(hits) + 1)]
    upto = sum(p for p, hit in zip(precision_at[:k], hits[:k], strict=True) if hit)
    found = sum(hits[:k])
    if name == "map_capped":
        return upto / min(total, k)
    if name == "map_found":
        return upto / found if found else 0.0
    if name == "precision_capped":
        return found / min(total, k)
    if name == "hits":
        return found / 20
    if name == "map_at_r":
        return sum(p for p, hit in zip(precision_at[:total], hits[:total], strict=True) if hit) / total
    assert name == "map_trapezoid"
    area, place_of_hit = 0.0, [p for p, hit in enumerate(hits) if hit]
    for j, p in enumerate(place_of_hit):
        left = 1.0 if p == 0 else j / p
        area += (left + (j + 1) / (p + 1)) / 2
    return area / total


def random_hits(seed):
    rng = np.random.default_rng(seed)
    hits = (rng.random((int(rng.integers(1, 7)), int(rng.integers(1, 30)))) < rng.choice([0.05, 0.3, 0.9])).astype(int)
    if rng.random() < 0.3:
        hits[0] = 0
    return hits


@pytest.mark.parametrize("seed", range(60))
def test_equal_their_naive_twins(seed):
    hits = random_hits(seed)
    query, place = np.nonzero(hits)
    got = r.per_query_similar(r.relevant(query, place + 1, len(hits)), KS)
    names = ["map_at_r", "map_trapezoid"]
    names += [f"{m}@{k}" for m in ("map_capped", "map_found", "precision_capped") for k in KS]
    names += [f"hits@{k}/20" for k in KS if k <= 20]
    for name in names:
        metric, _, k = name.removesuffix("/20").partition("@")
        want = [naive(metric, int(k) if k else None, row.tolist()) for row in hits]
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-12, err_msg=name)
    assert set(got) == set(names) | set(r.per_query(r.relevant(query, place + 1, len(hits)), KS))


def test_found_is_generous_and_capped_can_be_reached():
    one_hit = r.relevant([0] * 4, [1, 21, 22, 23], 1)
    assert r.average_precision_found(one_hit, 20)[0] == 1.0
    assert r.average_precision(one_hit, 20)[0] == 0.25
    perfect = r.relevant([0] * 30, range(1, 31), 1)
    assert r.average_precision_capped(perfect, 20)[0] == 1.0 and r.average_precision(perfect, 20)[0] < 1


def test_no_query_and_nothing_relevant():
    for num in (0, 3):
        values = r.per_query_similar(r.relevant([], [], num), [5])
        assert all(v.tolist() == [0.0] * num for v in values.values())


@pytest.mark.parametrize("metric", [r.average_precision_capped, r.average_precision_found, r.precision_capped])
def test_k_zero_is_refused(metric):
    with pytest.raises(ValueError, match="K must be 1 or more"):
        metric(r.relevant([0], [1], 1), 0)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"aistudio.metrics.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0 and result.attempted > 0
