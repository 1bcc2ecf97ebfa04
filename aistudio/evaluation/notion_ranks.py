"""Metrics of each query under each protocol, from one whole ranking that serves them all.

Protocols (metrics/protocols.py): leave_self_out, every image asks all others; item_level, the gallery collapsed to
items; split, some rows ask and others are searched; new_classes, rows of some values alone. In each the query's own
item and the copies of its picture are dropped. Leaves out: which images are similar (notions.py), means (by_notion.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aistudio.config import MetricsSettings
from aistudio.evaluation.notions import NONE, LabelledRows, Notion, codes_of
from aistudio.evaluation.scan import draw
from aistudio.metrics import retrieval
from aistudio.metrics.ranking import collapse, relevant_by_label
from aistudio.metrics.relevant import Floats, Ints, relevant
from aistudio.runs.mapper import InProcess, Mapper
from aistudio.search.pace import Pace
from aistudio.search.searched import text_of
from aistudio.search.whole import WholeGallery, queries_at_once

LEAVE_SELF_OUT, ITEM_LEVEL, SPLIT, NEW_CLASSES = "leave_self_out", "item_level", "split", "new_classes"
RANKS_AT_ONCE = 2_000_000  # of relevant rows, held before their metrics are taken


@dataclass(frozen=True)
class Question:
    """A notion under a protocol: the queries, the gallery, and the label of each of their rows."""

    notion: Notion
    protocol: str
    asks_Q: Ints  # rows, ascending
    num_all: int  # of which these are a sample
    label_N: Ints  # of rows; at item level of items; NONE: ignored
    wanted_Q: Ints  # label of each query

    @property
    def key(self) -> str:
        """Return the prefix of a metric's name."""
        return f"{self.notion.key}/{self.protocol}"


@dataclass
class Answers:
    """Values of each query of a question, in parts of (Q,) each."""

    num_relevant: list[Ints] = field(default_factory=lambda: [np.empty(0, np.int64)])
    num_gallery: list[Ints] = field(default_factory=lambda: [np.empty(0, np.int64)])
    first: list[Floats] = field(default_factory=lambda: [np.empty(0)])
    values: list[dict[str, Floats]] = field(default_factory=list)

    def add(self, other: "Answers") -> None:
        """Take over the answers of the next queries."""
        self.num_relevant += other.num_relevant
        self.num_gallery += other.num_gallery
        self.first += other.first
        self.values += other.values

    def joined(self, ks: Sequence[int]) -> dict[str, Floats]:
        """Return each metric over all queries; without queries all are empty."""
        nothing = retrieval.per_query_similar(relevant([], [], 0), ks)
        return {name: np.concatenate([nothing[name], *(part[name] for part in self.values)]) for name in nothing}


def questions(rows: LabelledRows, settings: MetricsSettings) -> list[Question]:
    """Make the questions that settings ask for: two for each notion, more with query_where or new_classes."""
    found = []
    for notion in rows.notions:
        if notion.column == "item_id":
            continue  # metrics without a prefix are those of the same item
        label, has = notion.label_N, notion.label_N != NONE
        found.append(_question(notion, LEAVE_SELF_OUT, rows, settings, has, label))
        found.append(_item_level(notion, rows, settings))
        if settings.query_where or settings.gallery_where:
            searched = np.where(rows.searched_N, label, NONE)
            found.append(_question(notion, SPLIT, rows, settings, has & rows.asks_N, searched))
        if notion.column in settings.new_classes:
            new = codes_of(notion, [text_of(v) for v in settings.new_classes[notion.column]])
            is_new = np.isin(label, new)
            found.append(_question(notion, NEW_CLASSES, rows, settings, is_new, np.where(is_new, label, NONE)))
    return found


def _question(
    notion: Notion, protocol: str, rows: LabelledRows, settings: MetricsSettings, asks_N: NDArray[np.bool_], label: Ints
) -> Question:
    able = np.flatnonzero(asks_N)
    asks = able[draw(rows.hash_N[able], settings.max_queries)]
    return Question(notion, protocol, asks, len(able), label, notion.label_N[asks])


