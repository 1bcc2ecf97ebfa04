"""Composed retrieval's recalls against twins that rank and count one query at a time."""

import math

import numpy as np
import pytest

from aistudio.metrics import composed
from aistudio.metrics.composed import Protocol

RNG = np.random.default_rng(11)


def ranked(num_queries: int, num_rows: int, listed: int) -> np.ndarray:
    return np.stack([RNG.permutation(num_rows)[:listed] for _ in range(num_queries)]).reshape(num_queries, listed)


def test_without_rows_drops_one_row_and_keeps_the_order() -> None:
    lists = np.array([[3, 1, 2], [0, 1, 2], [5, 4, -1], [2, 1, 0]])
    found = composed.without_rows(lists, np.array([1, 7, -1, 2]))
    assert found.tolist() == [[3, 2], [0, 1], [5, 4], [1, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_distinct_keeps_the_first_of_each_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num, listed = int(rng.integers(1, 30)), int(rng.integers(1, 20))
    groups = rng.integers(0, 8, num)
    lists = np.full((4, listed), -1)
    for row in lists:
        some = rng.permutation(num)[:listed]
        row[: len(some)] = some
    found = composed.distinct(lists, groups)
    for before, after in zip(lists.tolist(), found.tolist(), strict=True):
        first: dict[int, int] = {}
        for row in before:
            if row >= 0:
                first.setdefault(int(groups[row]), row)
        assert after == [*first.values(), *[-1] * (listed - len(first))]


def test_first_hit_never_counts_the_end_of_a_list() -> None:
    lists = np.array([[2, 0, -1], [1, -1, -1], [-1, -1, -1]])
    labels, wanted = composed.numbered(["a", "b", "c"], ["a", "c", "c"])
    assert composed.first_hit(lists, labels, wanted).tolist() == [2, math.inf, math.inf]
    assert composed.first_hit(np.empty((2, 0), int), labels, wanted[:2]).tolist() == [math.inf, math.inf]
    assert composed.first_hit(np.empty((0, 3), int), labels, wanted[:0]).shape == (0,)


def test_by_caption_and_its_words() -> None:
    captions = [f"{a} {n}" for a in ("red", "old") for n in ("car", "tree", "cup")]
    targets = [captions[i] for i in RNG.integers(0, 6, 40)]
    lists = ranked(40, 6, 6)
    found = composed.by_caption(lists, captions, targets, [1, 3])
    for part, of in (("composition", str), ("adj", lambda c: c.split()[0]), ("noun", lambda c: c.split()[1])):
        for k in (1, 3):
            hits = [
                any(of(captions[row]) == of(t) for row in own[:k])
                for own, t in zip(lists.tolist(), targets, strict=True)
            ]
            assert found[part][k] == pytest.approx(np.mean(hits))
    assert list(composed.by_caption(lists, [*captions[:5], "three word caption"], targets, [1])) == ["composition"]


def test_by_id_counts_repeated_ids_once_and_long_lists_reach_every_k() -> None:
    ids = [f"i{i}" for i in RNG.integers(0, 60, 180)]
    assert composed.rows_needed(ids, [1, 50]) == 180
    assert composed.rows_needed([str(i) for i in range(500)], [1, 5, 200]) == 200
    assert composed.rows_needed([str(i) for i in range(500)], [1]) == 150
    targets = [ids[i] for i in RNG.integers(0, 180, 30)]
    categories = [("dress", "shirt")[i % 2] for i in range(30)]
    lists = ranked(30, 180, 180)
    found = composed.by_id(lists, ids, targets, categories, [1, 10, 50])
    for category in ("dress", "shirt"):
        for k in (1, 10, 50):
            hits = []
            for own, target, of in zip(lists.tolist(), targets, categories, strict=True):
                if of == category:
                    hits.append(target in list(dict.fromkeys(ids[row] for row in own))[:k])
            assert found[category][k] == pytest.approx(np.mean(hits))


def test_the_published_counter_is_kept_and_its_lists_are_cut() -> None:
    ids = [str(i) for i in range(120)]
    lists = np.tile(np.arange(120), (2, 1))
    targets = ["0", "79"]  # ranks 1 and 80
    assert composed.by_id(lists, ids, targets, ["c", "c"], [1, 10, 100])["c"] == {1: 0.5, 10: 0.5, 100: 1.0}
    published = composed.by_id(lists, ids, targets, ["c", "c"], [1, 10, 100], as_published=True)["c"]
    assert published == {1: 0.5, 10: (0.5 + 1) / 2, 100: (0.75 + 1) / 2}  # rank 80 is behind the cut at 50
    one = composed.accumulated(np.array([1.0]), [1, 5, 10])
    assert one == {1: 1.0, 5: 2.0, 10: 3.0}  # above 1: the flaw itself


def test_no_queries() -> None:
    assert math.isnan(composed.recall_at(np.empty(0), [1])[1])
    assert math.isnan(composed.accumulated(np.empty(0), [1])[1])
    assert composed.by_id(np.empty((0, 3), int), ["a"], [], [], [1]) == {}


def test_a_protocol_is_part_of_the_name() -> None:
    names = {
        Protocol(by, gallery, removed, text).prefix  # type: ignore[arg-type]
        for by in ("caption", "id")
        for gallery in ("pooled", "per_category")
        for removed in (True, False)
        for text in ("modification", "complete")
    }
    assert len(names) == 16 and all(name.endswith("/") for name in names)
