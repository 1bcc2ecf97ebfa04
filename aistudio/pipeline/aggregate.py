"""Metrics of a run from its stored rows: nothing is downloaded, no model runs.

`aggregate` reads scores/ and texts/ and writes into metrics/:

    metrics.json        {"hit_rate@5": {"value", "low", "high", "n"}, ...}; null where not defined
    per_query.parquet   query_id, item_id, text, num_relevant, first_rank, a column per metric
    top.parquet         query_id, rank, row_id, item_id, image_url, score, relevant, file, row_index, part:
                        "top", or "low_relevant" for the relevant images with the lowest ranks
    slices.parquet      column, value, metric, estimate, low, high, n
    pairs.parquet       pair_id, row_id_a/b, ctr_a/b, score_a/b, label, prediction, correct, margin
    curves.json         retrieval over K, cmc, histogram, reliability, roc
    about.json          counts, rules, what was left out and why

A query is a distinct (item, text); the gallery is all ok rows; relevant are rows of the same item, or what a qrels
file says. Leaves out: reading (_aggregate_rows, _aggregate_gallery), search (_aggregate_search), pairs
(_aggregate_pairs), table layouts (_aggregate_tables), definitions (metrics/).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from aistudio.config import EngineSettings, MetricsSettings
from aistudio.errors import ManifestError
from aistudio.metrics import retrieval, significance
from aistudio.metrics.significance import Interval
from aistudio.metrics.slices import groups as slice_groups
from aistudio.pipeline import _aggregate_pairs as ab
from aistudio.pipeline import _aggregate_rows as rows
from aistudio.pipeline import _aggregate_tables as tables
from aistudio.pipeline._aggregate_gallery import File
from aistudio.pipeline._aggregate_search import HISTOGRAM_EDGES, Found, Workers, count_scores, search, workers
from aistudio.schema import Status
from aistudio.store import Store

CURVE_K = 100
TOP_SHOWN = (12, 50)  # images stored per query: at least, at most
TIE_RULE = "higher score first, equal scores in manifest order"


@dataclass
class Results:
    """What is written, beside the tables."""

    metrics: dict[str, Interval] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def aggregate(store: Store, settings: MetricsSettings, engine: EngineSettings | None = None) -> dict[str, Any]:
    """Compute all metrics of a run and write them.

    Args:
        store: the run folder.
        settings: K list, bootstrap, slices, qrels, policy for queries without a relevant image.
        engine: where Ray is, for runs large enough to need it.

    Returns:
        {"metrics": what metrics.json holds, "about": what about.json holds}.

    Raises:
        StoreError: no scores, or a damaged file.
        ConfigError: a slice column or qrels file that does not exist.
        ManifestError: metrics.no_relevant is `error` and a query has no relevant image.
    """
    files = rows.score_files(store)
    total_bytes = sum(e.size for e in store.list("scores/"))
    results = Results()
    with workers(total_bytes, engine or EngineSettings()) as pool:
        scans = list(pool.map(rows.scan_files, pool.groups(files), store, settings.slices))
        status = sum((s.status for s in scans), scans[0].status.__class__())
        queries = rows.merge_queries([s.queries for s in scans], settings.slices)
        results.about = {"rows": status.total(), "status": dict(status.most_common()), "files": len(files)}
        results.about |= {"ties": TIE_RULE, "no_relevant": settings.no_relevant}
        _retrieval(store, files, queries, settings, pool, results)
        pair_rows = [s.pairs for s in scans if s.pairs is not None and len(s.pairs)]
    if pair_rows:
        _pairs(store, pd.concat(pair_rows, ignore_index=True), settings, results)
    else:
        store.delete(f"{tables.FOLDER}/pairs.parquet")  # of an earlier aggregation
    return _write(store, results)


def _retrieval(
    store: Store, files: list[File], queries: pd.DataFrame, settings: MetricsSettings, pool: Workers, out: Results
) -> None:
    queries = queries.assign(query_id=rows.name_queries(queries))
    has, vectors = rows.text_vectors(store, queries["text"].tolist())
    if not has.all():
        out.notes.append(f"{(~has).sum()} of {len(has)} queries have no text vector in texts/ and are left out")
    queries = queries[has].reset_index(drop=True)
    ids, items = queries["query_id"].tolist(), queries["item_id"].tolist()
    if settings.qrels:
        relevance, notes = rows.read_qrels(settings.qrels, ids, items, store)
        out.notes += notes
    else:
        relevance = rows.relevance("item_id", items, range(len(items)), np.ones(len(items)))
    shown = min(max(TOP_SHOWN[0], *settings.k), TOP_SHOWN[1])
    num_ok = out.about["status"].get(Status.OK.value, 0)
    if not len(queries) or not num_ok:
        out.notes.append("no image is ok: the gallery is empty" if len(queries) else "there are no queries")
        queries, vectors = queries[:0], vectors[:0]
        files = []
    found = search(store, files, vectors, relevance, shown, settings.block_rows, pool) if files else _nothing(shown)
    items_found = retrieval.relevant(found.query_P, found.rank_P, len(queries), found.gain_P)
    out.about |= {
        "gallery_rows": found.gallery_rows,
        "failed_rows": out.about["rows"] - num_ok,
        "queries": len(queries),
        "queries_without_relevant": int((items_found.num_Q == 0).sum()),
        "relevance": settings.qrels or "same item_id",
    }
    used = _policy(items_found, queries, settings, out)
    per_query = retrieval.per_query(items_found, settings.k)
    first = retrieval.first_rank(items_found)
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    intervals = significance.bootstrap_means(np.column_stack([v[used] for v in per_query.values()]), *how)
    out.metrics |= dict(zip(per_query, intervals, strict=True))
    ranked = np.where(np.isinf(first), found.gallery_rows + 1, first)[used]  # only with the policy `zero` is any inf
    out.metrics["median_rank"] = significance.bootstrap(
        lambda w: significance.weighted_median(ranked, w), len(ranked), *how
    )
    for column in settings.slices:
        values = [v for v, u in zip(rows.slice_values(queries, column), used, strict=True) if u]
        out.slices += _slices(column, values, {n: v[used] for n, v in per_query.items()}, settings)
    out.curves |= _curves(items_found, used, found)
    tables.write_per_query(store, queries, items_found, first, per_query)
    tables.write_top(store, rows.score_files(store), queries, found, pool)


def _nothing(k: int) -> Found:
    none = np.empty(0, dtype=np.int64)
    empty = np.empty(0)
    bins = np.zeros(len(HISTOGRAM_EDGES) - 1, dtype=np.int64)
    return Found(none, none, empty, empty, none, np.empty((0, k)), np.empty((0, k), dtype=np.int64), none, bins, 0)


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


def _slices(column: str, values: list[Any], metrics: dict[str, Any], settings: MetricsSettings) -> list[dict[str, Any]]:
    """Rows of slices.parquet for one column; `metrics` are values per unit, NaN where a unit has none."""
    out = []
    how = (settings.bootstrap_samples, settings.confidence, settings.seed)
    whole = {name: v for name, v in metrics.items() if not name.startswith("cmc@")}
    for value, members in slice_groups(values, settings.min_slice_size).items():
        table = np.column_stack([v[members] for v in whole.values()])
        if np.isnan(table).any():
            found = [significance.bootstrap_means(c[~np.isnan(c)][:, None], *how)[0] for c in table.T]
        else:
            found = significance.bootstrap_means(table, *how)
        for name, i in zip(whole, found, strict=True):
            out.append({"column": column, "value": value, "metric": name, "estimate": i.value, **_bounds(i)})
    return out


def _curves(items: retrieval.Relevant, used: Any, found: Found) -> dict[str, Any]:
    ks = range(1, CURVE_K + 1)
    shapes = {"hit_rate": retrieval.hit_rate, "recall": retrieval.recall, "precision": retrieval.precision}
    retrieved = {
        name: [float(f(items, k)[used].mean()) for k in ks] if used.any() else [] for name, f in shapes.items()
    }
    own = np.isin(found.query_P, found.sampled_queries)
    cmc = retrieval.cmc(items, CURVE_K)
    return {
        "retrieval": {"k": list(ks), **retrieved, "queries": int(np.sum(used))},
        "cmc": {"rank": list(ks), "share": [] if np.isnan(cmc).any() else cmc.tolist()},
        "histogram": {
            "edges": HISTOGRAM_EDGES.round(3).tolist(),
            "relevant": count_scores(found.score_P).tolist(),
            "irrelevant": np.maximum(found.histogram - count_scores(found.score_P[own]), 0).tolist(),
            "sampled_queries": len(found.sampled_queries),  # of the irrelevant counts; relevant ones are complete
        },
    }


def _pairs(store: Store, pair_rows: pd.DataFrame, settings: MetricsSettings, out: Results) -> None:
    joined, left_out, score = ab.join_sides(pair_rows)
    out.about["pairs"] = {"used": len(joined), "left_out": left_out, "score": score}
    if score != "rank_score":
        out.notes.append("pairs are judged by recall_score: the run has no ranking model")
    if left_out:
        reasons = ", ".join(f"{n} because {reason}" for reason, n in left_out.items())
        out.notes.append(f"pairs left out: {reasons}")
    out.metrics |= ab.measure(joined, settings)
    out.curves |= ab.curves(joined)
    p = ab.as_pairs(joined)
    per_pair = {"pairwise_accuracy": ab.pair_metrics.correct(p)}
    per_pair["pairwise_accuracy_ties_half"] = ab.pair_metrics.correct_ties_half(p)
    for column in (c for c in settings.slices if f"{c}_a" in joined):  # pair_id itself cuts nothing
        out.slices += _slices(column, ab.slice_values(joined, column, rows.MIXED), per_pair, settings)
    table = pa.Table.from_pandas(ab.table(joined), preserve_index=False)
    store.write_table(f"{tables.FOLDER}/pairs.parquet", table)


def _bounds(interval: Interval) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "n": interval.n}


def _write(store: Store, results: Results) -> dict[str, Any]:
    """metrics.json last: its presence means that the other files are of the same aggregation."""
    metrics = {name: {"value": i.value, **_bounds(i)} for name, i in results.metrics.items()}
    about = results.about | {"notes": results.notes}
    slices = pa.Table.from_pylist(results.slices, schema=tables.SLICE_SCHEMA)
    store.write_table(f"{tables.FOLDER}/slices.parquet", slices)
    store.write_json(f"{tables.FOLDER}/curves.json", results.curves)
    store.write_json(f"{tables.FOLDER}/about.json", about)
    store.write_json(f"{tables.FOLDER}/metrics.json", metrics)
    return {"metrics": metrics, "about": about}
