"""Metrics of a run from its stored rows: nothing is downloaded, no model runs.

`aggregate` reads scores/ and texts/ and writes into metrics/:

    metrics.json        {"hit_rate@5": {"value", "low", "high", "n"}, ...}; null where not defined
    per_query.parquet   query_id, item_id, text, num_relevant, first_rank, a column per metric; of images image_url
    top.parquet         query_id, rank, row_id, item_id, image_url, score, relevant, file, row_index, part:
                        "top", or "low_relevant" for the relevant images with the lowest ranks
    slices.parquet      column, value, metric, estimate, low, high, n
    pairs.parquet       pair_id, row_id_a/b, ctr_a/b, score_a/b, label, prediction, correct, margin
    curves.json         retrieval over K, cmc, histogram, reliability, roc
    about.json          counts, rules, what was left out and why

A query is a distinct (item, text), or with metrics.query: image an ok row, whose query_id is its row_id and whose
gallery lacks its own picture. The gallery is all ok rows; relevant are rows of the same item, or what a qrels file
says. Leaves out: reading (scan.py, search/gallery.py), retrieval (retrieval.py), pairs
(pairs.py), table layouts (tables.py), definitions (metrics/).
"""

from typing import Any

import pandas as pd
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.evaluation import pairs as ab
from aistudio.evaluation import scan as rows
from aistudio.evaluation.queries import MIXED
from aistudio.evaluation.results import Results, slice_rows
from aistudio.evaluation.retrieval import add_retrieval
from aistudio.runs import layout
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.store import Store

TIE_RULE = "higher score first, equal scores in manifest order"


def aggregate(store: Store, settings: MetricsSettings, mapper: Mapper | None = None) -> dict[str, Any]:
    """Compute all metrics of a run and write them.

    Args:
        store: the run folder.
        settings: K list, bootstrap, slices, qrels, policy for queries without a relevant image.
        mapper: where the work is done; None: in this process.

    Returns:
        {"metrics": what metrics.json holds, "about": what about.json holds}.

    Raises:
        StoreError: no scores, or a damaged file.
        ConfigError: a slice column or qrels file that does not exist.
        ManifestError: metrics.no_relevant is `error` and a query has no relevant image.
    """
    files = rows.score_files(store)
    mapper, results = mapper or InProcess(), Results()
    scans = list(mapper.map(rows.scan_files, mapper.groups(files), store, settings))
    status = sum((s.status for s in scans), scans[0].status.__class__())
    results.about = {"rows": status.total(), "status": dict(status.most_common()), "files": len(files)}
    results.about |= {"ties": TIE_RULE, "no_relevant": settings.no_relevant}
    add_retrieval(store, files, scans, settings, mapper, results)
    pair_rows = [s.pairs for s in scans if s.pairs is not None and len(s.pairs)]
    if pair_rows:
        _pairs(store, pd.concat(pair_rows, ignore_index=True), settings, results)
    else:
        store.delete(layout.metrics_key("pairs.parquet"))  # of an earlier aggregation
    return results.write(store)


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
    for column in (c for c in settings.slices if c != "pair_id"):  # which cuts nothing
        values = ab.slice_values(joined, f"{rows.SLICE}{column}", MIXED)
        out.slices += slice_rows(column, values, per_pair, settings)
    table = pa.Table.from_pandas(ab.table(joined), preserve_index=False)
    store.write_table(layout.metrics_key("pairs.parquet"), table)
