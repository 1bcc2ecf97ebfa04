"""Judges a composer on held-out questions by the code that judges a search: equal numbers by construction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.index import cosine_top
from aistudio.metrics.composed import without_rows
from aistudio.search.judging import judge
from aistudio.training.arrays import ArrayReader
from aistudio.training.composer_pairs import Question, QuestionPairs
from aistudio.training.dataset import Dataset
from aistudio.training.task import Case

IMAGES_AT_ONCE = 64
SHOWN = 3  # pictures found, in a case


@dataclass(frozen=True)
class Judgement:
    """What was measured, and of each question what was found."""

    metrics: dict[str, float]
    found: NDArray[np.int64]  # (Q, depth) images, best first, -1 beyond the end
    first_rank: NDArray[Any]  # (Q,) of the first right picture; inf: beyond the lists


def judge_composer(
    model: Any, gallery: NDArray[np.float32], data: Dataset, judged: QuestionPairs, ks: list[int], prefix: str
) -> Judgement:
    """Ask every question of all pictures of the data, each counted once; its own reference is removed where `prefix`
    says so.

    Args:
        model: a loaded composer.
        gallery: (N,dim) vectors of the data's images, by number.
        prefix: protocol of the metrics' names.
    """
    image = data.column("image")
    reference = image[[question.reference for question in judged.questions]]
    texts = asked_texts(judged.questions)
    distinct = list(dict.fromkeys(texts))
    place = {text: i for i, text in enumerate(distinct)}
    text_vectors = model.text_vectors(distinct)[[place[text] for text in texts]]
    kept = "query_kept" in prefix
    asked = model.compose_vectors(gallery[reference], text_vectors)
    _, ranked = cosine_top(asked, gallery, min(max(ks) + 1, len(gallery)))
    found = ranked[:, : max(ks)] if kept else without_rows(ranked, reference)
    query, position = np.nonzero(found >= 0)
    wanted = [
        (q, str(i))
        for q, question in enumerate(judged.questions)
        for i in dict.fromkeys(image[list(question.right)].tolist())
        if kept or i != reference[q]
    ]
    result = judge(
        (query, position + 1, [str(i) for i in found[query, position].tolist()]),
        (np.array([q for q, _ in wanted], np.int64), [name for _, name in wanted]),
        np.ones(len(texts), bool), ks, MetricsSettings(bootstrap_samples=0), prefix,
    )  # fmt: skip
    metrics = {name: float(m["value"]) for name, m in result.metrics.items() if m["value"] is not None}
    return Judgement(metrics, found, result.first_rank_Q)


def asked_texts(questions: Any) -> list[str]:
    """One text of each question, all ways of saying it in turn."""
    return [question.texts[i % len(question.texts)] for i, question in enumerate(questions)]


def in_parts(encode: Callable[[NDArray[Any]], NDArray[np.float32]], stored: ArrayReader) -> NDArray[np.float32]:
    """Encode a whole array, a few images at a time."""
    starts = range(0, len(stored), IMAGES_AT_ONCE)
    return np.concatenate([encode(stored[np.arange(i, min(i + IMAGES_AT_ONCE, len(stored)))]) for i in starts])


def worst_questions(found: Judgement, data: Dataset, judged: QuestionPairs, num: int) -> list[Case]:
    """Return the questions whose first right picture came last, with their pictures."""
    image, texts = data.column("image"), asked_texts(judged.questions)
    missed = np.flatnonzero(found.first_rank > 1)
    worst = missed[np.argsort(-found.first_rank[missed], kind="stable")][:num]
    return [_case(found, data, judged.questions[q], texts[q], image, q) for q in worst.tolist()]


def _case(found: Judgement, data: Dataset, asked: Question, text: str, image: NDArray[np.int64], q: int) -> Case:
    rank = found.first_rank[q]
    note = f"its first right picture has rank {rank:.0f}" if np.isfinite(rank) else "no right picture was found"
    shown = [("asked with", int(image[asked.reference])), ("right", int(image[asked.right[0]]))]
    shown += [(f"found, rank {place}", int(i)) for place, i in enumerate(found.found[q, :SHOWN], 1) if i >= 0]
    thumbs = data.thumbnails([number for _, number in shown])
    return Case(text, note, [(caption, thumb) for (caption, _), thumb in zip(shown, thumbs, strict=True)])
