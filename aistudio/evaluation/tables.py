"""Tables of metrics/: their layout, and the rows that have to be looked up again in scores/.

Leaves out: computing what is in them (aggregate.py).
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from aistudio.evaluation.place import Place
from aistudio.metrics import retrieval
from aistudio.runs.mapper import Mapper
from aistudio.search.exact import Found
from aistudio.search.gallery import ID_STEP, File
from aistudio.search.lookup import rows_at

LOW_SHOWN = 6  # relevant images with the lowest ranks, per query
TOP_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()), ("rank", pa.int64()), ("row_id", pa.string()), ("item_id", pa.string()),
        ("image_url", pa.string()), ("score", pa.float64()), ("relevant", pa.bool_()), ("file", pa.string()),
        ("row_index", pa.int64()), ("part", pa.string()),
    ]
)  # fmt: skip
SLICE_SCHEMA = pa.schema(
    [
        ("column", pa.string()), ("value", pa.string()), ("metric", pa.string()), ("estimate", pa.float64()),
        ("low", pa.float64()), ("high", pa.float64()), ("n", pa.int64()),
    ]
)  # fmt: skip


QUERIES_AT_ONCE = 50_000  # of top.parquet: one Arrow column of strings holds 2 GiB at most


def write_per_query(
    place: Place, queries: pd.DataFrame, items: retrieval.Relevant, first: Any, metrics: dict[str, Any]
) -> None:
    ranked = pa.array(np.where(np.isinf(first), 0, first).astype(np.int64), mask=np.isinf(first))
    columns = [c for c in ("query_id", "item_id", "text", "image_url") if c in queries]
    names = {c: pa.array(queries[c].tolist(), pa.string()) for c in columns}
    table = pa.table({**names, "num_relevant": items.num_Q, "first_rank": ranked, **metrics})
    place.write_table("per_query.parquet", table)


def write_top(place: Place, files: list[File], queries: pd.DataFrame, found: Found, mapper: Mapper) -> None:
    """The best images of each query and its relevant ones with the lowest ranks, with their places in scores/."""
    query, rank, ids, score, is_low = _shown(found)
    wanted, position = np.unique(ids, return_inverse=True)
    relevant = np.isin(query * len(wanted) + position, _codes(found, wanted))
    details = rows_at(place.store, files, wanted, ["row_id", "item_id", "image_url"], mapper)
    names = pa.array(queries["query_id"].tolist(), pa.string())
    keys = pa.array([key for _, key in files], pa.string())
    parts = []
    for start in range(0, max(len(queries), 1), QUERIES_AT_ONCE):
        part = slice(*np.searchsorted(query, [start, start + QUERIES_AT_ONCE]))
        own = details.take(pa.array(position[part]))
        columns = {
            "query_id": names.take(pa.array(query[part])), "rank": rank[part], **{c: own[c] for c in own.column_names},
            "score": score[part], "relevant": relevant[part], "file": keys.take(pa.array(ids[part] // ID_STEP)),
            "row_index": ids[part] % ID_STEP,
            "part": pa.array(["top", "low_relevant"]).take(pa.array(is_low[part].astype(np.int64))),
        }  # fmt: skip
        parts.append(pa.table({name: columns[name] for name in TOP_SCHEMA.names}).cast(TOP_SCHEMA))
    place.write_table("top.parquet", pa.concat_tables(parts))


def _shown(found: Found) -> tuple[Any, ...]:
    """query, rank, id, score and whether it is a low relevant one, of the rows of top.parquet, by query and rank."""
    query, place = np.nonzero(found.top_ids_QK >= 0)
    order = np.lexsort((found.rank_P, found.query_P))
    low_query = found.query_P[order]
    ends = np.searchsorted(low_query, low_query, side="right")
    order = order[ends - np.arange(len(order)) <= LOW_SHOWN]
    order = order[found.rank_P[order] > found.top_ids_QK.shape[1]]
    order = order[np.isfinite(found.score_P[order])]  # of given scores a row may have none
    columns = [
        (query, found.query_P[order]), (place + 1, found.rank_P[order]),
        (found.top_ids_QK[query, place], found.id_P[order]), (found.top_scores_QK[query, place], found.score_P[order]),
        (np.zeros(len(query), dtype=bool), np.ones(len(order), dtype=bool)),
    ]  # fmt: skip
    whole = [np.concatenate(c) for c in columns]
    order = np.lexsort((whole[1], whole[0]))
    return tuple(c[order] for c in whole)


def _codes(found: Found, wanted: Any) -> Any:
    """The relevant pairs among the rows that are shown, as query * len(wanted) + place."""
    place = np.minimum(np.searchsorted(wanted, found.id_P), max(len(wanted) - 1, 0))
    shown = wanted[place] == found.id_P if len(wanted) else np.zeros(len(place), dtype=bool)
    return found.query_P[shown] * len(wanted) + place[shown]
