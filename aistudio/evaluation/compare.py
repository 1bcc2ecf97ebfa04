"""Is run B better than run A? Paired by query and by pair, from what `aggregate` stored of both.

Both runs answer the same questions, so differences are taken question by question: that takes out how hard each one
is. Queries are paired by query_id, pairs by pair_id; those that only one run has are counted and left out. Writes
metrics/compare_<name of A>.json into B:

    {"a", "b", "queries": {"paired", "only_a", "only_b", "without_relevant"}, "pairs": {...},
     "metrics": {name: {"a", "b", "difference", "low", "high", "p_value", "p_holm", "wins", "ties", "losses", "n"}},
     "changed": [{"query_id", "text", "a", "b", "difference", "first_rank_a", "first_rank_b"}],
     "changed_metric": "map", "confidence", "samples"}

`difference` is B minus A; wins are the queries on which B is better. Leaves out: the tests themselves
(metrics/significance.py).
"""

from typing import Any

import numpy as np
import pandas as pd

from aistudio.config import MetricsSettings
from aistudio.errors import StoreError
from aistudio.metrics.significance import bootstrap_means, holm, randomisation_test
from aistudio.runs import layout
from aistudio.store import Store

PER_QUERY = layout.metrics_key("per_query.parquet")
PERMUTATIONS = 10_000
PERMUTED_VALUES = 100_000_000  # signs drawn per metric at most: fewer permutations for very many queries
MIN_PERMUTATIONS = 999
CHANGED = 50
CHANGED_METRIC = "map"  # moves with every relevant image, not only with the first
_NOT_METRICS = ("query_id", "item_id", "text", "image_url", "num_relevant", "first_rank")


def compare(a: Store, b: Store, settings: MetricsSettings) -> dict[str, Any]:
    """Compare two aggregated runs and write the result into B.

    Args:
        a: the run to beat.
        b: the run in question.
        settings: bootstrap samples, confidence, seed, and the policy for queries without relevant images.

    Returns:
        What the written file holds; see the module.

    Raises:
        StoreError: a run has not been aggregated, the runs were asked different kinds of queries, or they share no
            query and no pair.
    """
    result: dict[str, Any] = {"a": a.root, "b": b.root, "metrics": {}, "changed": []}
    queries = _joined(a, b, "per_query", "query_id")
    if queries is None:
        raise StoreError(f"{_missing(a, b)} has no {PER_QUERY}: run `aggregate` on it first")
    both, result["queries"] = queries
    kind_a, kind_b = _query_kind(a), _query_kind(b)
    if kind_a != kind_b:
        raise StoreError(
            f"{a.root} was aggregated with metrics.query: {kind_a}, {b.root} with {kind_b}: aggregate both alike"
        )
    has = (both["num_relevant_a"] > 0) & (both["num_relevant_b"] > 0)
    result["queries"]["without_relevant"] = int((~has).sum())
    both = both if settings.no_relevant == "zero" else both[has]
    values = {name: (both[f"{name}_a"], both[f"{name}_b"]) for name in _metrics(both)}
    result["changed_metric"], result["changed"] = CHANGED_METRIC, _changed(both)
    pairs = _joined(a, b, "pairs", "pair_id")
    if pairs is not None:
        joined, result["pairs"] = pairs
        values["pairwise_accuracy"] = (joined["correct_a"].astype(float), joined["correct_b"].astype(float))
    if not any(len(v) for v, _ in values.values()):
        raise StoreError(f"{a.root} and {b.root} share no query with a relevant image and no pair: nothing to compare")
    result["metrics"] = _measure(values, settings)
    result |= {"confidence": settings.confidence, "samples": settings.bootstrap_samples}
    b.write_json(layout.comparison_key(run_name(a)), result)
    return result


def run_name(store: Store) -> str:
    """Last part of the run folder's path, safe in a file name."""
    name = store.root.rstrip("/").rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "run"


def _joined(a: Store, b: Store, table: str, key: str) -> tuple[pd.DataFrame, dict[str, int]] | None:
    """Rows of both runs, with `_a` and `_b` columns, and how many each has alone. None: a run lacks the table."""
    path = layout.metrics_key(f"{table}.parquet")
    if not (a.exists(path) and b.exists(path)):
        return None
    frames = [store.read_table(path, verify=True).to_pandas().set_index(key, drop=False) for store in (a, b)]
    both = frames[0].join(frames[1], how="inner", lsuffix="_a", rsuffix="_b")
    counts = {"paired": len(both), "only_a": len(frames[0]) - len(both), "only_b": len(frames[1]) - len(both)}
    return both.reset_index(drop=True), counts


def _missing(a: Store, b: Store) -> str:
    return next(s.root for s in (a, b) if not s.exists(PER_QUERY))


def _query_kind(store: Store) -> str:
    about = layout.metrics_key("about.json")
    return str(store.read_json(about).get("query", "text")) if store.exists(about) else "text"


def _metrics(both: pd.DataFrame) -> list[str]:
    """Metrics that both runs have. cmc@K is hit_rate@K: counting it twice would only cost the others in Holm's test."""
    names = [str(c)[:-2] for c in both if str(c).endswith("_a")]
    return [n for n in names if n not in _NOT_METRICS and not n.startswith("cmc@") and f"{n}_b" in both]


def _measure(values: dict[str, tuple[pd.Series, pd.Series]], settings: MetricsSettings) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, (column_a, column_b) in values.items():
        first, second = column_a.to_numpy(float), column_b.to_numpy(float)
        difference = second - first
        if not len(difference):
            continue
        samples = min(PERMUTATIONS, max(MIN_PERMUTATIONS, PERMUTED_VALUES // len(difference)))
        how = (settings.bootstrap_samples, settings.confidence, settings.seed)
        interval = bootstrap_means(difference[:, None], *how)[0]
        found[name] = {
            "a": float(first.mean()), "b": float(second.mean()),
            "difference": interval.value, "low": interval.low, "high": interval.high,
            "p_value": randomisation_test(difference, samples, settings.seed),
            "wins": int((difference > 0).sum()), "ties": int((difference == 0).sum()),
            "losses": int((difference < 0).sum()), "n": len(difference),
        }  # fmt: skip
    for name, corrected in zip(found, holm([m["p_value"] for m in found.values()]), strict=True):
        found[name]["p_holm"] = float(corrected)
    return found


def _changed(both: pd.DataFrame) -> list[dict[str, Any]]:
    """The queries that changed most, the largest change first, gains and losses alike; unchanged ones never."""
    if f"{CHANGED_METRIC}_a" not in both or not len(both):
        return []
    difference = both[f"{CHANGED_METRIC}_b"] - both[f"{CHANGED_METRIC}_a"]
    order = np.argsort(-difference.abs().to_numpy(), kind="stable")[:CHANGED]
    return [
        {
            "query_id": row["query_id_a"],
            "text": row["text_a"],
            "a": float(row[f"{CHANGED_METRIC}_a"]),
            "b": float(row[f"{CHANGED_METRIC}_b"]),
            "difference": float(difference.iloc[i]),
            "first_rank_a": _rank(row["first_rank_a"]),
            "first_rank_b": _rank(row["first_rank_b"]),
        }
        for i, row in ((i, both.iloc[i]) for i in order)
        if difference.iloc[i] != 0
    ]


def _rank(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
