"""Rows of one byte a number: the same ids and scores as TopK for every kind of data, mask and K; the bound holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.index import TopK, exact_scores, int8, int8_product
from aistudio.index.int8 import Int8Sieve, Wanted, quantised


def rows_of(kind, num, dim, rng):
    if kind == "clusters":
        centres = rng.standard_normal((max(1, num // 50), dim))
        rows = centres[rng.integers(0, len(centres), num)] + 0.05 * rng.standard_normal((num, dim))
    elif kind == "few values":
        rows = rng.integers(-1, 2, (num, dim)).astype(float)
    elif kind == "equal":
        rows = np.repeat(rng.standard_normal((1, dim)), num, axis=0)
    elif kind == "one large number":
        rows = 1e-3 * rng.standard_normal((num, dim))
        rows[np.arange(num), rng.integers(0, dim, num)] = 1
    else:
        rows = rng.standard_normal((num, dim))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


KINDS = ("random", "clusters", "few values", "equal", "one large number")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(1, 3_000), st.sampled_from([1, 2, 15, 16, 33, 512, 1_100]),
    st.sampled_from([1, 3, 50, 700]), st.sampled_from([None, 0.001, 0.5, 0.99]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_same_answer_as_topk(kind, num, dim, k, share, seed):
    rng = np.random.default_rng(seed)
    rows = rows_of(kind, num, dim, rng)
    queries = np.concatenate([rows[:1], rows_of("random", 2, dim, rng)])
    mask = None if share is None else rng.random(num) < share
    skip = rng.integers(0, num, 5) if seed % 2 else None
    eligible = np.ones(num, bool) if mask is None else mask.copy()
    eligible[[] if skip is None else skip] = False
    best = TopK(k, queries)
    best.update(rows[eligible], np.flatnonzero(eligible))
    sieve = Int8Sieve(quantised(rows), rows)
    found = sieve.top([Wanted(q, k, mask, skip) for q in queries])
    for (scores, ids), wanted_scores, wanted_ids in zip(found, *best.result(), strict=True):
        assert (ids == wanted_ids).all()
        assert (scores == wanted_scores).all()
    ceiling = float(np.median(exact_scores(queries[:1], rows, np.zeros(num, int), np.arange(num))))
    near = sieve.above(Wanted(queries[0], 1, mask, skip), ceiling)
    true = exact_scores(queries[:1], rows, np.zeros(num, int), np.arange(num))
    assert near.tolist() == np.flatnonzero(eligible & (true > ceiling)).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_row_is_a_bound(kind):
    rows = rows_of(kind, 500, 77, np.random.default_rng(1))
    held = quantised(rows)
    exact = rows.astype(float) - held.codes_NP[:, :77] * held.step_N[:, None].astype(float)
    assert (np.linalg.norm(exact, axis=1) <= held.error_N).all()
    assert not held.codes_NP[:, 77:].any()


def test_several_tiles_and_more_queries_than_one_product_takes(monkeypatch):
    monkeypatch.setattr(int8, "TILE_ROWS", 128)
    rows = rows_of("clusters", 2_500, 24, np.random.default_rng(2))
    queries = rows[:37]
    best = TopK(60, queries)
    best.update(rows, np.arange(len(rows)))
    found = Int8Sieve(quantised(rows), rows).top([Wanted(q, 60) for q in queries])
    assert (np.stack([ids for _, ids in found]) == best.result()[1]).all()
    assert (np.stack([scores for scores, _ in found]) == best.result()[0]).all()


@pytest.mark.parametrize("width", [16, 512, 1_008, 1_504])
def test_every_way_of_the_product_is_exact(width):
    import torch

    rng = np.random.default_rng(5)
    for num in (1, 3, 63, 64, 200):
        rows, queries = (torch.from_numpy(rng.integers(-127, 128, (n, width), dtype=np.int8)) for n in (num, 2))
        wanted = queries.int() @ rows.int().T
        for way in int8_product.ways(torch, width)[-1 if num < 2 else 0 :]:
            assert torch.equal(way(rows)(queries).int(), wanted), (way.__name__, num)


@pytest.mark.parametrize("width", [40, 1_500])
def test_a_processor_that_cuts_products_is_noticed(width, monkeypatch):
    """Where torch's products of bytes are wrong or missing, float32 does it, and the answer stays."""
    import torch

    def cut(a, b):
        return (a.int() @ b.int()).clamp(-30_000, 30_000)

    monkeypatch.setattr(torch, "_int_mm", cut)
    right = int8_product.ways
    monkeypatch.setattr(
        int8_product, "ways",
        lambda *a: [lambda rows: lambda q: cut(q, rows.T).float(), lambda rows: torch.ops.onednn.gone, *right(*a)[-2:]],
    )  # fmt: skip
    assert int8_product.quickest(torch, width).__name__ == "by_floats"
    rows = rows_of("random", 900, width, np.random.default_rng(3))
    best = TopK(10, rows[:2])
    best.update(rows, np.arange(len(rows)))
    found = Int8Sieve(quantised(rows), rows).top([Wanted(q, 10) for q in rows[:2]])
    assert (np.stack([ids for _, ids in found]) == best.result()[1]).all()


def test_no_rows_and_rows_of_zeros():
    nothing = Int8Sieve(quantised(np.zeros((0, 8), np.float32)), np.zeros((0, 8), np.float32))
    assert nothing.top([Wanted(np.ones(8, np.float32), 2)])[0][1].tolist() == [-1, -1]
    zeros = np.zeros((5, 8), np.float32)
    scores, ids = Int8Sieve(quantised(zeros), zeros).top([Wanted(np.ones(8, np.float32), 9)])[0]
    assert ids.tolist() == [0, 1, 2, 3, 4, -1, -1, -1, -1] and scores[:5].tolist() == [0] * 5
