"""A small run folder written as Parquet, without models: what `aggregate` reads."""

from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from aistudio.config import EngineSettings
from aistudio.pipeline.cluster import connect
from aistudio.pipeline.tasks import RayTasks
from aistudio.schema import score_schema, text_schema
from aistudio.store import open_store

DIM = 16
PASSTHROUGH = [pa.field("category", pa.string()), pa.field("price", pa.float64())]
FAST = {"bootstrap_samples": 50, "min_slice_size": 2}


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def catalogue(items=12, per_item=5, seed=0):
    """Rows of a small run: images near their item's text, some failed, one duplicate image in another file."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(items, DIM)))
    rows = []
    for i in range(items):
        for j in range(per_item):
            vector = unit(texts[i] + 0.5 * rng.normal(size=DIM))
            failed = (i * per_item + j) % 11 == 7 or i == items - 1
            rows.append(
                {
                    "row_id": str(len(rows)), "item_id": f"item{i}", "image_url": f"https://x.example/{i}/{j}.jpg",
                    "fallback_url": None, "text": f"酒店 {i}", "poi_names": None,
                    "status": "timeout" if failed else "ok", "error": "slow" if failed else None,
                    "recall_score": None if failed else float(vector @ texts[i]),
                    "embedding": None if failed else vector, "width": 100 + 10 * j,
                    "category": "hat" if i % 2 else "coat", "price": float(i),
                }
            )  # fmt: skip
    rows[30]["embedding"] = rows[2]["embedding"]
    return rows, {f"酒店 {i}": v for i, v in enumerate(texts)}


def as_before(table):
    """The table with vectors as they were stored before November 2026: fixed-size lists."""
    for i, field in enumerate(table.schema):
        if field.name == "embedding":
            kind = pa.list_(field.type.value_type, DIM)
            table = table.set_column(i, pa.field(field.name, kind), table[field.name].cast(kind))
    return table


def write_run(path, rows, texts, passthrough=PASSTHROUGH, shard=7, dtype="float32", old=lambda number: False):
    """`old(number of the file)`: whether a file has the layout of an older version."""
    store = open_store(str(path))
    schema = score_schema(list(passthrough), {"embedding": DIM}, dtype)
    rows = [{**r, "embedding": None if r.get("embedding") is None else np.asarray(r["embedding"], dtype)} for r in rows]
    for start in range(0, len(rows), shard):
        table = pa.Table.from_pylist(rows[start : start + shard], schema=schema)
        number = start // shard
        store.write_table(f"scores/{number:05d}.parquet", as_before(table) if old(number) else table)
    for n, part in enumerate((list(texts), list(texts)[:2])):
        table = pa.table(
            {"text": part, "embedding": pa.array([texts[t] for t in part], text_schema(DIM).field(1).type)}
        )
        store.write_table(f"texts/{n:05d}.parquet", as_before(table) if old(n) else table)
    config = {"manifest": {"path": "m.csv", "format": "csv"}, "output": str(path), "models": {"recall": "r.yaml"}}
    store.write_json("run.json", {"config": config | {"metrics": FAST}})
    return store


@contextmanager
def under_ray():
    """Yield a mapper on Ray tasks; the GPU of the tests' Ray is a logical one, so the product stays on the CPU."""
    with connect(EngineSettings()) as resources:
        yield RayTasks(int(resources.cpus), gpu=False)
