"""aistudio/metrics/retrieval.py against naive twins, ranx and the published recall script's numbers."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from aistudio.metrics import retrieval as r

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "public"
KS = [1, 2, 3, 5, 10, 40]


def random_case(seed):
    """Scores with ties, negatives, gaps; graded relevance; some queries without any relevant item."""
    rng = np.random.default_rng(seed)
    num, size = int(rng.integers(1, 6)), int(rng.integers(1, 25))
    scores = np.round(rng.normal(-0.3, 0.5, (num, size)), int(rng.integers(0, 3)))
    grades = rng.integers(0, 4, (num, size)) * (rng.random((num, size)) < rng.choice([0.0, 0.2, 0.6, 1.0]))
    if rng.random() < 0.3:
        grades[0] = 0
    return scores, grades


def items_of(scores, grades):
    rank = np.array([r.ranks(s) for s in scores])
    query, item = np.nonzero(grades > 0)
    shuffled = np.random.default_rng(0).permutation(len(query))
    query, item = query[shuffled], item[shuffled]
    return r.relevant(query, rank[query, item], len(scores), grades[query, item])


def naive_order(scores):
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def naive(name, k, scores, grades):
    """One query, by the textbook."""
    order = naive_order(scores)
    hits = [grades[i] > 0 for i in order]
    total = sum(hits)
    if total == 0:
        return 0.0
    if name == "hit_rate":
        return float(any(hits[:k]))
    if name == "recall":
        return sum(hits[:k]) / total
    if name == "precision":
        return sum(hits[:k]) / k
    if name == "r_precision":
        return sum(hits[:total]) / total
    if name == "mrr":
        return 1 / (hits.index(True) + 1)
    if name == "map":
        found = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits)) if hits[i] and i < (k or len(hits))]
        return sum(found) / total
    gains = [grades[i] for i in order]
    dcg = sum(g / math.log2(i + 2) for i, g in enumerate(gains[:k]))
    return dcg / sum(g / math.log2(i + 2) for i, g in enumerate(sorted(gains, reverse=True)[:k]))


@pytest.mark.parametrize("seed", range(60))
def test_every_metric_equals_its_naive_twin(seed):
    scores, grades = random_case(seed)
    got = r.per_query(items_of(scores, grades), KS)
    assert set(got) == {f"{m}@{k}" for m in ("hit_rate", "recall", "precision", "map", "ndcg", "cmc") for k in KS} | {
        "r_precision",
        "mrr",
        "map",
    }
    for name, values in got.items():
        metric, _, k = name.replace("cmc", "hit_rate").partition("@")
        want = [naive(metric, int(k) if k else None, s, g) for s, g in zip(scores, grades, strict=True)]
        np.testing.assert_allclose(values, want, rtol=0, atol=1e-12, err_msg=name)


@pytest.fixture
def ranx(monkeypatch):
    """It runs as plain Python: Numba takes a minute to compile what is asked of it here, and Python a second."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    return pytest.importorskip("ranx")


def test_agrees_with_ranx_on_200_random_runs(ranx):
    names = [f"{m}@{k}" for m in ("hit_rate", "recall", "precision", "map", "ndcg") for k in (1, 5, 40)]
    names += ["r-precision", "mrr", "map"]
    worst = 0.0
    for seed in range(1000, 1200):
        scores, grades = random_case(seed)
        keep = (grades > 0).any(axis=1)
        if not keep.any():
            continue
        scores, grades = scores[keep], grades[keep]
        ours = r.per_query(items_of(scores, grades), [1, 5, 40])
        # ranx leaves the order of equal scores open: it is given the order that our rule makes of them
        run = {f"q{q}": {f"d{i}": 1000.0 - p for p, i in enumerate(naive_order(s))} for q, s in enumerate(scores)}
        qrels = {f"q{q}": {f"d{i}": int(g[i]) for i in np.flatnonzero(g)} for q, g in enumerate(grades)}
        theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names, return_mean=False)
        for name in names:
            worst = max(worst, np.abs(ours[name.replace("-", "_")] - theirs[name]).max())
    assert worst < 1e-9


def test_ndcg_agrees_with_scikit_learn():
    from sklearn.metrics import ndcg_score

    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores, grades = rng.permutation(30)[None] - 20.0, rng.integers(0, 4, (1, 30))
        grades[0, 0] = 1
        for k in (1, 7, 30):
            want = ndcg_score(grades, scores, k=k)
            assert r.ndcg(items_of(scores, grades), k)[0] == pytest.approx(want, abs=1e-9)


def test_the_published_recall_scripts_numbers():
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden data at {GOLDEN}")
    by_poi = {}
    with (GOLDEN / "recall_scores.csv").open(encoding="utf-8") as f:
        for line in csv.reader(row for row in f if len(row) >= 3):
            by_poi.setdefault(line[0], []).append((float(line[3]), Path(line[2]).name.split("_")[0] == line[0]))
    query, rank = [], []
    for q, rows in enumerate(by_poi.values()):
        own = r.ranks([score for score, _ in rows])[[hit for _, hit in rows]]
        query += [q] * len(own)
        rank += own.tolist()
    items = r.relevant(query, rank, len(by_poi))
    expected = json.loads((GOLDEN / "expected.json").read_text())["recall"]
    assert expected
    for k, want in expected.items():
        hits = r.hit_rate(items, int(k))
        assert hits.mean() == want["recall"] and len(hits) == want["n_queries"]
        assert sorted(poi for poi, hit in zip(by_poi, hits, strict=True) if hit) == want["hits"]


def test_negative_scores_are_scores():
    items = items_of(np.array([[-0.9, -0.1, -0.5]]), np.array([[0, 1, 1]]))
    assert items.rank_P.tolist() == [1, 2]
    assert r.recall(items, 2)[0] == 1.0


def test_ties_go_to_the_earlier_row():
    assert r.ranks([0.5, 0.7, 0.5, 0.7]).tolist() == [3, 1, 4, 2]
    assert r.ranks([]).tolist() == []


def test_first_rank_and_cmc():
    items = r.relevant([0, 0, 2], [4, 2, 1], 3)
    assert r.first_rank(items).tolist() == [2, math.inf, 1]
    assert r.cmc(items, 5).tolist() == [0.5, 1, 1, 1, 1]
    assert np.isnan(r.cmc(r.relevant([], [], 2), 3)).all()


def test_no_queries_give_empty_columns():
    assert all(v.shape == (0,) for v in r.per_query(r.relevant([], [], 0), [5]).values())


def test_gains_of_zero_are_not_relevant():
    items = r.relevant([0, 0], [1, 2], 1, [0, 2])
    assert r.hit_rate(items, 1)[0] == 0
    assert items.num_Q.tolist() == [1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([0], [0], 1), "start at 1"),
        (([0, 0], [2, 2], 1), "same rank"),
        (([1], [1], 1), "outside"),
        (([0], [math.nan], 1), "NaN"),
        (([0], [1], 1, [math.nan]), "NaN"),
    ],
)
def test_wrong_input_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        r.relevant(*args)


def test_nan_scores_and_k_zero_are_refused():
    with pytest.raises(ValueError, match="1 of 2 are NaN"):
        r.ranks([1, math.nan])
    for metric in (r.hit_rate, r.recall, r.precision, r.average_precision, r.ndcg):
        with pytest.raises(ValueError, match="K must be 1 or more"):
            metric(r.relevant([0], [1], 1), 0)
