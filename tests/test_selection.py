"""Two-stage selection against a naive twin, and each reason by a hand-made case."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.errors import ConfigError
from aistudio.selection import SELECTION_SCHEMA, select_images

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "row_id", "image_url", "status")),
        ("recall_score", pa.float32()),
        ("rank_score", pa.float32()),
        ("content_hash", pa.string()),
        ("embedding", pa.list_(pa.float32(), 3)),
    ]
)


def row(row_id, item="a", status="ok", recall=0.5, rank=None, content=None, embedding=None):
    values = (item, row_id, f"u/{row_id}", status, recall, rank, content, embedding)
    return dict(zip(SCHEMA.names, values, strict=True))


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def reasons(result):
    return {r["row_id"]: r["reason"] for r in result.to_pylist()}


def naive(rows, num_images, threshold, top_m, cosine):
    """The docstring of select_images, word for word, one row at a time."""
    out = {}
    for item in dict.fromkeys(r["item_id"] for r in rows):
        mine = sorted((r for r in rows if r["item_id"] == item), key=lambda r: r["row_id"])
        alive = []
        for r in mine:
            recall = -np.inf if r["recall_score"] is None else np.float32(r["recall_score"])
            if r["status"] != "ok":
                out[r["row_id"]] = f"failed:{r['status']}"
            elif threshold is not None and r["recall_score"] is None:
                out[r["row_id"]] = "no_recall_score"
            elif threshold is not None and recall < np.float32(threshold):
                out[r["row_id"]] = "below_recall"
            else:
                alive.append((recall, r))
        if top_m is not None:
            alive.sort(key=lambda x: -x[0])
            out |= {r["row_id"]: "not_in_top_m" for _, r in alive[top_m:]}
            alive = sorted(alive[:top_m], key=lambda x: x[1]["row_id"])
        alive.sort(
            key=lambda x: (x[1]["rank_score"] is None, -(x[0] if x[1]["rank_score"] is None else x[1]["rank_score"]))
        )
        kept = []
        for _, r in alive:
            same = [k for k in kept if k["content_hash"] is not None and k["content_hash"] == r["content_hash"]]
            if not same and cosine is not None:
                same = [k for k in kept if naive_cosine(k["embedding"], r["embedding"]) > cosine]
            if same:
                out[r["row_id"]] = f"duplicate_of:{same[0]['row_id']}"
            elif len(kept) < num_images:
                kept.append(r)
                out[r["row_id"]] = f"kept@{len(kept)}"
            else:
                out[r["row_id"]] = "beyond_n"
    return out


def naive_cosine(a, b):
    if a is None or b is None or not any(a) or not any(b):
        return -2.0
    return sum(x * y for x, y in zip(a, b, strict=True)) / (np.linalg.norm(a) * np.linalg.norm(b))


# Cosines of these axes and diagonals are 0, +-1/sqrt2, +-1/sqrt3, ... : far from the thresholds drawn below.
vectors = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=3, max_size=3) | st.none()
scores = st.none() | st.sampled_from([-0.5, -0.25, 0.0, 0.25, 0.5, 0.75])
candidates = st.builds(
    dict,
    item_id=st.sampled_from(["a", "a", "b"]),
    status=st.sampled_from(["ok", "ok", "ok", "timeout"]),
    recall_score=scores,
    rank_score=scores,
    content_hash=st.sampled_from(["x", "y", "z", None, None, None, None]),
    embedding=vectors,
)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(candidates, max_size=25),
    num_images=st.integers(1, 4),
    threshold=st.none() | st.sampled_from([-0.25, 0.0, 0.3]),
    top_m=st.none() | st.integers(1, 5),
    cosine=st.none() | st.sampled_from([-0.1, 0.6, 0.95]),
    num_chunks=st.integers(1, 3),
)
def test_same_as_naive_twin(rows, num_images, threshold, top_m, cosine, num_chunks):
    rows = [r | {"row_id": str(i), "image_url": f"u/{i}"} for i, r in enumerate(rows)]
    step = -(-len(rows) // num_chunks) or 1
    parts = [table(*rows[i : i + step]) for i in range(0, len(rows), step)] or [table()]
    result = select_images(pa.concat_tables(parts), num_images, threshold, top_m, cosine)
    assert result.schema == SELECTION_SCHEMA
    result.validate(full=True)
    got = {r["row_id"]: f"kept@{r['position']}" if r["reason"] == "kept" else r["reason"] for r in result.to_pylist()}
    assert got == naive(rows, num_images, threshold, top_m, cosine)
    assert result.num_rows == len(rows)
    for r in result.to_pylist():
        assert r["selected"] == (r["position"] is not None) == (r["reason"] == "kept")


def test_ranking_orders_and_recall_stands_in():
    result = select_images(
        table(row("1", rank=0.1, recall=0.9), row("2", rank=0.7, recall=0.2), row("3", recall=0.95)), num_images=3
    )
    assert [(r["row_id"], r["position"]) for r in result.to_pylist()] == [("2", 1), ("1", 2), ("3", 3)]


def test_ties_go_by_row_id():
    result = select_images(table(row("b"), row("c"), row("a")), num_images=2)
    assert reasons(result) == {"a": "kept", "b": "kept", "c": "beyond_n"}


def test_threshold_is_inclusive_in_float32():
    result = select_images(table(row("1", recall=0.7), row("2", recall=0.69)), 5, recall_threshold=0.7)
    assert reasons(result) == {"1": "kept", "2": "below_recall"}


def test_nan_score_counts_as_missing():
    result = select_images(
        table(row("1", recall=float("nan")), row("2", recall=0.1, rank=float("nan"))), 5, recall_threshold=0.0
    )
    assert reasons(result) == {"1": "no_recall_score", "2": "kept"}


def test_equal_content_is_a_duplicate_within_an_item_only():
    result = select_images(
        table(row("1", recall=0.9, content="h"), row("2", content="h"), row("3", item="b", content="h")), 5
    )
    assert reasons(result) == {"1": "kept", "2": "duplicate_of:1", "3": "kept"}


def test_the_best_image_that_is_alike_is_named():
    axes = [row("1", recall=0.9, embedding=[1, 0, 0]), row("2", recall=0.8, embedding=[0, 1, 0])]
    like_second, like_both = row("3", embedding=[0, 1, 0.1]), row("4", embedding=[1, 1, 0])
    result = select_images(table(*axes, like_second, like_both), 5, duplicate_cosine=0.6)
    assert reasons(result) == {"1": "kept", "2": "kept", "3": "duplicate_of:2", "4": "duplicate_of:1"}


def test_half_precision_embeddings_and_a_sliced_table():
    data = table(
        row("0", embedding=[9, 9, 9]),
        row("1", recall=0.9, embedding=[1, 0, 0]),
        row("2", recall=0.8, embedding=[3, 0.01, 0]),
        row("3", recall=0.7, embedding=[0, 1, 0]),
    )
    half = data.set_column(7, "embedding", data["embedding"].cast(pa.list_(pa.float16(), 3)))
    assert reasons(select_images(half.slice(1), 5, duplicate_cosine=0.9)) == {
        "1": "kept",
        "2": "duplicate_of:1",
        "3": "kept",
    }


def test_order_of_the_result():
    result = select_images(
        table(
            row("1", item="z", status="timeout", recall=None),
            row("2", item="y"),
            row("3", item="z", recall=0.1),
            row("4", item="z", recall=0.6),
            row("5", item="z", recall=0.9),
        ),
        num_images=1,
        recall_threshold=0.5,
    )
    assert result["row_id"].to_pylist() == ["5", "4", "3", "1", "2"]
    assert result["reason"].to_pylist() == ["kept", "beyond_n", "below_recall", "failed:timeout", "kept"]


def test_wrong_settings_and_columns_are_named():
    with pytest.raises(ConfigError, match="number of images"):
        select_images(table(), 0)
    with pytest.raises(ConfigError, match="top M"):
        select_images(table(), 1, recall_top_m=0)
    with pytest.raises(ConfigError, match="between -1 and 1"):
        select_images(table(), 1, duplicate_cosine=2)
    with pytest.raises(ConfigError, match="'embedding'"):
        select_images(table().drop_columns(["embedding"]), 1, duplicate_cosine=0.9)
