"""One shard: distinct images, batches, failures pinned to rows, the commit. Fake encoders, no engine."""

import time

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import ImageSpec
from aistudio.runs.resume import store_shard
from aistudio.schema import CANDIDATE_FIELDS, Reused, Status
from aistudio.scoring.base_rows import Known
from aistudio.scoring.encoders import Models, find_towers
from aistudio.scoring.image_source import ImageRow
from aistudio.scoring.shard import ShardScorer, distinct_images, row_products
from aistudio.store import open_store


class Tower:
    dim, image_spec, image_tower_fingerprint = 4, ImageSpec(size=8), "tower"


class FakeEncoders:
    """Vectors are the mean colours; `fail(kind, items)` may raise."""

    recall = Tower()
    clock = staticmethod(time.perf_counter)

    def __init__(self, ranking=True, fail=lambda kind, items: None):
        self.fail, self.sizes = fail, []
        self.crops: dict[str, int] = {}
        self.towers = find_towers(Models(self.recall, Tower() if ranking else None, {}))

    def encode(self, pixels):
        self.sizes.append(len(pixels))
        values = [int(p[0].flat[0]) for p in pixels]
        self.fail("image", values)
        return [np.array([[v, 0, 0, 0] for v in values], np.float32)]

    def texts(self, texts):
        self.fail("text", texts)
        return np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(texts), 1))

    def rank(self, vectors, texts, poi_names):
        self.fail("rank", [int(v[0]) for v in vectors])
        return vectors[:, 0] * 10


def rows_of(urls, texts=None):
    n = len(urls)
    columns = [
        [f"r{i}" for i in range(n)], ["item"] * n, urls, [None] * n, texts or ["text"] * n, [None] * n
    ]  # fmt: skip
    schema = pa.schema([*CANDIDATE_FIELDS, pa.field("colour", pa.string())])
    return pa.table(
        [*(pa.array(c, f.type) for c, f in zip(columns, schema, strict=False)), pa.array(["red"] * n)], schema
    )


def image(number, status=Status.OK):
    if status != Status.OK:
        return ImageRow(number, status, "broken")
    return ImageRow(number, status, num_bytes=10, pixels=(np.full((2, 2, 3), number + 1, np.uint8),), thumbnail=b"t")


def score(rows, images, encoders, batch_size=4):
    return ShardScorer(encoders, "float32", batch_size).score(rows, distinct_images(rows), images, lambda counts: None)


def test_equal_images_are_one_request_and_a_different_fallback_makes_another():
    rows = rows_of(["a", "b", "a", "a"])
    rows = rows.set_column(3, "fallback_url", pa.array([None, None, None, "f"]))
    distinct = distinct_images(rows)
    assert distinct.requests == [("a", None), ("b", None), ("a", "f")] and list(distinct.of_row) == [0, 1, 0, 2]


def test_rows_keep_their_order_whatever_the_order_of_images():
    rows = rows_of(["a", "b", "a", "c", "d"])
    images = [image(2), image(0), image(3, Status.TIMEOUT), image(1)]
    table, texts, counts = score(rows, images, FakeEncoders())
    assert table["row_id"].to_pylist() == [f"r{i}" for i in range(5)]
    assert table["recall_score"].to_pylist() == [1, 2, 1, 3, None]
    assert table["rank_score"].to_pylist() == [10, 20, 10, 30, None]
    assert table["status"].to_pylist() == ["ok"] * 4 + ["timeout"]
    assert table["embedding"].to_pylist()[4] is None and table["colour"].to_pylist() == ["red"] * 5
    assert texts["text"].to_pylist() == ["text"]
    assert counts["ok"] == 4 and counts["timeout"] == 1 and counts["bytes"] == 30


def test_without_a_ranking_model_rank_scores_are_null():
    table, _, _ = score(rows_of(["a"]), [image(0)], FakeEncoders(ranking=False))
    assert table["rank_score"].to_pylist() == [None] and table["recall_score"].to_pylist() == [1]


