"""Scoring one shard: its rows and the stream of its images go in, one committed score file comes out.

The same `ShardScorer` serves every plan; where the images come from is the caller's business. Nothing
about a single row raises: model failures become `model_error` rows.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import JobConfig
from aistudio.pipeline.encoders import Encoders
from aistudio.pipeline.sources import ImageRow, Request
from aistudio.schema import CANDIDATE_COLUMNS, OUTCOME_FIELDS, Status, score_schema, text_schema, vector_type
from aistudio.store import Store

Counts = defaultdict[str, float]  # rows by status, bytes, seconds by stage
Report = Callable[[dict[str, float]], None]


class Distinct(NamedTuple):
    """A shard's images without repetition."""

    requests: list[Request]
    of_row: np.ndarray  # int64 (rows,): index into requests


def distinct_images(rows: pa.Table) -> Distinct:
    """Equal (image_url, fallback_url) pairs are fetched and encoded once per shard."""
    seen: dict[Request, int] = {}
    pairs = zip(rows["image_url"].to_pylist(), rows["fallback_url"].to_pylist(), strict=True)
    of_row = np.fromiter((seen.setdefault(pair, len(seen)) for pair in pairs), np.int64, rows.num_rows)
    return Distinct(list(seen), of_row)


class ShardScorer:
    """Encodes images in batches, joins the results to the rows, computes scores."""

    def __init__(self, config: JobConfig, encoders: Encoders, batch_size: int) -> None:
        self._config, self._encoders, self._batch_size = config, encoders, batch_size

    def score(
        self, rows: pa.Table, distinct: Distinct, images: Iterable[ImageRow], report: Report
    ) -> tuple[pa.Table, pa.Table, Counts]:
        """Score a shard.

        Args:
            rows: candidate rows (schema.candidate_schema).
            distinct: their distinct images.
            images: an ImageRow for each distinct image, in any order.
            report: told the counts so far, about once per batch.

        Returns:
            score table (schema.score_schema, one row per candidate row, same order),
            text table (schema.text_schema), counts (rows by status, bytes, seconds by stage).
        """
        batches = _Batches(self._encoders, len(distinct.requests))
        weights = np.bincount(distinct.of_row, minlength=len(distinct.requests))
        counts: Counts = defaultdict(float)
        waiting: list[ImageRow] = []
        clock = time.perf_counter()
        for image in images:
            counts["bytes"] += image.num_bytes or 0
            counts["decode_s"] += image.decode_s
            batches.outcomes[image.number] = image._replace(pixels=())
            if image.status == Status.OK:
                waiting.append(image)
            else:
                counts[image.status] += int(weights[image.number])
            if len(waiting) >= self._batch_size:
                counts["wait_s"] += time.perf_counter() - clock
                self._encode(batches, waiting, weights, counts)
                report(dict(counts))
                waiting, clock = [], time.perf_counter()
        counts["wait_s"] += time.perf_counter() - clock
        self._encode(batches, waiting, weights, counts)
        started = time.perf_counter()
        table, texts = self._join(rows, distinct, batches)
        counts["model_s"] += time.perf_counter() - started
        return table, texts, counts

    def _encode(self, batches: "_Batches", images: list[ImageRow], weights: np.ndarray, counts: Counts) -> None:
        started = time.perf_counter()
        batches.encode(images)
        counts["model_s"] += time.perf_counter() - started
        for image in images:
            counts[batches.outcomes[image.number].status] += int(weights[image.number])

    def _join(self, rows: pa.Table, distinct: Distinct, batches: "_Batches") -> tuple[pa.Table, pa.Table]:
        ok = np.array([o.status == Status.OK for o in batches.outcomes], bool)[distinct.of_row]
        texts = rows["text"].combine_chunks().dictionary_encode()
        text_vectors = self._encoders.texts(texts.dictionary.to_pylist())
        vectors = batches.recall[distinct.of_row]
        recall = np.einsum("nd,nd->n", vectors, text_vectors[texts.indices.to_numpy()])
        rank, rank_vectors = self._rank(rows, ok, vectors, batches.rank, distinct.of_row)
        dtype = self._config.store.embedding_dtype
        columns = {name: rows[name] for name in CANDIDATE_COLUMNS}
        columns |= _outcome_columns(batches.outcomes, distinct.of_row)
        columns["recall_score"] = pa.array(recall, pa.float32(), mask=~ok)
        columns["rank_score"] = rank
        columns["embedding"] = _vector_column(vectors, ok, dtype)
        if rank_vectors is not None:
            columns["rank_embedding"] = _vector_column(rank_vectors, ok, dtype)
        thumbnails = pa.array([o.thumbnail for o in batches.outcomes], pa.binary())
        columns["thumbnail"] = thumbnails.take(pa.array(distinct.of_row))
        passthrough = [f for f in rows.schema if f.name not in CANDIDATE_COLUMNS]
        columns |= {f.name: rows[f.name] for f in passthrough}
        schema = score_schema(passthrough, vectors.shape[1], dtype, self._encoders.rank_dim)
        text_columns = {"text": texts.dictionary, "embedding": _vector_column(text_vectors, None, "float32")}
        text_table = pa.table(text_columns, schema=text_schema(text_vectors.shape[1]))
        return pa.table([columns[f.name] for f in schema], schema=schema), text_table

    def _rank(
        self, rows: pa.Table, ok: np.ndarray, vectors: np.ndarray, own: np.ndarray | None, of_row: np.ndarray
    ) -> tuple[pa.Array, np.ndarray | None]:
        if self._encoders.ranking is None:
            return pa.nulls(rows.num_rows, pa.float32()), None
        used = vectors if own is None else own[of_row]
        chosen = rows.filter(pa.array(ok))
        scores = np.zeros(rows.num_rows, np.float32)
        if chosen.num_rows:
            texts, names = chosen["text"].to_pylist(), chosen["poi_names"].to_pylist()
            scores[ok] = self._encoders.rank(used[ok], texts, names)
        return pa.array(scores, pa.float32(), mask=~ok), (None if own is None else used)


