"""Scoring one shard: its rows and the stream of its images go in, one committed score file comes out.

The same `ShardScorer` serves every plan; where the images come from is the caller's business. Nothing
about a single row raises: model failures become `model_error` rows (isolate.py finds them).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import JobConfig
from aistudio.runs import layout
from aistudio.schema import CANDIDATE_COLUMNS, OUTCOME_FIELDS, Status, score_schema, text_schema, vector_array
from aistudio.scoring.encoders import Encoders
from aistudio.scoring.image_source import ImageRow, Request, storable_row
from aistudio.scoring.isolate import in_halves
from aistudio.store import Store

Counts = defaultdict[str, float]  # rows by status, bytes, seconds by stage
Report = Callable[[dict[str, float]], None]
_REPORT_S = 1.0  # a call of another process costs both some tenths of a millisecond


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
            report: told the counts so far, at most once a second.

        Returns:
            score table (schema.score_schema, one row per candidate row, same order),
            text table (schema.text_schema), counts (rows by status, bytes, seconds by stage).
        """
        now = self._encoders.clock
        batches = _Batches(self._encoders, len(distinct.requests))
        weights = np.bincount(distinct.of_row, minlength=len(distinct.requests))
        counts: Counts = defaultdict(float)
        waiting: list[ImageRow] = []
        clock = reported = now()
        for arrived in images:
            image = storable_row(arrived)
            counts["bytes"] += image.num_bytes or 0
            counts["decode_s"] += image.decode_s
            batches.outcomes[image.number] = image._replace(pixels=())
            if image.status == Status.OK:
                waiting.append(image)
            else:
                counts[image.status] += int(weights[image.number])
            if len(waiting) >= self._batch_size:
                counts["wait_s"] += now() - clock
                self._encode(batches, waiting, weights, counts)
                waiting, clock = [], now()
                if clock - reported >= _REPORT_S:
                    report(dict(counts))
                    reported = clock
        counts["wait_s"] += now() - clock
        self._encode(batches, waiting, weights, counts)
        started = now()
        table, texts = self._join(rows, distinct, batches)
        counts["model_s"] += now() - started
        # Only the table knows every row's status: a text or the ranking may have failed after the image went well.
        for status in Status:
            counts.pop(status, None)
        counts.update(Counter(table["status"].to_pylist()))
        return table, texts, counts

    def _encode(self, batches: "_Batches", images: list[ImageRow], weights: np.ndarray, counts: Counts) -> None:
        started = self._encoders.clock()
        if batches.encode(images) and self._batch_size > 1:
            self._batch_size //= 2  # the device is full: no use in failing once per batch, or once per shard
            self._encoders.batch_size = self._batch_size
        counts["model_s"] += self._encoders.clock() - started
        for image in images:
            counts[batches.outcomes[image.number].status] += int(weights[image.number])

    def _join(self, rows: pa.Table, distinct: Distinct, batches: "_Batches") -> tuple[pa.Table, pa.Table]:
        texts = rows["text"].combine_chunks().dictionary_encode()
        text_of_row = texts.indices.to_numpy()
        text_vectors, text_errors = self._texts(texts.dictionary.to_pylist())
        outcomes = batches.outcomes
        ok = np.array([o.status == Status.OK for o in outcomes], bool)[distinct.of_row]
        errors = {i: text_errors[t] for i, t in enumerate(text_of_row) if ok[i] and t in text_errors}
        vectors = batches.recall[distinct.of_row]
        with np.errstate(all="ignore"):  # what is not finite is found by _misfits
            recall = np.einsum("nd,nd->n", vectors, text_vectors[text_of_row])
        errors |= _misfits(recall, vectors, ok, self._config.store.embedding_dtype)
        own = None if batches.rank is None else batches.rank[distinct.of_row]
        if own is not None:
            errors |= _misfits(recall, own, ok, self._config.store.embedding_dtype)
        rank = np.zeros(rows.num_rows, np.float32)
        if self._encoders.ranking is not None:
            wanted = [int(i) for i in np.flatnonzero(ok) if i not in errors]
            errors |= self._rank(rows, vectors if own is None else own, wanted, rank)
        ok[list(errors)] = False
        dtype = self._config.store.embedding_dtype
        columns = {name: rows[name] for name in CANDIDATE_COLUMNS}
        columns |= _outcome_columns(outcomes, distinct.of_row, errors)
        columns["recall_score"] = pa.array(recall, pa.float32(), mask=~ok)
        columns["rank_score"] = pa.array(
            rank, pa.float32(), mask=~ok if self._encoders.ranking is not None else ok | ~ok
        )
        columns["embedding"] = vector_array(vectors, ok, dtype)
        if own is not None:
            columns["rank_embedding"] = vector_array(own, ok, dtype)
        thumbnails = pa.array([o.thumbnail for o in outcomes], pa.binary())
        columns["thumbnail"] = thumbnails.take(pa.array(distinct.of_row))
        passthrough = [f for f in rows.schema if f.name not in CANDIDATE_COLUMNS]
        columns |= {f.name: rows[f.name] for f in passthrough}
        schema = score_schema(passthrough, vectors.shape[1], dtype, self._encoders.rank_dim)
        return pa.table([columns[f.name] for f in schema], schema=schema), _text_table(
            texts.dictionary, text_vectors, text_errors
        )

    def text_table(self, rows: pa.Table) -> pa.Table:
        """Return the text table of a shard (schema.text_schema) without scoring it; see `score`."""
        texts = pc.unique(rows["text"])
        return _text_table(texts, *self._texts(texts.to_pylist()))

    def _texts(self, texts: list[str]) -> tuple[np.ndarray, dict[int, str]]:
        """Vectors (N, D) of the texts, zeros where the model failed; the failures by position."""
        vectors = np.zeros((len(texts), self._encoders.recall.dim), np.float32)

        def encode(chosen: list[int]) -> dict[int, str]:
            found = self._encoders.texts([texts[i] for i in chosen])
            good = np.isfinite(found).all(axis=1)
            vectors[chosen] = np.where(good[:, None], found, 0)
            return {
                i: "the model's vector of the text is not finite"
                for i, fine in zip(chosen, good, strict=True)
                if not fine
            }

        return vectors, in_halves(encode, list(range(len(texts)))).errors

    def _rank(self, rows: pa.Table, vectors: np.ndarray, wanted: list[int], scores: np.ndarray) -> dict[int, str]:
        """Fills `scores` at the wanted rows; returns the failures by row."""

        def rank(chosen: list[int]) -> dict[int, str]:
            some = rows.select(["text", "poi_names"]).take(pa.array(chosen))
            texts, names = some["text"].to_pylist(), some["poi_names"].to_pylist()
            scores[chosen] = self._encoders.rank(vectors[chosen], texts, names)
            return {i: "the model's score is not finite" for i in chosen if not np.isfinite(scores[i])}

        return in_halves(rank, wanted).errors


