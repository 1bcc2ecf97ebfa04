"""Retrieval metrics of a run: queries, search, values per query, intervals, slices, curves, tables.

Leaves out: definitions (metrics/retrieval.py) and A/B pairs (pairs.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from aistudio.config import MetricsSettings
from aistudio.errors import ManifestError
from aistudio.evaluation import tables
from aistudio.evaluation.definition import RowsDigest, definition
from aistudio.evaluation.other import Other
from aistudio.evaluation.place import Place
from aistudio.evaluation.queries import image_queries, say_nothing, slice_values, text_queries
from aistudio.evaluation.results import Results, slice_rows
from aistudio.evaluation.scan import Scan, merge_drawn, merge_queries
from aistudio.metrics import retrieval, significance
from aistudio.runs.mapper import Mapper
from aistudio.schema import Status
from aistudio.search.exact import HISTOGRAM_EDGES, Found, Gallery, count_scores, search
from aistudio.search.pace import Pace
from aistudio.search.qrels import Judgements
from aistudio.search.queries import Queries

CURVE_K = 100
TOP_SHOWN = (12, 50)  # images stored per query: at least, at most


def add_retrieval(
    place: Place, gallery: Gallery, scans: Sequence[Scan], settings: MetricsSettings, mapper: Mapper, out: Results,
    other: Other | None = None,
) -> None:  # fmt: skip
    """Compute and write what is asked with texts or images; `out.about` has the status counts already.

    Args:
        other: what is judged in place of the run's own vectors.

    Raises:
        ConfigError: the qrels file cannot be used.
        ManifestError: metrics.no_relevant is `error` and a query has no relevant image.
        StoreError: a file is damaged, or vectors are of different models.
    """
    merged = merge_queries([s.queries for s in scans], settings.slices)
    other = other or Other()
    nothing = other.nothing or (say_nothing(merged) if settings.query == "text" else None)
    queries, judged = _queries(gallery, scans, merged[:0] if nothing else merged, settings, mapper, other)
    out.notes += [nothing] if nothing else queries.notes
    if len(queries) < queries.num_all:
        out.notes.append(
            f"queries sampled: {len(queries):,} of {queries.num_all:,}; set metrics.max_queries: null for all"
        )
    num_ok = out.about["status"].get(Status.OK.value, 0)
    if nothing is None and (not len(queries) or not num_ok):
        out.notes.append("there are no queries" if num_ok else "no image is ok: the gallery is empty")
        queries = replace(queries, frame=queries.frame[:0])
    shown = min(max(TOP_SHOWN[0], *settings.k), TOP_SHOWN[1])
    find = other.find or search
    found = find(gallery, queries, shown, settings.block_rows, mapper, Pace(num_ok, len(queries)))
    items = retrieval.relevant(found.query_P, found.rank_P, len(queries), found.gain_P)
    out.about |= {
        "gallery_rows": found.gallery_rows,
        "failed_rows": out.about["rows"] - num_ok,
        "query": settings.query,
        "queries": len(queries),
        "queries_drawn_from": queries.num_all,
        "queries_without_relevant": int((items.num_Q == 0).sum()),
        "relevance": settings.qrels or "same item_id",
        "not_computed": nothing,
        "definition": definition(
            place.store, settings, sum((s.gallery for s in scans), RowsDigest()), judged.sha256 if judged else None,
            len(queries), queries.num_all,
        ) | dict(other.definition),
    }  # fmt: skip
    used = _policy(items, queries.frame, settings, out)
    per_query, first = retrieval.per_query(items, settings.k), retrieval.first_rank(items)
    if nothing is None:
        _measure(per_query, first, used, queries.frame, settings, out)
        out.curves |= _curves(items, used, found)
        if other.find is None:
            out.curves["histogram"] = _histogram(found)
    tables.write_per_query(place, queries.frame, items, first, per_query)
    tables.write_top(place, list(gallery.files), queries.frame, found, mapper)


def _queries(
    gallery: Gallery, scans: Sequence[Scan], merged: pd.DataFrame, settings: MetricsSettings, mapper: Mapper,
    other: Other,
) -> tuple[Queries, Judgements | None]:  # fmt: skip
    if settings.query == "text":
        return text_queries(gallery.store, gallery.files, merged, settings, mapper, other.text_vectors)
    drawn = merge_drawn([s.images for s in scans], settings.max_queries)
    return image_queries(gallery, drawn.ids, drawn.num_all, settings, mapper)


def _measure(
    per_query: dict[str, Any], first: Any, used: Any, frame: pd.DataFrame, settings: MetricsSettings, out: Results
) -> None:
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    intervals = significance.bootstrap_means(np.column_stack([v[used] for v in per_query.values()]), *how)
    out.metrics |= dict(zip(per_query, intervals, strict=True))
    # only with the policy `zero` is any of them inf
    ranked = np.where(np.isinf(first), out.about["gallery_rows"] + 1, first)[used]
    out.metrics["median_rank"] = significance.bootstrap(
        lambda w: significance.weighted_median(ranked, w), len(ranked), *how
    )
    for column in settings.slices:
        values = [v for v, u in zip(slice_values(frame, column), used, strict=True) if u]
        out.slices += slice_rows(column, values, {n: v[used] for n, v in per_query.items()}, settings)


def _policy(items: retrieval.Relevant, queries: pd.DataFrame, settings: MetricsSettings, out: Results) -> Any:
    """Which queries count. Raises ManifestError under the policy `error`."""
    without = items.num_Q == 0
    if not without.any():
        return ~without
    names = ", ".join(queries["query_id"][without][:3])
    message = f"{without.sum()} of {len(without)} queries have no ok relevant image in the gallery, e.g. {names}"
    if settings.no_relevant == "error":
        raise ManifestError(f"{message}; metrics.no_relevant is error: skip or zero would go on")
    fate = "left out" if settings.no_relevant == "skip" else "count as 0"
    out.notes.append(f"{message}: {fate} (metrics.no_relevant: {settings.no_relevant})")
    return ~without if settings.no_relevant == "skip" else np.ones(len(without), dtype=bool)


def _curves(items: retrieval.Relevant, used: Any, found: Found) -> dict[str, Any]:
    ks = range(1, CURVE_K + 1)
    shapes = {"hit_rate": retrieval.hit_rate, "recall": retrieval.recall, "precision": retrieval.precision}
    retrieved = {
        name: [float(f(items, k)[used].mean()) for k in ks] if used.any() else [] for name, f in shapes.items()
    }
    cmc = retrieval.cmc(items, CURVE_K)
    return {
        "retrieval": {"k": list(ks), **retrieved, "queries": int(np.sum(used))},
        "cmc": {"rank": list(ks), "share": [] if np.isnan(cmc).any() else cmc.tolist()},
    }


def _histogram(found: Found) -> dict[str, Any]:
    own = np.isin(found.query_P, found.sampled_queries)
    return {
        "edges": HISTOGRAM_EDGES.round(3).tolist(),
        "relevant": count_scores(found.score_P).tolist(),
        "irrelevant": np.maximum(found.histogram - count_scores(found.score_P[own]), 0).tolist(),
        "sampled_queries": len(found.sampled_queries),  # of the irrelevant counts; relevant ones are complete
    }
