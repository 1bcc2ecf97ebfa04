"""Queries of two aggregations under one notion and protocol, paired: what `compare` tests of relevant_by.parquet."""

import pandas as pd

from aistudio.evaluation.by_notion import PER_QUERY
from aistudio.runs import layout
from aistudio.store import Store

_KEYS = ["relevant_by", "protocol", "query_id"]
_NOT_METRICS = {*_KEYS, "value", "num_relevant", "gallery_rows", "first_rank"}
Pairs = dict[str, tuple[pd.Series, pd.Series]]  # metric -> its values in A and in B, query by query


def paired_notions(
    a: Store, b: Store, folders: tuple[str | None, str | None], no_relevant: str
) -> tuple[dict[str, Pairs], dict[str, dict[str, int]]]:
    """Pair the queries of both, for each notion and protocol that both have.

    Args:
        folders: of the two aggregations, None for metrics/ itself.
        no_relevant: metrics.no_relevant; unless it is `zero`, queries with nothing right in either are left out.

    Returns:
        By `<column>/<protocol>`: metrics by their whole names, and counts: paired, only_a, only_b, without_relevant.
        Both empty where one of the two has none.
    """
    keys = [layout.metrics_key(PER_QUERY, folder) for folder in folders]
    if not all(store.exists(key) for store, key in zip((a, b), keys, strict=True)):
        return {}, {}
    frames = [store.read_table(key, verify=True).to_pandas() for store, key in zip((a, b), keys, strict=True)]
    if not all(set(_KEYS) <= set(frame) for frame in frames):
        return {}, {}
    metrics = [str(c) for c in frames[0] if c not in _NOT_METRICS and c in frames[1] and not str(c).startswith("cmc@")]
    groups = [dict(list(frame.groupby(_KEYS[:2], sort=False))) for frame in frames]
    values: dict[str, Pairs] = {}
    counts: dict[str, dict[str, int]] = {}
    for (column, protocol), first in groups[0].items():
        if (second := groups[1].get((column, protocol))) is None:
            continue
        both = first.merge(second, on="query_id", suffixes=("_a", "_b"))
        has = (both["num_relevant_a"] > 0) & (both["num_relevant_b"] > 0)
        key = f"{column.replace('/', '_')}/{protocol}"
        counts[key] = {
            "paired": len(both), "only_a": len(first) - len(both), "only_b": len(second) - len(both),
            "without_relevant": int((~has).sum()),
        }  # fmt: skip
        kept = both if no_relevant == "zero" else both[has]
        values[key] = {f"{key}/{name}": (kept[f"{name}_a"], kept[f"{name}_b"]) for name in metrics}
    return values, counts
