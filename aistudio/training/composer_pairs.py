"""What a composer is trained on and judged by: a reference picture and a text ask for target pictures.

Pictures are rows of a prepared data set. An epoch's pairs follow from the seed and the epoch's number alone, so that a
resumed training sees what an untouched one would have seen. Where the questions come from: composer_sources.py.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aistudio.catalogue import Pair
from aistudio.catalogue.datasets import TrainingPairs
from aistudio.errors import ConfigError

UNUSABLE = "drawn, but a picture or the text of it cannot be used; another pair stands for it"


class Question(NamedTuple):
    """A reference, ways of saying what is asked of it, and the pictures that are right; all are rows."""

    reference: int
    texts: tuple[str, ...]
    right: tuple[int, ...]


class EpochPairs(NamedTuple):
    """The pairs of one epoch in their order, (N,) each."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    texts: list[str]


class Pairs(Protocol):
    """Training pairs."""

    @property
    def texts(self) -> Iterable[str]:
        """Return the texts that a vocabulary is built from."""

    @property
    def left_out(self) -> dict[str, int]:
        """How many pairs cannot be used, by reason."""

    def __len__(self) -> int:
        """Pairs of an epoch."""

    def epoch(self, seed: int, epoch: int) -> EpochPairs:
        """Draw an epoch's pairs, in the order in which they are trained on."""


@dataclass(frozen=True)
class QuestionPairs:
    """Each question once in an epoch; its target, one of its right pictures, and its wording are drawn."""

    questions: Sequence[Question]
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def texts(self) -> Iterable[str]:
        return dict.fromkeys(text for question in self.questions for text in question.texts)

    def epoch(self, seed: int, epoch: int) -> EpochPairs:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self.questions))
        chance = rng.random((len(order), 2))
        source, target, texts = np.empty(len(order), np.int64), np.empty(len(order), np.int64), []
        for place, number in enumerate(order.tolist()):
            asked = self.questions[number]
            source[place] = asked.reference
            target[place] = asked.right[int(chance[place, 0] * len(asked.right))]
            texts.append(asked.texts[int(chance[place, 1] * len(asked.texts))])
        return EpochPairs(source, target, texts)


class DatasetPairs:
    """A data set's published way of drawing pairs. Pictures that cannot be used are replaced by other pairs."""

    def __init__(
        self,
        pairs: TrainingPairs,
        texts: Iterable[str],
        rows: dict[str, int],
        said: Callable[[Pair], str | None],
    ) -> None:
        """Take over a data set's pairs.

        Args:
            texts: that a vocabulary is built from.
            rows: row of each usable picture, by its row id.
            said: the text of a pair; None where it has none that can be used.

        Raises:
            ConfigError: not one pair of the first epoch can be used.
        """
        self._pairs, self.texts, self._rows, self._said = pairs, texts, rows, said
        self._num = len(pairs.entries) if hasattr(pairs, "entries") else len(pairs.pictures)
        unusable = sum(row is None for row in self._drawn(0, 0))
        if unusable == self._num:
            raise ConfigError("data: none of the data set's pairs has both pictures and a usable text")
        self.left_out = {UNUSABLE: unusable} if unusable else {}

    def __len__(self) -> int:
        return self._num

    def epoch(self, seed: int, epoch: int) -> EpochPairs:
        found = self._drawn(seed, epoch)
        usable = [pair for pair in found if pair is not None]
        rng = random.Random(f"instead/{seed}/{epoch}")
        if not usable:
            raise ConfigError(f"data: none of the pairs of epoch {epoch} has both pictures and a usable text")
        pairs = [pair if pair is not None else rng.choice(usable) for pair in found]
        source, target = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
        return EpochPairs(source, target, [pair[2] for pair in pairs])

    def _drawn(self, seed: int, epoch: int) -> list[tuple[int, int, str] | None]:
        order = np.random.default_rng([seed, epoch]).permutation(self._num).tolist()
        return [self._usable(pair) for pair in self._pairs.draws(order, random.Random(f"pairs/{seed}/{epoch}"))]

    def _usable(self, pair: Pair) -> tuple[int, int, str] | None:
        source, target, text = self._rows.get(pair.source), self._rows.get(pair.target), self._said(pair)
        return None if source is None or target is None or text is None else (source, target, text)
