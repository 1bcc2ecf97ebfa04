"""Canaries: fixed inputs beside a shard's own, judged by plain float32's answers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from zipfile import BadZipFile

import numpy as np
import pytest

from aistudio.config import ImageSpec
from aistudio.schema import Reused
from aistudio.scoring.canaries import (
    NUM_PICTURES,
    Answers,
    Canaries,
    WrongNumbersError,
    answers_key,
    ask,
    packed,
    pictures,
    unpacked,
)
from aistudio.scoring.shard import ShardScorer, distinct_images
from tests.scoring.test_shard import Counted, FakeEncoders, image, known_of, of_base, rows_of

SPECS = (ImageSpec(size=8),)


def canaries(encoders=None, precision="float32") -> Canaries:
    encoders = encoders or FakeEncoders()
    right = ask(encoders, SPECS, encoders.towers.rank, recall=True)
    return Canaries(lambda: right, SPECS, precision)


def check(found, encoders, batch_size):
    """What a worker does before its first commit."""
    found.check(encoders, 0, batch_size, recall=True)


def score(encoders, canary, urls="abc"):
    rows = rows_of(list(urls))
    images = [image(i) for i in range(len(urls))]
    return ShardScorer(encoders, "float32", 2, canary).score(rows, distinct_images(rows), images, lambda counts: None)


def test_the_pictures_are_fixed_and_differ():
    drawn = pictures((ImageSpec(size=8), ImageSpec(size=9)))
    assert [[p.shape for p in picture] for picture in drawn] == [[(8, 8, 3), (9, 9, 3)]] * NUM_PICTURES
    assert len({p[0].tobytes() for p in drawn}) == NUM_PICTURES
    assert all((a[0] == b[0]).all() for a, b in zip(drawn, pictures((ImageSpec(size=8),)), strict=True))


def test_a_shard_with_a_canary_is_the_shard_without_one():
    with_one, texts, counts = score(FakeEncoders(), canaries().next())
    without, other_texts, other_counts = score(FakeEncoders(), None)
    assert with_one.equals(without) and texts.equals(other_texts)
    assert {k: v for k, v in counts.items() if k[-2:] != "_s"} == {
        k: v for k, v in other_counts.items() if k[-2:] != "_s"
    }


class Skewed(FakeEncoders):
    """One of its three models is wrong by a little."""

    def __init__(self, which: str):
        super().__init__()
        self.which = which

    def encode(self, pixels):
        return [v + (self.which == "image") * 0.01 * np.abs(v).max() for v in super().encode(pixels)]

    def texts(self, texts):
        return super().texts(texts) + np.float32(0.01 * (self.which == "text"))

    def rank(self, vectors, texts, poi_names):
        return super().rank(vectors, texts, poi_names) * (1 + 0.01 * (self.which == "ranking"))


@pytest.mark.parametrize("which", ["image", "text", "ranking"])
def test_each_model_that_is_wrong_is_noticed_before_and_with_a_shard(which):
    good = canaries()
    with pytest.raises(WrongNumbersError, match=which):
        check(good, Skewed(which), 4)
    with pytest.raises(WrongNumbersError, match=which):
        score(Skewed(which), good.next())
    for _ in range(NUM_PICTURES):
        score(Skewed("none"), good.next())
    check(good, Skewed("none"), 4)


ASKED_BY = {"nothing": (), "picture": ("image", "ranking"), "text": ("text", "ranking"), "score": ("ranking",)}


def score_with_a_base(new, encoders, canary):
    """Score three rows of which all is known but what is new in the second one; gives the scorer and the table."""
    rows = rows_of(list("abc"), ["x", "y", "z"])
    images = [image(1) if (n, new) == (1, "picture") else of_base(n, Reused.URL) for n in range(3)]
    ranked = {n: 3.0 + n for n in range(3) if (n, new) not in ((1, "text"), (1, "score"))}
    known = known_of(rows, ranked.items(), texts=["x", "z"] + ["y"] * (new != "text"))
    scorer = ShardScorer(encoders, "float32", 2, canary)
    return scorer, lambda: scorer.score(rows, distinct_images(rows), images, lambda counts: None, known)[0]


@pytest.mark.parametrize("which", ["image", "text", "ranking"])
@pytest.mark.parametrize("new", ASKED_BY)
def test_a_model_that_one_row_asks_is_judged_and_one_that_no_row_asks_is_not(new, which):
    scorer, table = score_with_a_base(new, Skewed(which), canaries().next())
    if which in ASKED_BY[new]:
        with pytest.raises(WrongNumbersError, match=which):
            table()
    else:
        assert table().equals(score_with_a_base(new, FakeEncoders(), None)[1]())
    assert scorer.asked == (new != "nothing")


@pytest.mark.parametrize(
    ("new", "calls"), [("nothing", (0, 0, 0)), ("picture", (2, 0, 2)), ("text", (0, 2, 2)), ("score", (0, 0, 2))]
)
def test_a_canary_goes_where_a_row_goes_and_nowhere_else(new, calls):
    encoders = Counted()
    score_with_a_base(new, encoders, canaries().next())[1]()
    assert tuple(encoders.asked.values()) == calls


def test_a_shard_that_asks_no_model_does_not_ask_for_the_right_answers():
    def never():
        raise AssertionError("asked")

    unasked = Canaries(never, SPECS, "float32")
    assert score_with_a_base("nothing", FakeEncoders(), unasked.next())[1]().num_rows == 3
    for new in ("picture", "text", "score"):
        with pytest.raises(AssertionError, match="asked"):
            score_with_a_base(new, FakeEncoders(), unasked.next())[1]()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["image", "text", "rank"])
def test_what_is_not_finite_once_only_is_the_workers_fault_and_what_always_is_the_rows(kind, value):
    class Now(FakeEncoders):
        def __init__(self, *, always):
            super().__init__()
            self.always, self.calls = always, 0

        def spoil(self, name, found, hit):
            if name == kind and hit.any():
                self.calls += 1
                if self.always or self.calls == 1:
                    found = found.copy()
                    found[hit] = value
            return found

        def encode(self, pixels):
            hit = np.array([p[0].flat[0] == 2 for p in pixels])
            return [self.spoil("image", v, hit) for v in super().encode(pixels)]

        def texts(self, texts):
            return self.spoil("text", super().texts(texts), np.array([t == "text" for t in texts]))

        def rank(self, vectors, texts, poi_names):
            return self.spoil("rank", super().rank(vectors, texts, poi_names), vectors[:, 0] == 2)

    with pytest.raises(WrongNumbersError, match="asked again"):
        score(Now(always=False), None)
    table, _, _ = score(Now(always=True), canaries().next())
    bad = {"image": [1], "text": [0, 1, 2], "rank": [1]}[kind]
    assert [i for i, s in enumerate(table["status"].to_pylist()) if s == "model_error"] == bad


def test_a_model_that_fails_for_the_fixed_picture_is_wrong():
    fixed = {int(p[0].flat[0]) for p in pictures(SPECS)}

    def fail(kind, items):
        if kind == "image" and fixed & set(items):
            raise RuntimeError("no kernel")

    with pytest.raises(WrongNumbersError, match="no kernel"):
        score(FakeEncoders(fail=fail), canaries().next())


def test_what_a_precision_explains_is_let_through():
    class Rounded(FakeEncoders):
        def encode(self, pixels):
            return [v * np.float32(1.01) for v in super().encode(pixels)]

    off = Rounded()
    check(canaries(precision="bfloat16"), off, 1)
    check(canaries(precision="float16"), off, 1)
    with pytest.raises(WrongNumbersError, match=r"0\.0001 is the most"):
        check(canaries(), off, 1)


@pytest.mark.parametrize("ranking", [True, False])
def test_answers_are_packed_whole(ranking):
    encoders = FakeEncoders(ranking=ranking)
    answers = ask(encoders, SPECS, encoders.towers.rank, recall=ranking)
    found = unpacked(packed(answers))
    assert [v.tolist() for v in found.images] == [v.tolist() for v in answers.images]
    for mine, other in zip(found[1:], answers[1:], strict=True):
        assert (mine is None and other is None) or mine.tolist() == other.tolist()


def test_answers_that_are_none_are_not_read():
    for data in (b"", b"PK", b"\x93NUMPY", packed(Answers((np.zeros((1, 2), np.float32),), None, None))[:-30]):
        with pytest.raises((ValueError, OSError, EOFError, KeyError, BadZipFile)):
            unpacked(data)


def test_other_models_have_answers_of_their_own():
    assert answers_key(["a", "b"]) == answers_key(["a", "b"]) != answers_key(["a", "c"])


def in_a_thread(work):
    """Begin `work`; gives its outcome, an exception or what it returns, when asked for."""
    pool = ThreadPoolExecutor(1)
    found = pool.submit(work)
    pool.shutdown(wait=False)
    return found


@pytest.mark.parametrize("which", ["none", "image", "text", "ranking"])
def test_a_shard_is_encoded_while_the_right_answers_are_still_in_the_making(which):
    """Only the end of the shard waits for them, and is judged by them."""
    known, asked = threading.Event(), threading.Event()
    right = ask(FakeEncoders(), SPECS, 0, recall=True)

    def answers():
        asked.set()
        assert known.wait(30)
        return right

    late, encoders = Canaries(answers, SPECS, "float32"), Skewed(which)
    shard = in_a_thread(lambda: score(encoders, late.next()))
    assert asked.wait(30) and not shard.done()
    assert sum(encoders.sizes) == 3 + 1  # the shard's pictures, the canary: all encoded by now
    known.set()
    if which == "none":
        table, _, counts = shard.result(30)
        assert table.equals(score(FakeEncoders(), None)[0]) and counts["model_s"] < 30
    else:
        with pytest.raises(WrongNumbersError, match=which):
            shard.result(30)


@pytest.mark.parametrize("which", ["none", "image", "text", "ranking"])
def test_the_first_check_asks_the_models_before_it_waits(which):
    encoders, right = Skewed(which), ask(FakeEncoders(), SPECS, 0, recall=True)
    seen = []

    def answers():
        seen.append(sum(encoders.sizes))
        return right

    late = Canaries(answers, SPECS, "float32")
    if which == "none":
        check(late, encoders, 4)
    else:
        with pytest.raises(WrongNumbersError, match=which):
            check(late, encoders, 4)
    assert seen == [4]


def test_without_right_answers_nothing_is_judged():
    unknown = Canaries(lambda: None, SPECS, "float32")
    check(unknown, Skewed("image"), 4)
    table, _, _ = score(Skewed("image"), unknown.next())
    assert table["status"].to_pylist() == ["ok"] * 3


def test_a_text_table_alone_is_judged_too():
    scorer = ShardScorer(Skewed("text"), "float32", 2, canaries().next())
    with pytest.raises(WrongNumbersError, match="text"):
        scorer.text_table(rows_of(["a"]))