def test_an_image_that_never_arrives_is_a_row_that_says_so():
    table, _, counts = score(rows_of(["a", "b"]), [image(0)], FakeEncoders())
    assert table["status"].to_pylist() == ["ok", "model_error"] and "never arrived" in table["error"][1].as_py()
    assert counts["model_error"] == 1


@pytest.mark.parametrize("kind", ["image", "rank"])
def test_an_exception_in_a_model_costs_the_one_row(kind):
    def fail(what, items):
        if what == kind and 3 in items:
            raise IndexError("no such thing")

    table, _, counts = score(rows_of(list("abcdef")), [image(i) for i in range(6)], FakeEncoders(fail=fail))
    assert table["status"].to_pylist() == ["ok", "ok", "model_error", "ok", "ok", "ok"]
    assert table["error"].to_pylist()[2] == "IndexError: no such thing"
    assert table["rank_score"].to_pylist() == [10, 20, None, 40, 50, 60]
    assert table["recall_score"][2].as_py() is None and table["embedding"][2].as_py() is None
    assert counts["model_error"] == 1 and counts["ok"] == 5


def test_a_text_that_fails_costs_its_rows_alone_and_is_not_stored():
    def fail(what, items):
        if what == "text" and "evil" in items:
            raise ValueError("cannot be tokenised")

    rows = rows_of(["a", "b", "a"], ["good", "evil", "fine"])
    table, texts, _ = score(rows, [image(0), image(1)], FakeEncoders(fail=fail))
    assert table["status"].to_pylist() == ["ok", "model_error", "ok"]
    assert texts["text"].to_pylist() == ["good", "fine"] and texts["embedding"].null_count == 0


def test_a_full_device_halves_the_batch_and_stays_with_the_smaller_one():
    encoders = FakeEncoders()

    def fail(what, items):
        if what == "image" and len(items) > 4:
            raise RuntimeError("CUDA out of memory")

    encoders.fail = fail
    n = 24
    table, _, _ = score(rows_of([f"u{i}" for i in range(n)]), [image(i) for i in range(n)], encoders, batch_size=8)
    assert set(table["status"].to_pylist()) == {"ok"}
    assert encoders.sizes == [8, 4, 4, 4, 4, 4, 4]
    assert encoders.batch_size == 4  # for the shards that follow


def test_a_vector_that_is_not_finite_is_a_model_error():
    encoders = FakeEncoders()
    encode = encoders.encode

    def broken(pixels):
        (vectors,) = encode(pixels)
        vectors[vectors == 2] = np.nan
        return [vectors]

    encoders.encode = broken
    table, _, _ = score(rows_of(["a", "b", "c"]), [image(i) for i in range(3)], encoders)
    assert table["status"].to_pylist() == ["ok", "model_error", "ok"] and "not finite" in table["error"][1].as_py()


def test_the_first_commit_of_a_shard_stays(tmp_path):
    store = open_store(str(tmp_path))
    rows, images = rows_of(["a"]), [image(0)]
    table, texts, _ = score(rows, images, FakeEncoders())
    store_shard(store, "s", table, texts, {"aistudio.attempt": "1"})
    store_shard(store, "s", table, texts, {"aistudio.attempt": "2"})
    assert store.read_metadata("scores/s.parquet")[2]["aistudio.attempt"] == "1"


class TwoTowers(FakeEncoders):
    """No recall model: two encoders, the second twice as wide."""

    recall = None

    def __init__(self):
        super().__init__(ranking=False)
        wide = Tower()
        wide.dim, wide.image_tower_fingerprint = 8, "wide"
        self.towers = find_towers(Models(None, None, {"look": Tower(), "wide": wide}))

    def encode(self, pixels):
        (vectors,) = super().encode(pixels)
        return [vectors, np.hstack([vectors, -vectors])]


