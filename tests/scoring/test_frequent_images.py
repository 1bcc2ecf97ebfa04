"""What came of frequent addresses is left once and taken over as it was; what is not there costs a fetch, no row."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.runs import layout
from aistudio.schema import CANDIDATE_FIELDS, Crop, Reused, Status
from aistudio.scoring.frequent_images import FrequentImages
from aistudio.scoring.image_source import ImageRow
from aistudio.store import open_store

SHARDS = ("frequent-000000", "frequent-000001")
REQUESTS = [("a", None), ("b", "f"), ("c", None)]
SCHEMA = pa.schema(CANDIDATE_FIELDS)
VECTORS = (np.array([0.1, -3e38, 1e-40], np.float32), np.array([7], np.float32))


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path))
    for shard, requests in zip(SHARDS, (REQUESTS, [("d", None)]), strict=True):
        rows = [
            {"row_id": u, "item_id": "i", "image_url": u, "fallback_url": f, "text": "", "poi_names": None}
            for u, f in requests
        ]
        store.write_table(layout.manifest_key(shard), pa.Table.from_pylist(rows, schema=SCHEMA))
    return store


def images() -> list[ImageRow]:
    box = (Crop(1, 2, 3, 4, "border", 0.5), None)
    return [
        ImageRow(2, Status.OK, num_bytes=9, width=4, height=3, content_hash="c" * 64, thumbnail=b"jpg", decode_s=2.0,
                 fetched=True, cache="miss", crops=box, etag='"e"', reused=Reused.CONTENT, vectors=VECTORS),
        ImageRow(0, Status.HTTP_ERROR, "HTTP 404", 404, fetched=True),
        ImageRow(1, Status.MODEL_ERROR, "not finite"),
    ]  # fmt: skip


def same(a: ImageRow, b: ImageRow) -> bool:
    equal = [x.tobytes() == y.tobytes() for x, y in zip(a.vectors, b.vectors, strict=True)]
    return a._replace(vectors=()) == b._replace(vectors=()) and all(equal)


@pytest.mark.parametrize("attempt", [None, 3])
def test_outcomes_are_taken_as_they_were_left(store, attempt):
    here, there = (FrequentImages(store, SHARDS, attempt) for _ in range(2))
    here.leave(SHARDS[0], REQUESTS, images())
    here.leave("00000-000004", REQUESTS, images())  # no shard of first rows
    assert [e.key for e in store.list(layout.ADDRESSES)] == [layout.frequent_key(SHARDS[0], attempt)]
    found = there.of("00000-000001", [("x", None), ("c", None), ("b", "f"), ("a", None), ("b", None)])
    ok, failed, _ = images()
    plain = {"given": True, "fetched": False, "cache": None, "decode_s": 0.0}  # nothing is counted twice
    assert set(found) == {1, 3}  # a model's failure is not passed on, another fallback is another picture
    assert same(found[1], ok._replace(number=1, **plain)) and same(found[3], failed._replace(number=3, **plain))
    assert there.of(SHARDS[0], REQUESTS) == {}  # which has its own to do


def test_a_shard_without_rows_to_score_again_leaves_word(store):
    FrequentImages(store, SHARDS, 2).leave(SHARDS[1], [], ())
    assert FrequentImages(store, SHARDS, 2).of("00000-000001", [("d", None)]) == {}


def test_what_is_not_there_is_not_taken(store):
    frequent = FrequentImages(store, SHARDS, None)
    assert frequent.of("s", [("a", None), ("d", None)]) == {}
    frequent.leave(SHARDS[0], REQUESTS, images())
    assert set(frequent.of("s", [("a", None), ("d", None)])) == {0}


@pytest.mark.parametrize("damage", [b"", b"PAR1 no parquet PAR1", None])
def test_what_is_damaged_is_not_there(store, damage):
    frequent, key = FrequentImages(store, SHARDS, None), layout.frequent_key(SHARDS[0])
    frequent.leave(SHARDS[0], REQUESTS, images())
    whole = bytearray(store.read_bytes(key))
    whole[len(whole) // 3] ^= 1
    store.write_bytes(key, bytes(whole) if damage is None else damage)
    found = frequent.of("s", [("c", None)])
    assert found == {} or same(
        found[0], images()[0]._replace(number=0, given=True, fetched=False, cache=None, decode_s=0.0)
    )
