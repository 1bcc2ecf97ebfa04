"""Scoring one shard: its rows and the stream of its images go in, one committed score file comes out.

The same `ShardScorer` serves every plan; where the images come from is the caller's business. Nothing
about a single row raises: model failures become `model_error` rows (isolate.py finds them).
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.schema import (
    CANDIDATE_COLUMNS,
    EMBEDDING,
    Reused,
    Status,
    has_text,
    score_schema,
    text_schema,
    vector_array,
)
from aistudio.scoring.base_rows import NOTHING_KNOWN, Known
from aistudio.scoring.canaries import POI_NAMES, TEXT, Canary
from aistudio.scoring.encoders import Encoders
from aistudio.scoring.image_columns import FIELDS, NO_IMAGES, ImageColumns, box_column
from aistudio.scoring.image_source import ImageRow, Request, storable_row
from aistudio.scoring.isolate import in_halves
from aistudio.scoring.shard_images import ShardImages, refuse_unsteady

Counts = defaultdict[str, float]  # rows by status, bytes, seconds by stage
Report = Callable[[dict[str, float]], None]
_ROWS_AT_ONCE = 64
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

    def __init__(
        self, encoders: Encoders, dtype: str, batch_size: int, canary: Canary | None = None, *, delta: bool = True
    ) -> None:
        """Prepare to score.

        Args:
            dtype: stored type of the vectors, "float32" or "float16".
            canary: goes through the models as well.
            delta: score tables have schema.DELTA_FIELDS; those of runs that earlier versions began have not.
        """
        self._encoders, self._dtype, self._batch_size, self._canary = encoders, dtype, batch_size, canary
        self._delta = delta
        self._canary_text: tuple[np.ndarray, str | None] | None = None  # what the text tower gave, and its error
        self.asked = False  # a model was, for anything: what it gave must not be stored by a worker of wrong numbers
        self._waited_s = 0.0  # for the right answers, before this worker's first commit
        self._scored: ShardImages | None = None

    def score(
        self,
        rows: pa.Table,
        distinct: Distinct,
        images: Iterable[ImageRow],
        report: Report,
        known: Known = NOTHING_KNOWN,
        taken: ImageColumns = NO_IMAGES,
    ) -> tuple[pa.Table, pa.Table, Counts]:
        """Score a shard.

        Args:
            rows: candidate rows (schema.candidate_schema).
            distinct: their distinct images.
            images: an ImageRow for each distinct image that is not of `taken`, in any order.
            report: called with the counts so far, at most once a second.
            known: what the base run has of these rows; vectors of images that are taken over come with them.
            taken: images that are taken over without having been asked for.

        Returns:
            score table (schema.score_schema, one row per candidate row, same order),
            text table (schema.text_schema), counts (rows by status, and by what shows that they
            are the base's, bytes, seconds by stage).

        Raises:
            WrongNumbersError: the canary came out wrong, or an answer that was not finite is so when asked again.
        """
        now = self._encoders.clock
        batches = ShardImages(self._encoders, len(distinct.requests), known.columns, taken)
        self._scored = batches
        weights = np.bincount(distinct.of_row, minlength=len(distinct.requests) + 1)
        counts: Counts = defaultdict(float)
        counts[Status.OK] += int(weights[taken.numbers].sum())
        waiting: list[ImageRow] = []
        clock = reported = now()
        for arrived in images:
            image = storable_row(arrived)
            counts["bytes"] += (
                image.num_bytes or 0 if image.reused in (Reused.NO, Reused.CONTENT) and not image.given else 0
            )
            counts["decode_s"] += image.decode_s
            if image.cache is not None:
                counts[f"cache_{image.cache}"] += 1
            batches.outcomes[image.number] = image._replace(pixels=(), vectors=())
            if image.has_vectors:
                batches.take_over(image)
                counts[image.status] += int(weights[image.number])
            elif image.status == Status.OK:
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
        if self._canary and (waiting or batches.asked):
            waiting.append(self._canary.row(len(distinct.requests)))
            batches.outcomes[waiting[-1].number] = waiting[-1]._replace(pixels=())
        self._encode(batches, waiting, weights, counts)
        self.asked |= batches.asked
        started = now()
        table, texts = self._join(rows, distinct, batches, known)
        counts["model_s"] += now() - started - self._waited_s
        # Only the table knows every row's status: a text or the ranking may have failed after the image went well.
        for status in Status:
            counts.pop(status, None)
        counts.update(Counter(table["status"].to_pylist()))
        if self._delta:
            counts.update({f"reused_{how}": n for how, n in Counter(table["reused"].to_pylist()).items()})
        return table, texts, counts

    def outcomes(self, columns: Sequence[str]) -> list[ImageRow]:
        """Return what came of each distinct image that `score` was given last, with vectors for pixels if it is ok.

        Args:
            columns: of the vectors, as Known.columns.
        """
        return [] if self._scored is None else self._scored.with_vectors(columns)

    def _encode(self, batches: "ShardImages", images: list[ImageRow], weights: np.ndarray, counts: Counts) -> None:
        started = self._encoders.clock()
        if batches.encode(images) and self._batch_size > 1:
            self._batch_size //= 2  # the device is full: no use in failing once per batch, or once per shard
            self._encoders.batch_size = self._batch_size
        counts["model_s"] += self._encoders.clock() - started
        for image in images:
            counts[batches.outcomes[image.number].status] += int(weights[image.number])

    def _join(
        self, rows: pa.Table, distinct: Distinct, batches: "ShardImages", known: Known
    ) -> tuple[pa.Table, pa.Table]:
        """Score table and text table of the shard, from what its images gave."""
        crops = self._encoders.crops
        found, place = batches.columns(list(crops.values()))
        of_row = place[distinct.of_row]
        ok = pc.equal(found["status"], Status.OK.value).to_numpy()[of_row]
        vectors = [_of_rows(tower, distinct.of_row) for tower in batches.vectors]
        known = _of_taken_over(known, pc.not_equal(found["reused"], Reused.NO.value).to_numpy()[of_row])
        texts = self._texts(rows, vectors, ok, known)
        self._judge(batches)
        errors = dict(texts.errors)
        for tower in vectors:
            errors |= _too_large(tower, ok, self._dtype)
        rank = self._rank(rows, vectors, [int(i) for i in np.flatnonzero(ok) if i not in errors], errors, known)
        ok[list(errors)] = False
        columns = {name: rows[name] for name in CANDIDATE_COLUMNS}
        columns |= _outcome_columns(found, of_row, errors)
        for name, values, scored in (("recall_score", texts.scores, ok & texts.asked), ("rank_score", rank, ok)):
            columns[name] = pa.nulls(len(ok), pa.float32()) if values is None else pa.array(values, mask=~scored)
        for name, number in self._encoders.towers.columns.items():
            columns[name] = vector_array(vectors[number], ok, self._dtype)
        for name, number in crops.items():
            columns[name] = found[box_column(number)].take(pa.array(of_row, mask=~ok))
        passthrough = [f for f in rows.schema if f.name not in CANDIDATE_COLUMNS]
        columns |= {f.name: rows[f.name] for f in passthrough}
        widths = self._encoders.towers.widths
        schema = score_schema(passthrough, widths, self._dtype, crops, delta=self._delta)
        return pa.table([columns[f.name] for f in schema], schema=schema), texts.table

    def text_table(self, rows: pa.Table) -> pa.Table:
        """Return the text table of a shard (schema.text_schema) without scoring it; see `score`, which raises alike."""
        recall = self._encoders.recall
        if recall is None:
            return text_schema(1).empty_table()
        texts = pc.unique(rows["text"])
        vectors, errors = self._text_vectors(texts.to_pylist(), recall.dim, {})
        self._judge(None)
        return _text_table(texts, vectors, errors)

    def _judge(self, batches: "ShardImages | None") -> None:
        """Compare what the towers that were asked gave for the canary, as late as can be: see `_await`.

        Raises:
            WrongNumbersError: it is wrong.
        """
        if self._canary is not None and batches is not None and batches.asked:
            self._await(self._canary)
            batches.judge(self._canary)
        if self._canary is not None and self._canary_text is not None:
            self._await(self._canary)
            self._canary.judge_text(*self._canary_text)

    def _await(self, canary: Canary) -> None:
        """Wait until it is known what is right, which it may not be before a worker's first commit."""
        started = time.perf_counter()
        canary.answers()
        self._waited_s += time.perf_counter() - started

    def _texts(self, rows: pa.Table, vectors: Sequence[np.ndarray], ok: np.ndarray, known: Known) -> "_Texts":
        """Encode the rows' distinct texts and compare each ok row's image with its own."""
        recall = self._encoders.recall
        if recall is None:
            return _Texts(None, np.zeros(len(ok), bool), {}, text_schema(1).empty_table())
        texts = rows["text"].combine_chunks().dictionary_encode()
        of_row, asked = texts.indices.to_numpy(), has_text(texts.dictionary).to_numpy(zero_copy_only=False)
        text_vectors, failed = self._text_vectors(texts.dictionary.to_pylist(), recall.dim, known.texts)
        images = vectors[self._encoders.towers.columns[EMBEDDING]]
        with np.errstate(all="ignore"):  # what is not finite is found below
            scores = row_products(images, text_vectors[of_row])
        for row, score in known.recall.items():
            scores[row] = 0 if score is None else score
        errors = {i: failed[t] for i, t in enumerate(of_row) if ok[i] and t in failed} if failed else {}
        errors |= _not_finite(scores, ok)
        return _Texts(scores, asked[of_row], errors, _text_table(texts.dictionary, text_vectors, failed))

    def _text_vectors(
        self, texts: Sequence[str], dim: int, known: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Vectors (N, D) of the texts, zeros where the model failed; the failures by position."""
        missing = [i for i, text in enumerate(texts) if text not in known]
        canary = [TEXT] if self._canary and missing else []
        asked = [*texts, *canary]
        vectors, unsteady = np.zeros((len(asked), dim), np.float32), list[int]()
        for i, text in enumerate(texts):
            if text in known:
                vectors[i] = known[text]
        self.asked |= bool(missing)

        def encode(chosen: list[int]) -> dict[int, str]:
            found = self._encoders.texts([asked[i] for i in chosen])
            good = np.isfinite(found).all(axis=1)
            vectors[chosen] = np.where(good[:, None], found, 0)
            bad = [i for i, fine in zip(chosen, good, strict=True) if not fine]
            if bad and np.isfinite(self._encoders.texts([asked[i] for i in bad])).all(axis=1).any():
                unsteady.extend(bad)
            return dict.fromkeys(bad, "the model's vector of the text is not finite")

        errors = in_halves(encode, [*missing, *range(len(texts), len(asked))]).errors
        refuse_unsteady(unsteady, "a text's vector")
        if canary:
            self._canary_text = vectors[-1], errors.pop(len(texts), None)
        return vectors[: len(texts)], errors

    def _rank(
        self, rows: pa.Table, vectors: Sequence[np.ndarray], wanted: list[int], errors: dict[int, str], known: Known
    ) -> np.ndarray | None:
        """Ranking scores of the wanted rows, None without a ranking model; adds failures to `errors`, by row."""
        tower = self._encoders.towers.rank
        if tower is None:
            return None
        there = {i: score for i, score in known.rank.items() if score is not None}
        wanted = [i for i in wanted if i not in there]
        scores = np.zeros(rows.num_rows + 1, np.float32)  # the last one is the canary's
        scores[list(there)] = list(there.values())
        if not wanted:
            return scores[:-1]
        self.asked = True
        images, texts, names = vectors[tower], rows["text"].to_pylist(), rows["poi_names"].to_pylist()
        right = None
        if self._canary:
            self._await(self._canary)
            right = self._canary.rank_vector(tower)
        if right is not None:
            images = np.vstack([images, right])
            texts, names, wanted = [*texts, TEXT], [*names, POI_NAMES], [*wanted, rows.num_rows]
        unsteady = list[int]()

        def score(chosen: list[int]) -> np.ndarray:
            return self._encoders.rank(images[chosen], [texts[i] for i in chosen], [names[i] for i in chosen])

        def rank(chosen: list[int]) -> dict[int, str]:
            scores[chosen] = score(chosen)
            bad = [i for i in chosen if not np.isfinite(scores[i])]
            if bad and np.isfinite(score(bad)).any():
                unsteady.extend(bad)
            return dict.fromkeys(bad, "the model's score is not finite")

        errors |= in_halves(rank, wanted).errors
        refuse_unsteady(unsteady, "a ranking score")
        if self._canary and right is not None:
            self._canary.judge_rank(float(scores[-1]), errors.pop(rows.num_rows, None))
        return scores[:-1]


class _Texts(NamedTuple):
    """What the recall model made of a shard's texts."""

    scores: np.ndarray | None  # (rows,): cosine of image and text; None without a recall model
    asked: np.ndarray  # (rows,) bool: the row has a text that says something
    errors: dict[int, str]  # by row
    table: pa.Table  # schema.text_schema


def _of_taken_over(known: Known, taken: np.ndarray) -> Known:
    """The base's scores of rows whose image was taken over; those of others are of another picture."""
    is_taken = taken.tolist()

    def kept(scores: Mapping[int, float | None]) -> dict[int, float | None]:
        return {row: score for row, score in scores.items() if is_taken[row]}

    return known._replace(recall=kept(known.recall), rank=kept(known.rank))


def _of_rows(vectors: np.ndarray, of_row: np.ndarray) -> np.ndarray:
    """Return each row's vector; without a copy where each row has an image of its own."""
    alone = np.array_equal(of_row, np.arange(len(vectors) - 1))  # the last one is the canary's
    return vectors[:-1] if alone else np.asarray(vectors[of_row])


def _not_finite(scores: np.ndarray, ok: np.ndarray) -> dict[int, str]:
    """Name the ok rows whose score is not finite."""
    return {int(i): "the model's score is not finite" for i in np.flatnonzero(ok & ~np.isfinite(scores))}


def _too_large(vectors: np.ndarray, ok: np.ndarray, dtype: str) -> dict[int, str]:
    """Name the ok rows whose vector does not fit the type in which it is stored."""
    rows = np.flatnonzero(ok & (np.abs(vectors).max(axis=1, initial=0) > np.finfo(dtype).max))
    return {int(i): f"the model's vector does not fit {dtype}; set store.embedding_dtype to float32" for i in rows}


def row_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products (N,) float32 of the rows of two (N,D) float32 arrays, the same bits wherever a row stands.

    float64 holds products of float32 exactly, and NumPy adds the numbers of one contiguous row in an order that depends
    on D alone. `einsum` takes large arrays in blocks that do not end where rows do.
    """
    found = np.empty(len(a), np.float32)
    for start in range(0, len(a), _ROWS_AT_ONCE):  # whose products stay in the processor's cache
        part = slice(start, start + _ROWS_AT_ONCE)
        found[part] = np.multiply(a[part], b[part], dtype=np.float64, order="C").sum(axis=1)
    return found


def _text_table(texts: pa.Array, vectors: np.ndarray, errors: dict[int, str]) -> pa.Table:
    """Texts that the model took, with their vectors."""
    whole = np.array([i not in errors for i in range(len(texts))], bool)
    columns = {"text": texts.filter(pa.array(whole)), "embedding": vector_array(vectors[whole])}
    return pa.table(columns, schema=text_schema(vectors.shape[1]))


def _outcome_columns(found: pa.Table, of_row: np.ndarray, errors: dict[int, str]) -> dict[str, pa.ChunkedArray]:
    """Outcomes of the rows' images, but `model_error` where `errors` (by row) says that the rest of a row failed."""
    whole = found.select([f.name for f in FIELDS])
    if not np.array_equal(of_row, np.arange(found.num_rows)):
        whole = whole.take(pa.array(of_row))
    columns = dict(zip(whole.column_names, whole.columns, strict=True))
    if errors:
        hit = pa.array(np.isin(np.arange(len(of_row)), list(errors)))
        told = pa.array([errors.get(i) for i in range(len(of_row))], pa.string())
        columns["status"] = pc.if_else(hit, Status.MODEL_ERROR.value, columns["status"])
        columns["error"] = pc.if_else(hit, told, columns["error"])
        columns["reused"] = pc.if_else(hit, Reused.NO.value, columns["reused"])
    return columns