def test_a_run_without_a_recall_model_stores_a_column_for_each_encoder():
    images = [image(0), image(1), ImageRow(2, Status.TIMEOUT, "slow")]
    table, texts, counts = score(rows_of(["a", "b", "c"]), images, TwoTowers())
    assert table["status"].to_pylist() == ["ok", "ok", "timeout"] and counts["ok"] == 2
    assert "embedding" not in table.column_names and texts.num_rows == 0
    assert table["embedding_look"].to_pylist()[:2] == [[v, 0, 0, 0] for v in (1, 2)]
    assert table["embedding_wide"].to_pylist()[1] == [2, 0, 0, 0, -2, 0, 0, 0]
    assert [table[c].to_pylist()[2] for c in ("embedding_look", "embedding_wide")] == [None, None]
    assert table["recall_score"].null_count == table["rank_score"].null_count == 3


@pytest.mark.parametrize("width", [1, 4, 7, 128, 512, 513])
def test_an_inner_product_does_not_notice_the_rows_around_it(width):
    a, b = np.random.default_rng(width).normal(size=(2, 700, width)).astype(np.float32)
    whole = row_products(a, b)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, (a.astype(np.float64) * b).sum(1), rtol=1e-6, atol=1e-6)
    for size in (1, 2, 7, 16, 33):
        for start in (0, 1, 5, 640):
            part = slice(start, start + size)
            assert row_products(a[part], b[part]).tobytes() == whole[part].tobytes()
    assert row_products(a[::-1], b[::-1])[::-1].tobytes() == whole.tobytes()
    assert row_products(a[:0], b[:0]).shape == (0,)


