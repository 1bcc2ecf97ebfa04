"""Metrics of a search from its lists, where queries say what is relevant.

Lists end somewhere, so there are metrics at K alone, for K within the lists: hit_rate, recall, precision, map, ndcg.
Relevant is what the query's gallery holds: a relevant row that failed or is left out counts nowhere. Names carry the
protocol as a prefix unless it is the default one. `reference/...` are the numbers that published code prints for a data
set; for comparison with its papers' tables alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aistudio.config import MetricsSettings, SearchSettings
from aistudio.metrics import composed, retrieval, significance
from aistudio.metrics.relevant import Relevant, relevant
from aistudio.search.pairs import Floats, Ints

AT_K = {
    "hit_rate": retrieval.hit_rate,
    "recall": retrieval.recall,
    "precision": retrieval.precision,
    "map": retrieval.average_precision,
    "ndcg": retrieval.ndcg,
}
BY_ID = "fashioniq"  # one picture is right, by its id; in the other data sets every picture of the caption


@dataclass(frozen=True)
class Judged:
    """Metrics with intervals, and of each query: how many results are relevant, and the rank of the first (inf)."""

    metrics: dict[str, dict[str, float | int | None]]
    num_relevant_Q: Ints
    first_rank_Q: Floats
    quality_Q: Floats  # map at the largest K
    items: Relevant


def judge(
    results: tuple[Ints, Ints, Sequence[str]], wanted: tuple[Ints, Sequence[str]], counted_Q: Any, ks: Sequence[int],
    settings: MetricsSettings, prefix: str,
) -> Judged:  # fmt: skip
    """Judge lists.

    Args:
        results: query, rank and key (item or row id) of each result.
        wanted: query and key of what is relevant; a key may occur several times.
        counted_Q: (Q,) whether the query was asked and says what is relevant.
        ks: none is larger than the lists are long.
        settings: of the intervals.
    """
    keys: list[dict[str, int]] = [{} for _ in counted_Q]
    for q, key in zip(wanted[0].tolist(), wanted[1], strict=True):
        keys[q][key] = 0
    for q, rank, key in zip(results[0].tolist(), results[1].tolist(), results[2], strict=True):
        if key in keys[q]:
            keys[q][key] = rank
    query_P, rank_P = [], []
    beyond = max([*ks, *results[1].tolist()], default=1)
    for q, found in enumerate(keys):
        missing = 0
        for rank in found.values():
            missing += rank == 0
            query_P.append(q)
            rank_P.append(rank or beyond + missing)  # behind every list: counts for no K
    items = relevant(query_P, rank_P, len(counted_Q))
    used = np.asarray(counted_Q, dtype=bool) & (items.num_Q > 0)
    values = {f"{name}@{k}": metric(items, k) for name, metric in AT_K.items() for k in ks}
    table = np.column_stack([v[used] for v in values.values()])
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    intervals = significance.bootstrap_means(table, *how)
    metrics = {
        f"{prefix}{name}": {"value": i.value, "low": i.low, "high": i.high, "n": i.n}
        for name, i in zip(values, intervals, strict=True)
    }
    first = retrieval.first_rank(items)
    return Judged(
        metrics, items.num_Q, np.where(first > beyond, np.inf, first), values[f"map@{max(ks)}"], items
    )  # fmt: skip


def protocol_prefix(settings: SearchSettings, per: str, leave_out: Sequence[str], dataset: str | None) -> str:
    """Return what stands before a metric's name; nothing for items without the query's own item and its copies."""
    if dataset is not None:
        gallery: Any = "per_category" if settings.filter else "pooled"
        by: Any = "id" if dataset == BY_ID else "caption"
        prefix = composed.Protocol(by, gallery, bool({"row", "item"} & set(leave_out)), settings.text).prefix
        extra = _changes(settings, "row", per, [], filters=False)
        return prefix if not extra else f"{prefix[:-1]}+{extra}/"
    extra = _changes(settings, "item", per, leave_out if set(leave_out) != {"item", "copies"} else [], filters=True)
    if not leave_out:
        extra = "+".join(part for part in (extra, "query_kept") if part)
    return f"given/{extra}/" if extra else ""


def _changes(settings: SearchSettings, usual: str, per: str, leave_out: Sequence[str], *, filters: bool) -> str:
    """Return the settings that differ from the defaults, as words joined by +."""
    parts = [per] if per != usual else []
    parts += [f"{what}_removed" for what in leave_out]
    parts += ["mean"] if settings.item_score == "mean" else []
    parts += [f"near_{settings.duplicate_cosine:g}_removed"] if settings.duplicate_cosine is not None else []
    parts += [f"same_{ours}" for _, ours in settings.filter_columns] if filters else []
    parts += [f"where_{column}" for column in settings.where]
    parts += [f"{n}_per_{column}" for column, n in settings.diversify.items()]
    return "+".join(parts).replace("/", "_")


def reference_metrics(
    dataset: str, ranked_QR: Ints, gallery: Mapping[str, Sequence[str]], queries: Mapping[str, Sequence[str]],
    ks: Sequence[int], text: str = "modification",
) -> dict[str, dict[str, float | int | None]]:  # fmt: skip
    """Compute what the data set's published code prints, under its names.

    With `text: complete` the query says itself what is right, and published tables hold both kinds under one name:
    here their names begin with `reference/complete_text/`.

    Args:
        ranked_QR: places in `gallery` of each query's rows, best first, -1 beyond a list's end.
        gallery: `caption` or, of FashionIQ, `row_id` of the rows that are listed.
        queries: `target` (caption or row id) and, of FashionIQ, `category`.
    """
    if dataset == BY_ID:
        found = composed.by_id(
            ranked_QR, gallery["row_id"], queries["target"], queries["category"], ks, as_published=True
        )
    else:
        found = composed.by_caption(ranked_QR, gallery["caption"], queries["target"], ks)
    named = composed.reference_names(found)
    num = len(ranked_QR)
    prefix = "reference/complete_text/" if text == "complete" else "reference/"
    return {
        f"{prefix}{name}": {"value": None if np.isnan(v) else v, "low": None, "high": None, "n": num}
        for name, v in named.items()
    }
