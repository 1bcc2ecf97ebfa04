"""aistudio/evaluation/by_notion.py: several notions of similar and all protocols, against a naive twin."""

import json

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError, ManifestError, RunMismatchError
from aistudio.evaluation import notion_ranks
from aistudio.evaluation.aggregate import aggregate
from aistudio.evaluation.compare import answer, compare
from aistudio.evaluation.notions import usable_texts
from aistudio.metrics.chance import chance_levels
from aistudio.metrics.significance import holm
from aistudio.search import whole
from tests.evaluation.stored_run import FAST, catalogue, unit, write_run

COLUMNS = [pa.field("category", pa.string()), pa.field("metal", pa.int64()), pa.field("part", pa.string())]
BOTH = {"query": "image", "relevant_by": ["category", "metal"], "k": [1, 5], **FAST}


def similar_rows(seed=0, items=14):
    """Items of three images with two notions; some rows lack a value, pictures are copied, values differ in an item."""
    rng = np.random.default_rng(seed)
    rows, texts = catalogue(items, 3, seed)
    for i, row in enumerate(rows):
        item = int(row["item_id"][4:])
        row["category"] = None if i % 13 == 5 else " " if i == 7 else ["ring", "charm", "耳环"][item % 3]
        row["metal"] = None if i % 10 == 3 else int(rng.integers(2))
        row["part"] = "ask" if item % 4 == 0 else "shop"
        row["content_hash"] = f"h{i}" if row["status"] == "ok" and i % 5 else None
    for first, again in ((0, 9), (1, 2)):
        for column in ("embedding", "content_hash"):
            rows[again][column] = rows[first][column]
    rows[0]["content_hash"] = rows[9]["content_hash"] = "copied"
    rows[30]["content_hash"] = None
    return rows, texts


def value(row, column):
    text = None if row[column] is None else str(row[column])
    return text if text is not None and text.strip() else None


def twin(rows, column, protocol, new=(), one=False):
    """query row_id -> (label, relevance of each place), by the words of the documentation, one query at a time."""
    good = [r for r in rows if r["status"] == "ok"]
    of_item = {}
    for r in good:
        if value(r, column) is not None:
            of_item.setdefault(r["item_id"], value(r, column))
    found, seen = {}, set()
    for q in good:
        label = of_item.get(q["item_id"]) if protocol == "item_level" else value(q, column)
        asks = label is not None
        asks = asks and (protocol != "split" or q["part"] == "ask") and (protocol != "new_classes" or label in new)
        if not asks or (one and q["item_id"] in seen):
            continue
        seen.add(q["item_id"])
        scored = []
        for place, r in enumerate(good):
            copy = q["content_hash"] is not None and r["content_hash"] == q["content_hash"]
            if r["item_id"] == q["item_id"] or copy:
                continue
            score = np.vecdot(np.asarray(q["embedding"], float), np.asarray(r["embedding"], float))
            scored.append((-score, place, r))
        ranked = [r for _, _, r in sorted(scored, key=lambda s: s[:2])]
        if protocol == "item_level":
            labels = [of_item.get(item) for item in dict.fromkeys(r["item_id"] for r in ranked)]
        elif protocol == "split":
            labels = [value(r, column) for r in ranked if r["part"] == "shop"]
        else:
            labels = [value(r, column) for r in ranked]
        if protocol == "new_classes":
            labels = [other for other in labels if other in new]
        found[q["row_id"]] = label, [other == label for other in labels if other is not None]
    return found


def average_precision(right):
    places = np.flatnonzero(right) + 1
    return float(np.mean([(i + 1) / p for i, p in enumerate(places)]))


