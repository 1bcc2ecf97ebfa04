"""Retrieval metrics of held-out rows by the very code that judges a scored run: equal by construction."""

import tempfile
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from aistudio.config import MetricsSettings
from aistudio.evaluation.aggregate import aggregate
from aistudio.models import RecallModel
from aistudio.runs import layout
from aistudio.schema import EMBEDDING, Status, score_schema, text_schema, vector_array
from aistudio.store import Store, open_store
from aistudio.training.dataset import Dataset
from aistudio.training.neighbours import Neighbours

ROWS_AT_ONCE = 1_024
IMAGES_AT_ONCE = 64


class Judged(NamedTuple):
    """What the validation found."""

    metrics: dict[str, float]  # hit_rate@K, mrr, map, ...
    queries: pd.DataFrame  # one row for each query, with `first_rank`
    neighbours: list[list[int]]  # numbers of images: one of the query's item, then the nearest


def retrieval_metrics(model: RecallModel, data: Dataset, k: list[int]) -> Judged:
    """Encode all rows' pixels and texts, write them as a run into a temporary folder and aggregate it."""
    neighbours = Neighbours(model, data)
    with tempfile.TemporaryDirectory(prefix="aistudio-train-") as folder:
        store = open_store(folder)
        _write_run(store, model, data, neighbours)
        found = aggregate(store, MetricsSettings(k=k, bootstrap_samples=0))["metrics"]
        queries = store.read_table(layout.metrics_key("per_query.parquet")).to_pandas()
    values = {name: entry["value"] for name, entry in found.items() if isinstance(entry, dict)}
    metrics = {name: float(v) for name, v in values.items() if v is not None and np.isfinite(v)}
    return Judged(metrics, queries, neighbours.rows())


def _write_run(store: Store, model: RecallModel, data: Dataset, neighbours: Neighbours) -> None:
    image = data.column("image")
    schema = score_schema([], {EMBEDDING: model.dim})
    for number, start in enumerate(range(0, len(data), ROWS_AT_ONCE)):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(data)))
        pixels = data.arrays["pixels"]
        parts = [
            model.encode_images(pixels[image[rows[i : i + IMAGES_AT_ONCE]]])
            for i in range(0, len(rows), IMAGES_AT_ONCE)
        ]
        vectors = np.concatenate(parts)
        neighbours.add(image[rows], vectors)
        texts = data.readable(rows, "text")
        distinct = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(distinct)}
        text_vectors = model.encode_texts(distinct)
        score = np.einsum("nd,nd->n", vectors, text_vectors[[place[t] for t in texts]])
        columns = {c: data.readable(rows, c) for c in ("row_id", "item_id", "image_url")} | {"text": texts}
        columns |= {"status": [Status.OK.value] * len(rows), "recall_score": score, EMBEDDING: vector_array(vectors)}
        arrays = [
            pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(len(rows), f.type) for f in schema
        ]
        shard = f"{number:05d}"
        store.write_table(layout.scores_key(shard), pa.Table.from_arrays(arrays, schema=schema))
        table = pa.table(
            {"text": pa.array(distinct), "embedding": vector_array(text_vectors)}, schema=text_schema(model.dim)
        )
        store.write_table(layout.texts_key(shard), table)
