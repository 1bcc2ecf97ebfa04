"""When a run knows that too many rows fail: never by chance, soon when it is plain, whatever the manifest's order.

At version 8b17918 a run of which half was `blocked_address` ended with exit code 0 after the last row.
"""

import random

import pytest

from aistudio.runs.failing import DRAWN, FEWEST, FailureWatch, drawn_first, failed_share, too_many


def looks(shares, limit, rows=100):
    """After how many shards the watch is sure; None: never."""
    names = [str(i) for i in range(len(shares))]
    watch = FailureWatch(limit, names)
    for n, (name, share) in enumerate(zip(names, shares, strict=True), 1):
        bad = round(share * rows)
        if watch.add(name, {"ok": rows - bad, "timeout": bad, "model_s": 3.0}):
            return n
    return None


@pytest.mark.parametrize(("limit", "after"), [(0.25, FEWEST), (0.5, 10), (0.0, FEWEST), (0.9, None)])
def test_a_wrong_host_is_plain_after_a_few_shards(limit, after):
    found = looks([1.0] * DRAWN, limit)
    assert found == after if after != 10 else FEWEST < found <= 20


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_a_share_within_the_limit_never_stops(share):
    assert looks([share] * DRAWN, 0.25) is None


def test_half_is_more_than_a_quarter_but_takes_longer_to_know():
    found = looks([0.5] * DRAWN, 0.25)
    assert found is None or found > FEWEST
    assert looks([0.9] * DRAWN, 0.25) <= 10


def test_shards_that_fail_whole_are_seldom_taken_for_more_than_the_limit():
    """A quarter of the shards fails whole, the worst case of a true share at the limit: 1 % may be stopped."""
    rng = random.Random(0)
    stopped = sum(looks([float(rng.random() < 0.25) for _ in range(DRAWN)], 0.25) is not None for _ in range(2000))
    assert stopped <= 20


def test_without_a_limit_and_for_other_shards_nothing_is_said():
    assert looks([1.0] * DRAWN, None) is None
    watch = FailureWatch(0.25, ["a"])
    assert not any(watch.add(f"b{i}", {"timeout": 10}) for i in range(50))


def test_shards_are_drawn_from_everywhere():
    work = [f"{i:05d}" for i in range(1000)]
    drawn = drawn_first(work, "f")
    assert len(drawn) == len(set(drawn)) == DRAWN and drawn == drawn_first(work, "f") != drawn_first(work, "g")
    assert min(map(int, drawn)) < 200 and max(map(int, drawn)) > 800
    assert drawn_first(work[:5], "f") == [] and len(drawn_first(work[:20], "f")) == 10


def test_the_message_says_what_was_seen():
    watch = FailureWatch(0.25, ["a", "b"])
    watch.add("a", {"blocked_address": 90, "ok": 10})
    watch.add("b", {"blocked_address": 95, "timeout": 5})
    text = watch.message(400)
    for part in ("95% of 200 rows", "blocked_address 185, timeout 5", "2 shards drawn at random from 400", "0.25"):
        assert part in text, text


def test_the_share_at_the_end():
    assert failed_share({"ok": 49, "blocked_address": 51}) == pytest.approx(0.51) and failed_share({}) == 0.0
    assert too_many({"ok": 49, "blocked_address": 51}, 0.5) and not too_many({"ok": 3, "timeout": 1}, 0.25)
    assert not too_many({"timeout": 5}, None)