def check(store, result, found, column, protocol):
    key, scored = f"{column}/{protocol}", {q: f for q, f in found.items() if any(f[1])}
    m = result["metrics"]
    precision = [average_precision(right) for _, right in scored.values()]
    assert m[f"{key}/map"]["n"] == len(scored) > 3
    assert m[f"{key}/map"]["value"] == pytest.approx(np.mean(precision), abs=1e-12)
    assert m[f"{key}/hit_rate@5"]["value"] == pytest.approx(
        np.mean([any(r[:5]) for _, r in scored.values()]), abs=1e-12
    )
    at_r = [sum(r[: sum(r)]) / sum(r) for _, r in scored.values()]
    assert m[f"{key}/r_precision"]["value"] == pytest.approx(np.mean(at_r), abs=1e-12)
    assert m[f"{key}/median_rank"]["value"] == np.median([r.index(True) + 1 for _, r in scored.values()])
    by_class = {}
    for (label, _), p in zip(scored.values(), precision, strict=True):
        by_class.setdefault(label, []).append(p)
    assert m[f"{key}/map"]["macro"] == pytest.approx(np.mean([np.mean(p) for p in by_class.values()]), abs=1e-12)
    assert m[f"{key}/map"]["low"] <= m[f"{key}/map"]["value"] <= m[f"{key}/map"]["high"]
    assert m[f"{key}/map"]["macro_low"] <= m[f"{key}/map"]["macro"] <= m[f"{key}/map"]["macro_high"]
    chance = chance_levels([sum(r) for _, r in scored.values()], [len(r) for _, r in scored.values()], [1, 5])
    assert m[f"{key}/map_at_r"]["chance"] == pytest.approx(chance["map_at_r"].mean(), abs=1e-12)

    classes = [r for r in store.read_table("metrics/image/classes.parquet").to_pylist() if r["metric"] == "map"]
    own = {r["value"]: r for r in classes if (r["relevant_by"], r["protocol"]) == (column, protocol)}
    assert {label: r["n"] for label, r in own.items()} == {label: len(p) for label, p in by_class.items()}
    assert all(own[label]["estimate"] == pytest.approx(np.mean(p), abs=1e-12) for label, p in by_class.items())
    assert sum(r["chance"] * r["n"] for r in own.values()) == pytest.approx(chance["map"].sum(), abs=1e-9)

    table = store.read_table("metrics/image/relevant_by.parquet").to_pylist()
    queries = {r["query_id"]: r for r in table if (r["relevant_by"], r["protocol"]) == (column, protocol)}
    assert list(queries) == list(found)
    for query, (label, right) in found.items():
        stored = queries[query]
        assert (stored["value"], stored["num_relevant"], stored["gallery_rows"]) == (label, sum(right), len(right))
        assert stored["first_rank"] == (right.index(True) + 1 if any(right) else None)
    assert result["about"]["relevant_by"][key]["queries_without_relevant"] == len(found) - len(scored)


@pytest.mark.parametrize("seed", range(2))
def test_every_protocol_equals_the_twin(tmp_path, seed):
    rows, texts = similar_rows(seed)
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    settings = MetricsSettings(
        query_where={"part": "ask"},
        gallery_where={"part": ["shop"]},
        new_classes={"category": ["ring", "耳环"]},
        **BOTH,
    )
    result = aggregate(store, settings)
    for column in ("category", "metal"):
        for protocol in ("leave_self_out", "item_level", "split"):
            check(store, result, twin(rows, column, protocol), column, protocol)
    check(store, result, twin(rows, "category", "new_classes", ("ring", "耳环")), "category", "new_classes")
    assert not [name for name in result["metrics"] if name.startswith("metal/new_classes")]
    notes = " ".join(result["about"]["notes"])
    missing = sum(value(r, "category") is None for r in rows if r["status"] == "ok")
    assert f"relevant_by category: {missing} of " in notes and f"{missing} no value" in notes
    assert "relevant_by metal" in notes and "items have images of several values" in notes


def test_other_numbers_do_not_move_and_old_files_go(tmp_path):
    rows, texts = similar_rows()
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    plain = MetricsSettings(query="image", k=[1, 5], **FAST)
    before = aggregate(store, plain)
    after = aggregate(store, MetricsSettings(**BOTH))
    assert {n: m for n, m in after["metrics"].items() if "/" not in n} == before["metrics"]
    assert store.exists("metrics/image/relevant_by.parquet") and store.exists("metrics/classes.parquet")
    assert aggregate(store, plain)["metrics"] == before["metrics"]
    assert not store.exists("metrics/image/relevant_by.parquet") and not store.exists("metrics/classes.parquet")


