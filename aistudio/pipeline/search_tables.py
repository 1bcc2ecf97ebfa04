"""The tables of a search, as they are stored under searches/<name>/, and what about.json says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from aistudio.runs.record import now
from aistudio.search.changes import kind_of_change
from aistudio.search.judging import Judged
from aistudio.search.listing import Lists
from aistudio.search.resolving import COMPOSED, Asked

if TYPE_CHECKING:
    from aistudio.pipeline.search import SearchPlan

QUERIES_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # text, picture, row, item, or picture and text
        pa.field("status", pa.string(), nullable=False),  # ok, a status of schema.py, bad_query, unknown_row, no_vector
        pa.field("error", pa.string()),
        pa.field("text", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("row_id", pa.string()),  # of its first stored picture
        pa.field("image_url", pa.string()),
        pa.field("num_pictures", pa.int64()),
        pa.field("num_results", pa.int64()),
        pa.field("num_relevant", pa.int64()),  # that its gallery holds; null: not known
        pa.field("first_rank", pa.int64()),  # of the first relevant result; null: none in the list
        pa.field("quality", pa.float64()),  # map at the largest K
        pa.field("relevant", pa.list_(pa.string())),
        pa.field("change", pa.string()),  # of a picture and text: colour, state, noun (search/changes.py)
        pa.field("thumbnail", pa.binary()),  # of a fresh picture
    ]
)
RESULTS_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("why", pa.string(), nullable=False),
        pa.field("relevant", pa.bool_()),  # null: not known
    ]
)
LEFT_OUT_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("query_id", "item_id", "row_id", "reason")]
)


class Tables:
    """Makes the tables of one search; `live` are the queries that were asked, `right` what is relevant to them."""

    def __init__(self, plan: SearchPlan, asked: list[Asked], live: list[Asked], right: set[tuple[int, str]]) -> None:
        self.plan, self.asked, self.live, self.right = plan, asked, live, right

    def results(self, found: Lists, names: dict[str, list[Any]], at: dict[int, int]) -> pa.Table:
        """results.parquet: the first top_n of each list."""
        kept = found.rank_R <= self.plan.config.search.top_n
        key, rows = f"{self.plan.per}_id", []
        columns = (found.query_R, found.rank_R, found.id_R, found.score_R, found.vector_R)
        for q, rank, row_id, score, vector in zip(*(c[kept].tolist() for c in columns), strict=True):
            one, place = self.live[q], at[row_id]
            known = one.query.relevant is not None
            rows.append(
                (
                    one.query.query_id, rank, names["item_id"][place], names["row_id"][place], score,
                    self._why(one, vector), (q, names[key][place]) in self.right if known else None,
                )
            )  # fmt: skip
        values: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in RESULTS_SCHEMA]
        return pa.table(dict(zip(RESULTS_SCHEMA.names, values, strict=True)), schema=RESULTS_SCHEMA)

    def _why(self, one: Asked, vector: int) -> str:
        if one.kind == "text":
            return "like the text"
        if one.kind == COMPOSED:
            return "like the picture as the text changes it"
        if one.kind == "picture":
            return "like the picture"
        if self.plan.config.search.item_score == "mean":
            return f"like the mean of {len(one.ids):,} pictures"
        return f"like {one.row_ids[vector] if vector < len(one.row_ids) else one.query.query_id}"

    def queries(self, results: pa.Table, judged: Judged | None) -> pa.Table:
        """queries.parquet: a row for each query, those that could not be asked too."""
        counts: dict[str, int] = {}
        for name in results["query_id"].to_pylist():
            counts[name] = counts.get(name, 0) + 1
        place = {id(one): q for q, one in enumerate(self.live)}
        rows = []
        for one in self.asked:
            query, q = one.query, place.get(id(one))
            known = judged is not None and q is not None and query.relevant is not None
            first = float(judged.first_rank_Q[q]) if known and judged else np.inf
            rows.append(
                {
                    "query_id": query.query_id, "kind": one.kind, "status": one.status, "error": one.error,
                    "text": query.text, "item_id": query.item_id or next(iter(one.item_ids), None),
                    "row_id": query.row_id or next(iter(one.row_ids), None), "image_url": query.image_url,
                    "num_pictures": len(one.ids) or int(bool(query.image_url)),
                    "num_results": counts.get(query.query_id, 0),
                    "num_relevant": int(judged.num_relevant_Q[q]) if known and judged else None,
                    "first_rank": int(first) if np.isfinite(first) else None,
                    "quality": float(judged.quality_Q[q]) if known and judged and judged.num_relevant_Q[q] else None,
                    "relevant": None if query.relevant is None else list(query.relevant),
                    "change": self._change(one), "thumbnail": one.thumbnail,
                }
            )  # fmt: skip
        return pa.Table.from_pylist(rows, schema=QUERIES_SCHEMA)

    def _change(self, one: Asked) -> str | None:
        if one.kind != COMPOSED:
            return None
        return kind_of_change(one.query.text or "", one.query.values, self.plan.table.dataset)

    def about(
        self, found: Lists, results: pa.Table, left_out: list[tuple[int, int, str]], notes: list[str]
    ) -> dict[str, Any]:
        """Return the content of about.json."""
        plan = self.plan
        kinds: dict[str, int] = {}
        statuses: dict[str, int] = {}
        reasons: dict[str, int] = {}
        for one in self.asked:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
            statuses[one.status] = statuses.get(one.status, 0) + 1
        for _, _, reason in left_out:
            reasons[reason] = reasons.get(reason, 0) + 1
        return {
            "name": plan.name, "made_at": now(), "queries": len(self.asked), "kinds": kinds, "status": statuses,
            "queries_failed": len(self.asked) - len(self.live), "gallery_rows": found.rows, "results": results.num_rows,
            "k": plan.ks, "depth": plan.depth,
            "left_out": reasons, "per": plan.per, "leave_out": plan.leave_out, "dataset": plan.table.dataset,
            "model": {"name": plan.model.name, "role": plan.model.role, "kind": plan.model.kind.value,
                      "fingerprint": plan.model.facts.fingerprint},
            "asked_from": plan.source.store.root, "settings": self.plan.config.search.model_dump(mode="json"),
            "ties": "higher score first, equal scores in the order of the gallery", "notes": notes,
        }  # fmt: skip