def _item_level(notion: Notion, rows: LabelledRows, settings: MetricsSettings) -> Question:
    """Items have the value of their first row that has one."""
    valued = np.flatnonzero(notion.label_N != NONE)
    item, first = np.unique(rows.item_N[valued], return_index=True)
    label_I = np.full(int(rows.item_N.max(initial=-1)) + 1, NONE, np.int64)
    label_I[item] = notion.label_N[valued[first]]
    able = np.flatnonzero(label_I[rows.item_N] != NONE) if len(label_I) else np.empty(0, np.int64)
    if settings.item_queries == "one":
        able = np.sort(able[np.unique(rows.item_N[able], return_index=True)[1]])
    asks = able[draw(rows.hash_N[able], settings.max_queries)]
    return Question(notion, ITEM_LEVEL, asks, len(able), label_I, label_I[rows.item_N[asks]])


def answer(
    asked: Sequence[Question], rows: LabelledRows, whole: WholeGallery, ks: Sequence[int], mapper: Mapper
) -> list[Answers]:  # fmt: skip
    """Rank the gallery for every row that asks, once for all questions."""
    everyone = np.unique(np.concatenate([np.empty(0, np.int64), *(q.asks_Q for q in asked)]))
    step = queries_at_once(whole.num_rows)
    chunks = [everyone[start : start + step] for start in range(0, len(everyone), step)]
    pace = Pace(whole.num_rows, len(everyone))
    tell = pace.add if mapper.tells_steps else None
    found = [Answers() for _ in asked]
    for part in mapper.map(answer_chunks, mapper.groups(chunks), list(asked), rows, whole, list(ks), tell):
        for own, other in zip(found, part, strict=True):
            own.add(other)
    return found


def answer_chunks(
    chunks: Sequence[Ints], asked: Sequence[Question], rows: LabelledRows, whole: WholeGallery, ks: Sequence[int],
    tell: Callable[[int, int], None] | None = None,
) -> list[Answers]:  # fmt: skip
    """Answer the questions of some rows; memory holds the scores of one chunk and RANKS_AT_ONCE ranks a question."""
    takers, passes = [_Taker(q, rows, ks) for q in asked], whole.passes()
    for chunk in chunks:
        vectors = whole.gallery.vectors_at(rows.id_N[chunk], InProcess())
        for row, order in zip(chunk.tolist(), passes.orders(vectors, tell), strict=True):
            kept = (rows.item_N != rows.item_N[row]) & (rows.picture_N != rows.picture_N[row])
            order = order[kept[order]]
            items = collapse(order, rows.item_N)[0] if any(t.wants_items(row) for t in takers) else order
            for taker in takers:
                taker.take(row, items if taker.is_items else order)
    return [taker.done() for taker in takers]


class _Taker:
    """Takes the rankings of a question's queries and turns them into metrics, some at a time."""

    def __init__(self, question: Question, rows: LabelledRows, ks: Sequence[int]) -> None:
        self.question, self.ks = question, ks
        self.is_items = question.protocol == ITEM_LEVEL
        self.has_N = question.label_N != NONE
        self.out = Answers()
        self._place = dict(zip(question.asks_Q.tolist(), question.wanted_Q.tolist(), strict=True))
        self._ranks: list[Ints] = []
        self._sizes: list[int] = []
        self._num_ranks = 0

    def wants_items(self, row: int) -> bool:
        return self.is_items and row in self._place

    def take(self, row: int, ranked: Ints) -> None:
        """A ranking of rows, or of items; those without a label are dropped before places are counted."""
        if row not in self._place:
            return
        ranked = ranked[self.has_N[ranked]]
        self._ranks.append(relevant_by_label([ranked], [self._place[row]], self.question.label_N).rank_P)
        self._sizes.append(len(ranked))
        self._num_ranks += len(self._ranks[-1])
        if self._num_ranks > RANKS_AT_ONCE:
            self._flush()

    def done(self) -> Answers:
        self._flush()
        return self.out

    def _flush(self) -> None:
        if not self._sizes:
            return
        num = [len(ranks) for ranks in self._ranks]
        items = relevant(np.repeat(np.arange(len(num)), num), np.concatenate(self._ranks), len(num))
        self.out.num_relevant.append(items.num_Q)
        self.out.num_gallery.append(np.array(self._sizes, np.int64))
        self.out.first.append(retrieval.first_rank(items))
        self.out.values.append(retrieval.per_query_similar(items, self.ks))
        self._ranks, self._sizes, self._num_ranks = [], [], 0