def test_blocks_and_chunks_change_no_bit(tmp_path, monkeypatch):
    rows, texts = similar_rows(1)
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    expected = aggregate(store, MetricsSettings(**BOTH))["metrics"]
    monkeypatch.setattr(whole, "BLOCK_SCORES", 100)
    monkeypatch.setattr(whole, "HELD_BYTES", 0)
    monkeypatch.setattr(notion_ranks, "RANKS_AT_ONCE", 7)
    assert aggregate(store, MetricsSettings(**BOTH, block_rows=4))["metrics"] == expected


def test_one_image_of_an_item_asks_and_a_sample_does(tmp_path):
    rows, texts = similar_rows()
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    result = aggregate(store, MetricsSettings(item_queries="one", **BOTH))
    check(store, result, twin(rows, "category", "item_level", one=True), "category", "item_level")
    sampled = aggregate(store, MetricsSettings(max_queries=6, **BOTH))
    about = sampled["about"]["relevant_by"]["category/leave_self_out"]
    assert about["queries"] == 6 < about["queries_drawn_from"]


HOSTILE = {
    "lists": pa.array([["a"], None, []] * 14, pa.list_(pa.string())),
    "numbers": pa.array([float("nan"), None, 3.0] * 14),
    "long": pa.array(["x" * 5_000, "ok", "\u200b"] * 14),
    "nothing": pa.nulls(42),
    "bytes": pa.array([b"\xff", None, b"a"] * 14, pa.binary()),
    "struct": pa.array([{"a": 1}, None, {"a": None}] * 14),
    "kinds": pa.array(["a", "b", None] * 14).dictionary_encode(),
    "days": pa.array([1, 2, None] * 14, pa.timestamp("ns", "No/Zone")),
    "one/two": pa.array(["only"] * 42),
}


def test_hostile_columns_never_end_the_aggregation(tmp_path):
    rows, texts = similar_rows()
    plain = write_run(tmp_path / "plain", rows, texts, COLUMNS)
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    start = 0
    for entry in sorted(plain.list("scores"), key=lambda e: e.key):
        table = plain.read_table(entry.key)
        for name, column in HOSTILE.items():
            table = table.append_column(name, column.slice(start, table.num_rows))
        start += table.num_rows
        store.write_table(entry.key, table)
    result = aggregate(store, MetricsSettings(query="image", relevant_by=[*HOSTILE, "item_id", "lists"], k=[1], **FAST))
    json.dumps(result, allow_nan=False)
    about, m = result["about"]["relevant_by"], result["metrics"]
    for name in ("lists", "nothing", "bytes", "struct"):
        assert about[f"{name}/leave_self_out"]["queries"] == 0 and m[f"{name}/item_level/map"]["value"] is None
        assert sum(about[f"{name}/leave_self_out"]["rows_ignored"].values()) == result["about"]["gallery_rows"]
    assert set(about["long/leave_self_out"]["rows_ignored"]) == {"no value", "a text of more than 1,000 characters"}
    assert about["numbers/leave_self_out"]["classes"] == 1 and about["kinds/leave_self_out"]["classes"] == 2
    assert m["one_two/leave_self_out/map"]["value"] == m["one_two/leave_self_out/map"]["chance"] == 1
    assert not [name for name in m if name.startswith("item_id/")]
    assert "item_id is what metrics without a prefix say" in " ".join(result["about"]["notes"])


def test_texts_of_values_say_why_they_are_none():
    texts, reasons = usable_texts(pa.array([1.0, float("nan"), None, 2.5]))
    assert texts.to_pylist() == ["1", None, None, "2.5"] and reasons == {"no value": 2}
    texts, reasons = usable_texts(pa.array([["a"], None], pa.list_(pa.string())))
    assert texts.to_pylist() == [None, None]
    assert reasons == {"no value": 1, "a list or another nested value": 1}


