"""Runs with a selection, written from plain rows: what comparing two selections is tested on."""

from typing import Any

import numpy as np
import pyarrow as pa

from aistudio.schema import score_schema, vector_array
from aistudio.selection import select_images
from aistudio.store import Store, open_store

SETTINGS: dict[str, Any] = {
    "num_images": 2, "recall_threshold": None, "recall_top_m": None, "encoder": None, "duplicate_cosine": None,
}  # fmt: skip
Rows = list[dict[str, Any]]


def image(item: str, url: str, score: float | None, content: str | None = None, **more: Any) -> dict[str, Any]:
    """A row; `content`: what stands for its bytes, by default its address; a score of None: it failed."""
    ok = score is not None
    row = {
        "item_id": item, "image_url": url, "status": "ok" if ok else "timeout", "recall_score": 0.3 if ok else None,
        "rank_score": score, "content_hash": (content or url) if ok else None, "text": f"text of {item}",
    }  # fmt: skip
    return row | more


def write_chosen(path: str, rows: Rows, *, first_id: int = 0, shard_rows: int = 5, **settings: Any) -> Store:
    """Write scores/, selection/, selection.json and run.json; row ids count from `first_id`."""
    store = open_store(path)
    chosen = SETTINGS | settings
    rows = [{"row_id": f"m:{first_id + i}"} | row for i, row in enumerate(rows)]
    schema = score_schema([], {"embedding": 2})
    plain = [f for f in schema if f.name != "embedding"]
    columns = {f.name: pa.array([r.get(f.name) for r in rows], f.type) for f in plain}
    ok = [r["status"] == "ok" for r in rows]
    columns["embedding"] = vector_array(np.tile(np.float32([1, 0]), (len(rows), 1)), np.array(ok, bool))
    whole = pa.table([columns[f.name] for f in schema], schema=schema)
    for number, start in enumerate(range(0, len(rows), shard_rows)):
        store.write_table(f"scores/{number:06d}.parquet", whole.slice(start, shard_rows))
    table = select_images(whole, **{k: v for k, v in chosen.items() if k != "encoder"})
    store.write_table("selection/00000.parquet", table)
    store.write_json("selection.json", {"settings": chosen})
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "models": {"recall": "-"}}
    store.write_json("run.json", {"state": "complete", "config": config})
    return store