class _Batches:
    """Vectors and outcomes of a shard's distinct images, filled batch by batch."""

    def __init__(self, encoders: Encoders, num_images: int) -> None:
        self._encoders = encoders
        missing = ImageRow(-1, Status.MODEL_ERROR, "the image never arrived (a fault of the pipeline)")
        self.outcomes: list[ImageRow] = [missing] * num_images
        self.recall = np.zeros((num_images, encoders.recall.dim), np.float32)
        self.rank = np.zeros((num_images, encoders.rank_dim), np.float32) if encoders.rank_dim else None

    def encode(self, images: Sequence[ImageRow]) -> bool:
        """Encode; failures are pinned to single images. True when the device's memory was too small for all at once."""
        halving = in_halves(lambda chosen: self._encode([images[i] for i in chosen], chosen), list(range(len(images))))
        for position, error in halving.errors.items():
            image = images[position]
            self.outcomes[image.number] = image._replace(status=Status.MODEL_ERROR, error=error, pixels=())
        return halving.out_of_memory

    def _encode(self, images: Sequence[ImageRow], positions: list[int]) -> dict[int, str]:
        recall, rank = self._encoders.encode([i.pixels for i in images])
        errors = {}
        for i, image in enumerate(images):
            if not (np.isfinite(recall[i]).all() and (rank is None or np.isfinite(rank[i]).all())):
                errors[positions[i]] = "the model's vector is not finite"
                continue
            self.recall[image.number] = recall[i]
            if rank is not None and self.rank is not None:
                self.rank[image.number] = rank[i]
        return errors


def _misfits(recall: np.ndarray, vectors: np.ndarray, ok: np.ndarray, dtype: str) -> dict[int, str]:
    """Ok rows whose score is not finite, or whose vector is too large for the type it is stored in."""
    errors = {int(i): "the model's score is not finite" for i in np.flatnonzero(ok & ~np.isfinite(recall))}
    too_large = ok & (np.abs(vectors).max(axis=1, initial=0) > np.finfo(dtype).max)
    message = f"the model's vector does not fit {dtype}; set store.embedding_dtype to float32"
    return errors | {int(i): message for i in np.flatnonzero(too_large)}


def _text_table(texts: pa.Array, vectors: np.ndarray, errors: dict[int, str]) -> pa.Table:
    """Texts that the model took, with their vectors."""
    whole = np.array([i not in errors for i in range(len(texts))], bool)
    columns = {"text": texts.filter(pa.array(whole)), "embedding": vector_array(vectors[whole])}
    return pa.table(columns, schema=text_schema(vectors.shape[1]))


def _outcome_columns(outcomes: Sequence[ImageRow], of_row: np.ndarray, errors: dict[int, str]) -> dict[str, pa.Array]:
    """Outcomes of the rows' images, but `model_error` where `errors` (by row) says that the rest of a row failed."""
    take = pa.array(of_row)
    fields = [f for f in OUTCOME_FIELDS if f.name not in ("recall_score", "rank_score")]
    columns = {f.name: pa.array([_plain(getattr(o, f.name)) for o in outcomes], f.type).take(take) for f in fields}
    if errors:
        hit = pa.array(np.isin(np.arange(len(of_row)), list(errors)))
        told = pa.array([errors.get(i) for i in range(len(of_row))], pa.string())
        columns["status"] = pc.if_else(hit, Status.MODEL_ERROR.value, columns["status"])
        columns["error"] = pc.if_else(hit, told, columns["error"])
    return columns


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Status) else value


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
    store.write_table(layout.texts_key(name), texts)
    store.write_table(layout.scores_key(name), table, metadata, overwrite=False)
