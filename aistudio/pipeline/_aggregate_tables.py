"""Tables of metrics/: their layout, and the rows that have to be looked up again in scores/.

Leaves out: computing what is in them (aggregate.py).
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from aistudio.metrics import retrieval
from aistudio.pipeline._aggregate_gallery import ID_STEP, File
from aistudio.pipeline._aggregate_search import Found, Workers
from aistudio.store import Store

FOLDER = "metrics"
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


def write_per_query(
    store: Store, queries: pd.DataFrame, items: retrieval.Relevant, first: Any, metrics: dict[str, Any]
) -> None:
    ranked = pa.array(np.where(np.isinf(first), 0, first).astype(np.int64), mask=np.isinf(first))
    names = {c: pa.array(queries[c].tolist(), pa.string()) for c in ("query_id", "item_id", "text")}
    table = pa.table({**names, "num_relevant": items.num_Q, "first_rank": ranked, **metrics})
    store.write_table(f"{FOLDER}/per_query.parquet", table)


def write_top(store: Store, files: list[File], queries: pd.DataFrame, found: Found, pool: Workers) -> None:
    """The best images of each query and its relevant ones with the lowest ranks, with their places in scores/."""
    query, place = np.nonzero(found.top_ids_QK >= 0)
    top = pd.DataFrame({"query": query, "rank": place + 1, "id": found.top_ids_QK[query, place]})
    top = top.assign(score=found.top_scores_QK[query, place], part="top")
    pairs = pd.DataFrame({"query": found.query_P, "rank": found.rank_P, "id": found.id_P, "score": found.score_P})
    pairs = pairs.sort_values(["query", "rank"])
    low = pairs[pairs["rank"] > found.top_ids_QK.shape[1]].groupby("query").tail(LOW_SHOWN).assign(part="low_relevant")
    both = pd.concat([top, low], ignore_index=True).sort_values(["query", "rank"], kind="stable")
    known = pd.MultiIndex.from_arrays([pairs["query"], pairs["id"]])
    both["relevant"] = pd.MultiIndex.from_arrays([both["query"], both["id"]]).isin(known)
    both["row_index"] = both["id"] % ID_STEP
    wanted = np.unique(both["id"].to_numpy(np.int64))
    cuts = np.searchsorted(wanted, [n * ID_STEP for n, _ in files] + [len(files) * ID_STEP])
    todo = [(key, wanted[a:b] % ID_STEP) for (_, key), a, b in zip(files, cuts, cuts[1:], strict=False) if a < b]
    parts = list(pool.map(_details, todo, store))
    columns = ["file", "row_id", "item_id", "image_url"]
    details = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns, dtype=str)
    both = pd.concat(
        [both.reset_index(drop=True), details.iloc[np.searchsorted(wanted, both["id"])].reset_index(drop=True)], axis=1
    )
    both["query_id"] = queries["query_id"].to_numpy(object)[both["query"].to_numpy(int)]
    store.write_table(f"{FOLDER}/top.parquet", pa.Table.from_pandas(both, schema=TOP_SCHEMA, preserve_index=False))


def _details(place: tuple[str, Any], store: Store) -> pd.DataFrame:
    key, row_index = place
    table = store.read_table(key, ["row_id", "item_id", "image_url"]).take(pa.array(row_index))
    return table.to_pandas().assign(file=key)
