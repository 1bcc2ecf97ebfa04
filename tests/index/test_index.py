"""aistudio/index/ against whole-matrix twins in float64: ties, blocking, partitions, bounds."""

import contextlib
import pickle

import numpy as np
import pytest

from aistudio.index import RankCounter, Sieve, TopK, exact_scores, product, ranks, sgemm_error, sieve


def unit(rng, n, d):
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive(queries, rows, ids):
    """Per query the ids in order, and the float64 scores, from the whole matrix."""
    scores = np.array([[np.vecdot(q.astype(float), x.astype(float)) for x in rows] for q in queries])
    return [[i for _, i in sorted(zip(-s, ids, strict=True))] for s in scores], scores


@pytest.fixture(params=["numpy", "torch"])
def device(request):
    return None if request.param == "numpy" else "cpu"


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(product, "TILE_ROWS", 7)
    monkeypatch.setattr(product, "DEVICE_TILE_ROWS", 16)
    monkeypatch.setattr(product, "TILE_QUERIES", 3)


def gallery(seed):
    """Vectors with exact duplicates, negatives, zero rows and a near duplicate in the last bit."""
    rng = np.random.default_rng(seed)
    rows = unit(rng, 60, 24)
    rows[17] = rows[3]
    rows[40:50] = rows[5]
    rows[55] = 0
    rows[59] = rows[3]
    rows[59, 0] = np.nextafter(rows[59, 0], np.float32(2))
    queries = np.concatenate([unit(rng, 6, 24), rows[[3, 5]]])
    return queries, rows, np.arange(60) * 3 + 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 4, 12, 100])