class _Batches:
    """Vectors and outcomes of a shard's distinct images, filled batch by batch."""

    def __init__(self, encoders: Encoders, num_images: int) -> None:
        self._encoders = encoders
        missing = ImageRow(-1, Status.MODEL_ERROR, "the image never arrived (a fault of the pipeline)")
        self.outcomes: list[ImageRow] = [missing] * num_images
        self.recall = np.zeros((num_images, encoders.recall.dim), np.float32)
        self.rank = np.zeros((num_images, encoders.rank_dim), np.float32) if encoders.rank_dim else None

    def encode(self, images: Sequence[ImageRow]) -> None:
        """Encode; out of memory halves the batch, any other failure is pinned to single images."""
        if not images:
            return
        try:
            recall, rank = self._encoders.encode([i.pixels for i in images])
        except (RuntimeError, ValueError, MemoryError) as e:
            if len(images) > 1:
                self._encode_halves(images, e)
            else:
                self._fail(images[0], f"{type(e).__name__}: {e}")
            return
        for position, image in enumerate(images):
            whole = np.isfinite(recall[position]).all() and (rank is None or np.isfinite(rank[position]).all())
            if not whole:
                self._fail(image, "the model's vector is not finite")
                continue
            self.recall[image.number] = recall[position]
            if rank is not None and self.rank is not None:
                self.rank[image.number] = rank[position]

    def _encode_halves(self, images: Sequence[ImageRow], e: Exception) -> None:
        # A full device gets half the batch; a bad image among good ones is found the same way.
        middle = len(images) // 2
        self.encode(images[:middle])
        self.encode(images[middle:])

    def _fail(self, image: ImageRow, error: str) -> None:
        self.outcomes[image.number] = image._replace(status=Status.MODEL_ERROR, error=error[:500], pixels=())


def _outcome_columns(outcomes: Sequence[ImageRow], of_row: np.ndarray) -> dict[str, pa.Array]:
    take = pa.array(of_row)
    fields = [f for f in OUTCOME_FIELDS if f.name not in ("recall_score", "rank_score")]
    return {f.name: pa.array([_plain(getattr(o, f.name)) for o in outcomes], f.type).take(take) for f in fields}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Status) else value


def _vector_column(vectors: np.ndarray, ok: np.ndarray | None, dtype: str) -> pa.Array:
    kind = vector_type(vectors.shape[1], dtype)
    flat = pa.array(np.ascontiguousarray(vectors, dtype=dtype).reshape(-1))
    mask = None if ok is None else pa.array(~ok)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)


def failed_rows(scores: pa.Table, wanted: Sequence[str]) -> np.ndarray:
    """Row numbers of failed rows, all or by status: `timeout`, `http_error:404`, `http_error:5xx`."""
    status = scores["status"]
    if not wanted:
        return np.flatnonzero(pc.not_equal(status, "ok").to_numpy())
    chosen = np.zeros(scores.num_rows, bool)
    codes = scores["http_status"].to_pandas()
    for want in wanted:
        name, _, code = want.partition(":")
        match = pc.equal(status, name).to_numpy().copy()
        if code.endswith("xx"):
            match &= (codes // 100 == int(code[0])).to_numpy()
        elif code:
            match &= (codes == int(code)).to_numpy()
        chosen |= match
    return np.flatnonzero(chosen)


def store_shard(store: Store, name: str, table: pa.Table, texts: pa.Table, metadata: dict[str, str]) -> None:
    """Commit a shard: texts first, then the score file, whose presence means done. The first writer wins."""
    store.write_table(f"texts/{name}.parquet", texts)
    store.write_table(f"scores/{name}.parquet", table, metadata, overwrite=False)