class Counted(FakeEncoders):
    """Counts what the models are asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = {"image": 0, "text": 0, "rank": 0}
        self.fail = lambda kind, items: self.asked.__setitem__(kind, self.asked[kind] + len(items))


def of_base(number, reused, value=7.0):
    vectors = (np.array([value, 0, 0, 0], np.float32),)
    return ImageRow(number, Status.OK, num_bytes=10, thumbnail=b"b", etag='"e"', reused=reused, vectors=vectors)


def known_of(rows, rank=(), **changes):
    texts = {text: np.array([0.5, 0, 0, 0], np.float32) for text in changes.pop("texts", ())}
    return Known(("embedding",), {}, texts, changes.pop("recall", {}), dict(rank))


def test_rows_of_the_base_need_no_model_where_all_is_known():
    rows, encoders = rows_of(["a", "b"], ["x", "y"]), Counted()
    images = [of_base(0, Reused.URL), of_base(1, Reused.VALIDATORS, 8.0)]
    known = known_of(rows, [(0, 3.0), (1, 4.0)], texts=["x", "y"])
    scorer = ShardScorer(encoders, "float32", 4)
    table, texts, counts = scorer.score(rows, distinct_images(rows), images, lambda c: None, known)
    assert encoders.asked == {"image": 0, "text": 0, "rank": 0}
    assert table["embedding"].to_pylist() == [[7, 0, 0, 0], [8, 0, 0, 0]]
    assert table["recall_score"].to_pylist() == [3.5, 4.0] and table["rank_score"].to_pylist() == [3, 4]
    assert table["reused"].to_pylist() == ["url", "validators"] and table["etag"].to_pylist() == ['"e"'] * 2
    assert texts["embedding"].to_pylist() == [[0.5, 0, 0, 0]] * 2
    assert counts["reused_url"] == 1 and counts["reused_no"] == 0 and counts["bytes"] == 0 and counts["ok"] == 2


def test_another_text_costs_the_text_tower_and_the_head_alone():
    rows, encoders = rows_of(["a", "b"], ["x", "new"]), Counted()
    images = [of_base(0, Reused.CONTENT), of_base(1, Reused.CONTENT)]
    known = known_of(rows, [(0, 3.0)], texts=["x"])
    scorer = ShardScorer(encoders, "float32", 4)
    table, _, counts = scorer.score(rows, distinct_images(rows), images, lambda c: None, known)
    assert encoders.asked == {"image": 0, "text": 1, "rank": 1}
    assert table["recall_score"].to_pylist() == [3.5, 7] and table["rank_score"].to_pylist() == [3, 70]
    assert counts["bytes"] == 20  # that were fetched to be compared


def test_scores_of_a_changed_picture_are_never_the_bases():
    rows, encoders = rows_of(["a", "b"]), Counted()
    known = known_of(rows, [(0, 3.0), (1, 4.0)], texts=["text"], recall={0: 5.0, 1: 6.0})
    scorer = ShardScorer(encoders, "float32", 4)
    images = [image(0), of_base(1, Reused.URL)]
    table, _, _ = scorer.score(rows, distinct_images(rows), images, lambda c: None, known)
    assert encoders.asked == {"image": 1, "text": 0, "rank": 1}
    assert table["rank_score"].to_pylist() == [10, 4] and table["recall_score"].to_pylist() == [0.5, 6]
    assert table["reused"].to_pylist() == ["no", "url"]


def test_a_row_whose_text_fails_is_not_taken_over():
    def fail(what, items):
        if what == "text" and "evil" in items:
            raise ValueError("cannot be tokenised")

    rows = rows_of(["a", "b"], ["good", "evil"])
    images = [of_base(0, Reused.URL), of_base(1, Reused.URL)]
    scorer = ShardScorer(FakeEncoders(fail=fail), "float32", 4)
    table, _, counts = scorer.score(rows, distinct_images(rows), images, lambda c: None, known_of(rows))
    assert table["status"].to_pylist() == ["ok", "model_error"] and table["reused"].to_pylist() == ["url", "no"]
    assert table["embedding"].to_pylist()[1] is None and counts["reused_url"] == 1


def test_a_run_that_an_earlier_version_began_keeps_its_columns():
    rows = rows_of(["a"])
    new, old = (
        ShardScorer(FakeEncoders(), "float32", 4, delta=d).score(rows, distinct_images(rows), [image(0)], dict)
        for d in (True, False)
    )
    extra = ["etag", "last_modified", "reused"]
    assert [n for n in new[0].column_names if n not in extra] == old[0].column_names
    assert set(extra) <= set(new[0].column_names) and new[0]["reused"].to_pylist() == ["no"]


def test_what_came_of_images_serves_another_shard_without_a_model():
    first = ShardScorer(FakeEncoders(), "float16", 4)
    pictures = [image(1), image(0, Status.TIMEOUT), image(2)._replace(etag='"e"', fetched=True)]
    rows = rows_of(["a", "b", "c"])
    first.score(rows, distinct_images(rows), pictures, lambda c: None)
    outcomes = first.outcomes(("embedding", "rank_embedding"))
    assert [(o.number, o.status, o.pixels) for o in outcomes] == [
        (0, Status.TIMEOUT, ()), (1, Status.OK, ()), (2, Status.OK, ()),
    ]  # fmt: skip
    assert [v.tolist() for v in outcomes[1].vectors] == [[2, 0, 0, 0]] * 2 and outcomes[0].vectors == ()

    encoders = Counted()
    given = [outcomes[n]._replace(number=i, given=True) for i, n in enumerate([2, 0])]
    again, known = rows_of(["c", "b"], ["x", "y"]), Known(("embedding", "rank_embedding"))
    table, _, counts = ShardScorer(encoders, "float32", 4).score(
        again, distinct_images(again), given, lambda c: None, known
    )
    assert encoders.asked["image"] == 0 and counts["bytes"] == 0
    assert table["status"].to_pylist() == ["ok", "timeout"] and table["error"].to_pylist() == [None, "broken"]
    assert table["embedding"].to_pylist() == [[3, 0, 0, 0], None] and table["rank_score"].to_pylist() == [30, None]
    assert table["etag"].to_pylist() == ['"e"', None] and table["reused"].to_pylist() == ["no", "no"]
