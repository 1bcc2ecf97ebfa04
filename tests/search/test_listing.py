"""Lists of a search against a naive twin, over random small runs; the same bits whatever blocks, files and mapper."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.runs import layout
from aistudio.runs.mapper import InProcess
from aistudio.schema import score_schema
from aistudio.search import scanning
from aistudio.search.gallery import ID_STEP
from aistudio.search.listing import Asking, Naming, Rules, best_lists
from aistudio.search.scanning import Filter
from aistudio.search.searched import Searched, where_of
from aistudio.search.vectors import VectorColumn
from aistudio.store import open_store
from tests.search.twin import TwinRules, twin_list

DIM = 4
FIELDS = [pa.field("category", pa.string()), pa.field("colour", pa.int64()), pa.field("tags", pa.string())]


class Pieces(InProcess):
    """A mapper that cuts the files into groups of `size`, as Ray's does."""

    def __init__(self, size):
        self.size = size

    def groups(self, items):
        return [list(items[i : i + self.size]) for i in range(0, len(items), self.size)]


def random_rows(rng, num, num_items):
    """Few distinct vectors and values, so that ties, copies, large items and full values happen all the time."""
    pool = rng.integers(-2, 3, size=(max(2, num // 3), DIM)).astype(np.float32)
    pool[~pool.any(axis=1)] = 1
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    rows = []
    for i in range(num):
        which = int(rng.integers(len(pool)))
        failed = rng.random() < 0.1
        rows.append(
            {
                "row_id": f"r{i}", "item_id": f"i{int(num_items * rng.random() ** 2)}", "image_url": f"u{i}",
                "text": "",
                "status": "timeout" if failed else "ok", "embedding": None if failed else pool[which],
                "content_hash": None if failed else f"h{which if rng.random() < 0.6 else i + 1000}",
                "category": rng.choice(["hat", "coat", "ring", None]), "colour": int(rng.integers(3)),
                "tags": rng.choice(["a", "a, b", "b,c", "c", None]),
            }
        )  # fmt: skip
    return rows


def store_rows(folder, rows, shard):
    store = open_store(str(folder))
    schema = score_schema(FIELDS, {"embedding": DIM})
    for start in range(0, len(rows), shard):
        part = pa.Table.from_pylist(rows[start : start + shard], schema=schema)
        store.write_table(layout.scores_key(f"{start // shard:05d}"), part)
    return store


def files_of(store):
    return list(enumerate(layout.score_keys(store)))


def number_of(row_id, shard):
    return int(row_id // ID_STEP) * shard + int(row_id % ID_STEP)


@st.composite
def searches(draw):
    return {
        "seed": draw(st.integers(0, 10_000)), "num": draw(st.integers(1, 60)), "items": draw(st.integers(1, 20)),
        "shard": draw(st.integers(1, 70)), "block": draw(st.sampled_from([1, 3, 17, 1000])),
        "group": draw(st.integers(1, 5)), "top_n": draw(st.integers(1, 12)),
        "key": draw(st.sampled_from(["item_id", "row_id"])),
        "diversify": draw(st.sampled_from([{}, {"category": 1}, {"colour": 2}, {"category": 2, "colour": 1}])),
        "ceiling": draw(st.sampled_from([None, 0.999, 0.5, -0.5])),
        "filter": draw(st.sampled_from([None, "category", "tags"])),
        "where": draw(st.sampled_from([{}, {"colour": [0, 1]}, {"colour": 2}])),
        "own": draw(st.booleans()), "copies": draw(st.booleans()), "scan": draw(st.sampled_from([1, 65_536])),
        "first": draw(st.sampled_from([1, 16])), "near": draw(st.sampled_from([0, 4_000_000])),
    }  # fmt: skip


def make_asking(rng, rows, how):
    """Up to 9 queries, each with the vectors of one to four ok rows, in one filter value."""
    ok = [i for i, r in enumerate(rows) if r["status"] == "ok"]
    queries = [rng.choice(ok, size=int(rng.integers(1, 5))).tolist() for _ in range(int(rng.integers(1, 10)))]
    query_S = np.repeat(np.arange(len(queries)), [len(q) for q in queries])
    vectors = np.stack([rows[i]["embedding"] for q in queries for i in q])
    leave = []
    if how["own"]:
        pairs = [(rows[i]["item_id"], q) for q, of in enumerate(queries) for i in of]
        leave.append(Naming("same_item", "item_id", [p[0] for p in pairs], np.array([p[1] for p in pairs])))
    if how["copies"]:
        pairs = [(rows[i]["content_hash"], q) for q, of in enumerate(queries) for i in of]
        leave.append(Naming("duplicate", "content_hash", [p[0] for p in pairs], np.array([p[1] for p in pairs])))
    wanted_pairs = sorted((q, f"r{int(i)}") for q in range(len(queries)) for i in rng.integers(len(rows), size=3))
    wanted = Naming("relevant", "row_id", [p[1] for p in wanted_pairs], np.array([p[0] for p in wanted_pairs]))
    values = {"category": ["hat", "coat", "ring"], "tags": ["a", "b", "c"]}.get(how["filter"], [])
    codes = rng.integers(len(values), size=len(queries)) if values else None
    separator = "," if how["filter"] == "tags" else None
    made = Filter((how["filter"],), pa.array(values), separator) if values else None
    asking = Asking(query_S, lambda numbers: vectors[numbers], tuple(leave), (wanted,), made, codes)
    return asking, queries, vectors, wanted_pairs


def eligible(rows, queries, asking, how, q):
    own = {rows[i]["item_id"] for i in queries[q]}
    hashes = {rows[i]["content_hash"] for i in queries[q]}
    wanted = None if asking.filter is None else asking.filter.values[int(asking.code_Q[q])].as_py()

    def has(row):
        value = row[how["filter"]] if how["filter"] else None
        parts = [p.strip() for p in value.split(",")] if value and how["filter"] == "tags" else [value]
        where = how["where"].get("colour")
        return not (
            (how["own"] and row["item_id"] in own) or (how["copies"] and row["content_hash"] in hashes)
            or (how["filter"] and wanted not in parts)
            or (where is not None and row["colour"] not in (where if isinstance(where, list) else [where]))
        )  # fmt: skip

    return has


@given(searches())
@settings(max_examples=40, deadline=None)
def test_lists_are_those_of_the_naive_twin(tmp_path_factory, how):
    rng = np.random.default_rng(how["seed"])
    rows = random_rows(rng, how["num"], how["items"])
    if all(r["status"] != "ok" for r in rows):
        return
    store = store_rows(tmp_path_factory.mktemp("run"), rows, how["shard"])
    asking, queries, vectors, wanted_pairs = make_asking(rng, rows, how)
    rules = Rules(how["top_n"], how["key"], tuple(how["diversify"].items()), how["ceiling"], 1000, how["block"])
    gallery = Searched(store, files_of(store), VectorColumn(), where_of(how["where"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "SCAN_PAIRS", how["scan"])
        patch.setattr(scanning, "MAX_PAIRS", 7)
        patch.setattr("aistudio.search.listing.SPARE", how["first"] - 3 * how["top_n"])  # K of the first pass is small
        patch.setattr("aistudio.search.listing.MOST_NEAR", how["near"])
        patch.setattr("aistudio.search.listing.VECTOR_CHUNK", 9)
        found = list(best_lists(gallery, asking, rules, Pieces(how["group"])))
    for q in range(len(queries)):
        has = eligible(rows, queries, asking, how, q)
        own = vectors[asking.query_S == q]
        twin = twin_list(rows, own, TwinRules(how["top_n"], how["key"], how["diversify"], how["ceiling"]), has)
        got = [
            (number_of(i, how["shard"]), s, v)
            for part in found
            for i, s, v in zip(
                part.id_R[part.query_R == q], part.score_R[part.query_R == q], part.vector_R[part.query_R == q],
                strict=True,
            )
        ]  # fmt: skip
        assert got == twin
        relevant = {
            number_of(i, how["shard"])
            for part in found
            for p, i in zip(*(c.tolist() for c in part.relevant), strict=True)
            if p == q
        }
        unlimited = twin_list(rows, own, TwinRules(10**6, "row_id", {}, how["ceiling"]), has)
        assert relevant == {n for n, _, _ in unlimited} & {int(name[1:]) for p, name in wanted_pairs if p == q}