def test_settings_that_fit_nothing_are_refused(tmp_path):
    rows, texts = similar_rows()
    store = write_run(tmp_path / "run", rows, texts, COLUMNS)
    with pytest.raises(ConfigError, match=r"metrics\.relevant_by: colour is not a column of .*known: .*metal"):
        aggregate(store, MetricsSettings(**BOTH | {"relevant_by": ["colour"]}))
    with pytest.raises(ConfigError, match=r"metrics\.query_where: where is not a column"):
        aggregate(store, MetricsSettings(query_where={"where": "x"}, **BOTH))
    with pytest.raises(ManifestError, match="have no ok relevant image"):
        aggregate(store, MetricsSettings(no_relevant="error", **BOTH | {"relevant_by": ["image_url"]}))
    for wrong in ({"query_where": {"a": 1}}, {"new_classes": {"b": ["x"]}, "relevant_by": ["a"]}):
        with pytest.raises(ValueError, match="relevant_by"):
            MetricsSettings(**wrong)
    zero = aggregate(store, MetricsSettings(no_relevant="zero", **BOTH))["metrics"]
    assert zero["category/leave_self_out/map"]["n"] >= zero["category/item_level/map"]["n"] // 3 > 0


def test_runs_are_compared_in_pairs_by_notion_and_protocol(tmp_path):
    rows, texts = similar_rows()
    a = write_run(tmp_path / "a", rows, texts, COLUMNS)
    noise = np.random.default_rng(5)
    other = [r | {"embedding": r["embedding"] if r["embedding"] is None else unit(noise.normal(size=16))} for r in rows]
    b = write_run(tmp_path / "b", other, texts, COLUMNS)
    for store in (a, b):
        aggregate(store, MetricsSettings(**BOTH))
    plain = MetricsSettings(**BOTH)
    result = compare(a, b, plain)
    found = result["metrics"]
    for column, protocol in (("category", "leave_self_out"), ("metal", "item_level")):
        first, second = (twin(r, column, protocol) for r in (rows, other))
        pairs = [(average_precision(first[q][1]), average_precision(second[q][1])) for q in first if any(first[q][1])]
        m = found[f"{column}/{protocol}/map"]
        difference = np.array([y - x for x, y in pairs])
        assert m["n"] == len(pairs) and m["difference"] == pytest.approx(difference.mean(), abs=1e-12)
        assert (m["wins"], m["losses"]) == ((difference > 0).sum(), (difference < 0).sum())
        counts = result["relevant_by"][f"{column}/{protocol}"]
        assert counts["paired"] == len(first) and counts["without_relevant"] == len(first) - len(pairs)
    for key in ("category/leave_self_out/", "metal/item_level/"):
        own = {name: m for name, m in found.items() if name.startswith(key)}
        assert [m["p_holm"] for m in own.values()] == pytest.approx(holm([m["p_value"] for m in own.values()]))
    for store in (a, b):
        aggregate(store, MetricsSettings(**BOTH | {"relevant_by": []}), name="plain")
    alone = compare(a, b, plain, name="plain")["metrics"]
    assert {name: m for name, m in found.items() if "/" not in name} == alone
    assert len(answer(found, 0.95)) < 1_000

    aggregate(b, MetricsSettings(item_queries="one", **BOTH))
    with pytest.raises(RunMismatchError, match="what is similar"):
        compare(a, b, plain)


def test_only_notions_can_be_compared_where_items_have_one_image(tmp_path):
    rows, texts = similar_rows()
    for i, row in enumerate(rows):
        row["item_id"] = f"item{i}"
    stores = [write_run(tmp_path / name, rows, texts, COLUMNS) for name in "ab"]
    for store in stores:
        aggregate(store, MetricsSettings(**BOTH))
    result = compare(*stores, MetricsSettings(**BOTH))
    assert result["answer"].startswith("A and B do not differ: category/leave_self_out/map")
    assert all("/" in name for name in result["metrics"]) and result["queries"]["without_relevant"] > 0


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_an_order_puts_equal_scores_as_a_stable_sort_does(digits):
    scores = np.round(np.random.default_rng(digits).normal(size=3_000), digits)
    assert (whole.best_first(scores) == np.argsort(-scores, kind="stable")).all()
    assert whole.best_first(np.empty(0)).tolist() == []