def test_topk_equals_the_whole_matrix(seed, k, device):
    queries, rows, ids = gallery(seed)
    want, scores = naive(queries, rows, ids)
    top = TopK(k, queries, Sieve(queries, device))
    for start in range(0, 60, 13):
        top.update(rows[start : start + 13], ids[start : start + 13])
    got_scores, got_ids = top.result()
    num = min(k, 60)
    assert got_ids[:, :num].tolist() == [w[:num] for w in want]
    assert (got_ids[:, num:] == -1).all() and np.isneginf(got_scores[:, num:]).all()
    expected = np.take_along_axis(scores, (got_ids[:, :num] - 1) // 3, axis=1)
    np.testing.assert_allclose(got_scores[:, :num], expected, rtol=0, atol=1e-15)


def test_blocking_partitioning_and_order_change_nothing():
    queries, rows, ids = gallery(9)
    whole = TopK(10, queries)
    whole.update(rows, ids)
    scores, best = whole.result()
    for cuts in ([20, 40], [1, 2, 3], [59], [30, 31, 32, 45]):
        parts = []
        for piece in np.split(np.arange(60), cuts):
            part = TopK(10, queries)
            part.update(rows[piece], ids[piece])
            parts.append(part)
        merged = parts.pop()
        for part in reversed(parts):
            merged.merge(part)
        assert np.array_equal(merged.result()[1], best)
        assert np.array_equal(merged.result()[0], scores), "to the last bit"


def test_duplicates_in_different_blocks_tie_exactly_and_go_by_id():
    rng = np.random.default_rng(0)
    rows = unit(rng, 5000, 512)
    copies = [11, 700, 2048, 4095, 4999]
    rows[copies] = rows[11]
    queries = unit(rng, 3, 512)
    queries[0] = rows[11]
    top = TopK(6, queries)
    for piece in np.array_split(np.arange(5000), 7):
        top.update(rows[piece], piece)
    scores, ids = top.result()
    assert ids[0, :5].tolist() == copies
    assert len(set(scores[0, :5])) == 1


def test_exact_scores_do_not_depend_on_where_a_row_lies():
    rng = np.random.default_rng(1)
    queries, rows = unit(rng, 40, 513), unit(rng, 300, 513)
    query, row = rng.integers(0, 40, 2500), rng.integers(0, 300, 2500)
    together = exact_scores(queries, rows, query, row)
    alone = [
        exact_scores(queries[q : q + 1], rows[r : r + 1].copy(), *np.zeros((2, 1), int))[0]
        for q, r in zip(query, row, strict=True)
    ]
    assert together.tolist() == alone
    assert exact_scores(queries, rows, query[:0], row[:0]).shape == (0,)


def test_the_sieve_error_bounds_the_float32_product():
    rng = np.random.default_rng(2)
    a, b = np.abs(unit(rng, 200, 700)), np.abs(unit(rng, 500, 700))  # all of one sign: the worst rounding
    off = np.abs((a @ b.T).astype(float) - a.astype(float) @ b.T.astype(float)).max()
    assert off < sgemm_error(700)


@pytest.mark.parametrize("seed", range(6))
def test_ranks_equal_the_whole_matrix(seed, device):
    queries, rows, ids = gallery(seed)
    rng = np.random.default_rng(seed + 100)
    order, scores = naive(queries, rows, ids)
    pairs = [(q, r) for q in range(len(queries)) if q != 2 for r in rng.choice(60, rng.integers(1, 9), replace=False)]
    pairs += [p for p in [(6, 3), (6, 17), (6, 59), (7, 45), (7, 49)] if p not in pairs]  # the tied ones
    query, row = np.array(rng.permutation(pairs)).T
    counters = []
    for piece in np.split(np.arange(60), [25, 41]):
        counter = RankCounter(len(queries), query, ids[row], scores[query, row])
        Sieve(queries, device).scan(rows[piece], ids[piece], [counter, TopK(3, queries)])
        counters.append(counter)
    for other in counters[1:]:
        counters[0].add(other.counts)
    assert counters[0].ranks().tolist() == [order[q].index(ids[r]) + 1 for q, r in zip(query, row, strict=True)]


def test_a_part_travels_without_the_queries():
    queries, rows, ids = gallery(4)
    top = TopK(4, queries)
    top.update(rows, ids)
    again = pickle.loads(pickle.dumps(top))
    assert np.array_equal(again.result()[1], top.result()[1])
    with pytest.raises(ValueError, match="not updated"):
        again.update(rows, ids)


def test_rank_counter_without_pairs():
    queries, rows, ids = gallery(0)
    counter = RankCounter(len(queries), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    Sieve(queries).scan(rows, ids, [counter])
    assert counter.ranks().shape == (0,)


def test_a_gallery_sorted_towards_the_query_needs_no_more_room():
    rng = np.random.default_rng(3)
    query = unit(rng, 1, 8)
    rows = unit(rng, 3000, 8)
    rows = rows[np.argsort(rows @ query[0])]
    top = TopK(5, query)
    places = top._scores_QC.shape
    for start in range(0, 3000, 100):
        top.update(rows[start : start + 100], np.arange(start, start + 100))
    assert top._scores_QC.shape == places
    assert top.result()[1][0].tolist() == [2999, 2998, 2997, 2996, 2995]


@pytest.mark.parametrize("tile_rows", [7, 200, 1024])
def test_more_equal_rows_than_there_is_room_for(monkeypatch, tile_rows, device):
    """A placeholder image that hundreds of items share is the best of a query: only ids tell its copies apart."""
    monkeypatch.setattr(product, "TILE_ROWS", tile_rows)
    monkeypatch.setattr(product, "DEVICE_TILE_ROWS", tile_rows)
    rng = np.random.default_rng(12)
    rows = unit(rng, 900, 16)
    rows[rng.permutation(900)[:500]] = rows[0]
    queries, ids = np.concatenate([rows[[0]], unit(rng, 3, 16)]), rng.permutation(900)  # ids against the rows' order
    want, scores = naive(queries, rows, ids)
    for k in (1, 3, 40):
        top = TopK(k, queries, Sieve(queries, device))
        for start in (0, 450):
            top.update(rows[start : start + 450], ids[start : start + 450])
        assert top.result()[1].tolist() == [w[:k] for w in want]
        place = np.argsort(ids)
        assert np.array_equal(top.result()[0], np.take_along_axis(scores, place[top.result()[1]], axis=1))


@pytest.mark.parametrize("copies", [0, 600])
def test_dense_and_sparse_survivors_are_found_alike(monkeypatch, copies):
    """Thresholds that nearly all pass, and that few pass: both ways through a tile, its last rows filled up or not."""
    monkeypatch.setattr(product, "TILE_ROWS", 300)
    rng = np.random.default_rng(13)
    rows, queries = unit(rng, 901, 16), unit(rng, 5, 16)
    rows[:copies] = rows[copies]
    order, scores = naive(queries, rows, np.arange(901))
    place = [[3, 440], [0, 1], [900], [450], [700]]
    query = np.repeat(np.arange(5), [len(p) for p in place])
    ids = np.array([order[q][r] for q, ranks_q in enumerate(place) for r in ranks_q])
    counter = RankCounter(5, query, ids, scores[query, ids])
    Sieve(queries).scan(rows, np.arange(901), [counter])
    assert (counter.ranks() - 1).tolist() == [r for ranks_q in place for r in ranks_q]


@pytest.mark.parametrize(("tile_queries", "part_queries"), [(3, 1), (64, 128), (5, 2)])
def test_threads_and_parts_of_the_queries_change_nothing(monkeypatch, tile_queries, part_queries):
    queries, rows, ids = gallery(5)
    want, scores = naive(queries, rows, ids)
    query, row = np.divmod(np.arange(8 * 60), 60)
    monkeypatch.setattr(product, "TILE_QUERIES", tile_queries)
    monkeypatch.setattr(sieve, "PART_QUERIES", part_queries)
    for num_threads in (1, 2, 5):
        one = Sieve(queries)
        monkeypatch.setattr(one._product, "threads", lambda n=num_threads: contextlib.nullcontext(n))
        top, counter = TopK(9, queries), RankCounter(8, query, ids[row], scores[query, row])
        for part in (slice(0, 31), slice(31, 60)):
            one.scan(rows[part], ids[part], [top, counter])
        assert top.result()[1].tolist() == [w[:9] for w in want]
        assert counter.ranks().tolist() == [want[q].index(ids[r]) + 1 for q, r in zip(query, row, strict=True)]


def test_empty_gallery_and_no_queries():
    queries, rows, ids = gallery(0)
    top = TopK(2, queries)
    top.update(rows[:0], ids[:0])
    assert (top.result()[1] == -1).all()
    none = TopK(2, queries[:0])
    none.update(rows, ids)
    assert none.result()[1].shape == (0, 2)


def test_wrong_input_is_refused():
    queries, rows, ids = gallery(0)
    rows = rows.copy()
    rows[4, 2] = np.nan
    with pytest.raises(ValueError, match="row 4 holds NaN"):
        TopK(2, queries).update(rows, ids)
    with pytest.raises(ValueError, match="gallery has 23 dimensions, queries 24"):
        TopK(2, queries).update(rows[:4, :23], ids[:4])
    with pytest.raises(ValueError, match="3 ids for 4 rows"):
        TopK(2, queries).update(rows[:4], ids[:3])
    with pytest.raises(ValueError, match="k must be"):
        TopK(0, queries)
    with pytest.raises(ValueError, match="shape"):
        TopK(1, rows[0]).update(rows[:2], ids[:2])


def test_half_precision_rows_are_taken():
    queries, rows, ids = gallery(1)
    half = rows.astype(np.float16)
    a, b = TopK(5, queries), TopK(5, queries)
    a.update(half, ids)
    b.update(half.astype(np.float32), ids)
    assert np.array_equal(a.result()[1], b.result()[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 5, 70])
def test_skipped_pairs_are_in_no_ones_gallery(seed, k, device):
    queries, rows, ids = gallery(seed)
    rng = np.random.default_rng(seed)
    gone = {(int(q), int(r)) for q, r in zip(rng.integers(0, 8, 90), rng.integers(0, 60, 90), strict=True)}
    gone |= {(6, 3), (6, 17), (7, 5), (2, 55)} | {(4, r) for r in range(60)}  # query 4 has nothing left
    order, scores = naive(queries, rows, ids)
    order = [[i for i in found if (q, (i - 1) // 3) not in gone] for q, found in enumerate(order)]
    pairs = [(q, r) for q in range(8) for r in rng.choice(60, 6, replace=False) if (q, r) not in gone]
    query, row = np.array(pairs).T
    top, counter, both = TopK(k, queries), RankCounter(8, query, ids[row], scores[query, row]), Sieve(queries, device)
    for start in (0, 25, 41):
        stop = min(60, {0: 25, 25: 41, 41: 60}[start])
        skip = np.array([(q, r - start) for q, r in sorted(gone) if start <= r < stop]).T
        both.scan(rows[start:stop], ids[start:stop], [top, counter], tuple(skip))
    assert [[i for i in found if i >= 0] for found in top.result()[1].tolist()] == [o[:k] for o in order]
    assert counter.ranks().tolist() == [order[q].index(ids[r]) + 1 for q, r in pairs]


def test_ranks_do_not_depend_on_how_many_unsure_rows_are_compared_at_once(monkeypatch):
    rng = np.random.default_rng(8)
    rows = unit(rng, 50, 12)
    rows[10:40] = rows[10]  # thirty equal ones, all relevant
    queries, ids = np.concatenate([rows[[10]], unit(rng, 2, 12)]), np.arange(50)
    order, scores = naive(queries, rows, ids)
    query, row = np.divmod(np.arange(150), 50)
    for at_once in (1, 7, 10**6):
        monkeypatch.setattr(ranks, "UNSURE_AT_ONCE", at_once)
        counter = RankCounter(3, query, ids[row], scores[query, row])
        Sieve(queries).scan(rows, ids, [counter])
        assert counter.ranks().tolist() == [order[q].index(r) + 1 for q, r in zip(query, row, strict=True)]


@pytest.mark.parametrize("size", [1e-6, 1.0, 3e4])
def test_vectors_need_not_be_of_length_one(size):
    rng = np.random.default_rng(11)
    queries, rows, ids = unit(rng, 5, 24) * np.float32(size), unit(rng, 60, 24) * np.float32(size), np.arange(60)
    rows[20:30] *= np.float32(0.5)
    order, scores = naive(queries, rows, ids)
    query, row = np.repeat(np.arange(5), 20), np.tile(np.arange(0, 60, 3), 5)
    counter, top = RankCounter(5, query, ids[row], scores[query, row]), TopK(7, queries)
    Sieve(queries).scan(rows, ids, [counter, top])
    assert top.result()[1].tolist() == [o[:7] for o in order]
    assert counter.ranks().tolist() == [order[q].index(r) + 1 for q, r in zip(query, row, strict=True)]
