"""Metrics of a run from its stored rows: nothing is downloaded, no model runs.

`aggregate` reads scores/ and texts/ and writes into metrics/<name>/, of the run's first aggregation into metrics/ too:

    metrics.json        {"hit_rate@5": {"value", "low", "high", "n"}, ...}; null where not defined
    per_query.parquet   query_id, item_id, text, num_relevant, first_rank, a column per metric; of images image_url
    top.parquet         query_id, rank, row_id, item_id, image_url, score, relevant, file, row_index, part:
                        "top", or "low_relevant" for the relevant images with the lowest ranks
    slices.parquet      column, value, metric, estimate, low, high, n
    pairs.parquet       pair_id, row_id_a/b, ctr_a/b, score_a/b, label, prediction, correct, margin
    relevant_by.parquet relevant_by, protocol, query_id, value, num_relevant, gallery_rows, first_rank, metrics
    classes.parquet     relevant_by, protocol, value, metric, estimate, low, high, n, chance
    curves.json         retrieval over K, cmc, histogram, reliability, roc
    about.json          counts, rules, what was left out and why; `definition`: what the numbers are computed from

A query is a distinct (item, text) that has a text, or with metrics.query: image an ok row, whose query_id is its
row_id and whose gallery lacks its own picture. The gallery is all ok rows; relevant are rows of the same item, or what
a qrels file says. Leaves out: reading (scan.py, search/gallery.py), retrieval (retrieval.py), what metrics.relevant_by
adds (by_notion.py: relevant_by.parquet and classes.parquet), pairs (pairs.py), table layouts (tables.py), definitions
(metrics/).
"""

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.evaluation import pairs
from aistudio.evaluation import scan as rows
from aistudio.evaluation.by_notion import add_notions
from aistudio.evaluation.definition import differences, of_about
from aistudio.evaluation.other import Other
from aistudio.evaluation.place import Place, place_for
from aistudio.evaluation.queries import MIXED
from aistudio.evaluation.results import Results, slice_rows
from aistudio.evaluation.retrieval import add_retrieval
from aistudio.metrics import pairs as pair_metrics
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.search.exact import Gallery
from aistudio.search.gallery import File
from aistudio.search.keyed import KeyedTable, read_keyed
from aistudio.search.vectors import RECALL_VECTORS, VectorColumn, vector_column
from aistudio.store import Store

TIE_RULE = "higher score first, equal scores in manifest order"


def aggregate(
    store: Store, settings: MetricsSettings, mapper: Mapper | None = None, *, name: str | None = None,
    left_out: pa.Array | None = None, other: Other | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compute all metrics of a run and write them.

    Args:
        store: the run folder.
        settings: K list, bootstrap, slices, qrels, policy for queries without a relevant image.
        mapper: where the work is done; None: in this process.
        name: of the aggregation, which may live beside others (place.py); None: `text` or `image`.
        left_out: row ids that the gallery goes without although they are ok.
        other: somebody else's vectors or scores that are judged (given.py); never the run's first aggregation.

    Returns:
        {"metrics": what metrics.json holds, "about": what about.json holds}.

    Raises:
        StoreError: no scores, or a damaged file.
        ConfigError: a slice column or qrels file that does not exist.
        ManifestError: metrics.no_relevant is `error` and a query has no relevant image.
    """
    files = rows.score_files(store)
    gallery = (other and other.gallery) or Gallery(store, files, left_out, _vectors(store, settings, other))
    place = place_for(store, name or _name(settings))
    if other is not None:
        place = replace(place, is_first=False)
    mapper, results = mapper or InProcess(), Results()
    asked = rows.Asked(left_out, _pairs_file(store, files, settings), other.scores if other else None)
    scans = list(mapper.map(rows.scan_files, mapper.groups(files), store, settings, asked))
    status = sum((s.status for s in scans), scans[0].status.__class__())
    results.about = {"name": place.name, "rows": status.total(), "status": dict(status.most_common())}
    results.about |= {"files": len(files), "ties": TIE_RULE, "no_relevant": settings.no_relevant}
    results.about["rows_without_text"] = sum(s.without_text for s in scans)
    add_retrieval(place, gallery, scans, settings, mapper, results, other)
    add_notions(place, gallery, settings, mapper, results, other)
    results.about |= other.about if other else {}
    pair_rows = [s.pairs for s in scans if s.pairs is not None and len(s.pairs)]
    if pair_rows and (other is None or other.scores is not None):
        _pairs(place, pd.concat(pair_rows, ignore_index=True), asked, settings, results)
    else:
        place.delete("pairs.parquet")  # of an earlier aggregation
    _say_replaced(place, results)
    return results.write(place)


def _name(settings: MetricsSettings) -> str:
    """Return the name that an aggregation has unless the user gives one."""
    return settings.query if settings.encoder is None else f"{settings.query}_{settings.encoder}"


def _vectors(store: Store, settings: MetricsSettings, other: Other | None) -> VectorColumn:
    if other is not None and (other.find or other.nothing):
        return RECALL_VECTORS  # which nobody reads
    if settings.encoder is not None and settings.query == "text":
        raise ConfigError(
            f"metrics.encoder: {settings.encoder} is an image encoder and knows no texts; ask with images: "
            "--set metrics.query=image"
        )
    return vector_column(store, settings.encoder, "metrics.encoder")


def _say_replaced(place: Place, out: Results) -> None:
    earlier = place.earlier()
    if earlier is None:
        return
    changed = differences(of_about(earlier)[0], out.about["definition"])
    if changed:
        out.notes.append(
            f"this replaces the aggregation {place.name!r}, which was computed from something else "
            f"({'; '.join(changed)}): --name keeps both"
        )


def _pairs_file(store: Store, files: list[File], settings: MetricsSettings) -> KeyedTable | None:
    if settings.pairs is None:
        return None
    stored = store.read_metadata(files[0][1])[0].names
    needed, setting = list(rows.PAIR_COLUMNS), "metrics.pairs"
    return read_keyed(settings.pairs, setting, needed, [], settings.pairs_key, stored, store)


def _pairs(place: Place, pair_rows: pd.DataFrame, asked: rows.Asked, settings: MetricsSettings, out: Results) -> None:
    given = asked.pairs
    joined, left_out, score = pairs.join_sides(pair_rows)
    score = score if asked.scores is None else "given"
    if given is not None and (lost := given.frame["pair_id"].nunique() - pair_rows["pair_id"].nunique()):
        left_out["neither of its images is in this run"] = lost
    out.about["pairs"] = {"used": len(joined), "left_out": left_out, "score": score}
    if score == "recall_score":
        out.notes.append("pairs are judged by recall_score: the run has no ranking model")
    if left_out:
        reasons = ", ".join(f"{n} because {reason}" for reason, n in left_out.items())
        out.notes.append(f"pairs left out: {reasons}")
    out.metrics |= pairs.measure(joined, settings)
    out.curves |= pairs.curves(joined)
    p = pairs.as_pairs(joined)
    per_pair = {"pairwise_accuracy": pair_metrics.correct(p)}
    per_pair["pairwise_accuracy_ties_half"] = pair_metrics.correct_ties_half(p)
    for column in (c for c in settings.slices if c != "pair_id"):  # which cuts nothing
        values = pairs.slice_values(joined, f"{rows.SLICE}{column}", MIXED)
        out.slices += slice_rows(column, values, per_pair, settings)
    table = pa.Table.from_pandas(pairs.table(joined), preserve_index=False)
    place.write_table("pairs.parquet", table)
