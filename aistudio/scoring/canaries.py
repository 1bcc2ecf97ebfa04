"""Canaries: fixed inputs that go through the models with every shard, to notice a worker whose numbers are wrong.

A flipped bit in a weight or a faulty accelerator raises no error; the scores are merely wrong. So the last batch of a
shard also carries a fixed picture, its texts a fixed text, its ranking both, and the answers are compared with those
that plain float32 gave once, in a process of its own. A shard whose canary is wrong is not stored. Those answers may
still be in the making while a worker's first shard is encoded; it waits for them before it stores what a model gave.
A part of the models that a shard does not ask, because a base run or another shard has the numbers, has none in it.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple, Protocol

import numpy as np

from aistudio.config import ImageSpec
from aistudio.models import pixel_digest
from aistudio.poi_table import query_text
from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow

NUM_PICTURES = 3
TEXT = "a red dress on a white wall, seen from the left"
POI_NAMES = "old town,harbour,museum of modern art,central station,botanical garden"
# Largest error against plain float32, as a part of the vector's length. Float32 differs by the order of sums alone; the
# others lose digits in every layer (8 bits of bfloat16 say 0.004 each time). What matters more in a weight shows above.
_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
_RANK_SLACK = 10  # a ranking score is a sum of thousands of products of such numbers
_VERSION = 1  # of the fixed inputs: raise it when they change


class WrongNumbersError(Exception):
    """This process's models give wrong numbers; what they made since the last good check must not be stored."""


class Models(Protocol):
    """What canaries ask of the models of a worker (encoders.Encoders)."""

    def encode(self, pixels: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]: ...
    def texts(self, texts: Sequence[str]) -> np.ndarray: ...
    def rank(self, vectors: np.ndarray, texts: Sequence[str], poi_names: Sequence[str | None]) -> np.ndarray: ...


class Answers(NamedTuple):
    """What models make of the fixed inputs."""

    images: tuple[np.ndarray, ...]  # for each tower (NUM_PICTURES, D) float32
    text: np.ndarray | None  # (D,) float32; None without a recall model
    rank: np.ndarray | None  # (NUM_PICTURES,) float32; None without a ranking model


def pictures(specs: Sequence[ImageSpec]) -> list[tuple[np.ndarray, ...]]:
    """Draw the fixed pictures: each a (S, S, 3) uint8 array for every pixel format."""
    return [tuple(_picture(number, spec.size) for spec in specs) for number in range(NUM_PICTURES)]


def fixed_inputs(specs: Sequence[ImageSpec]) -> frozenset[str | bytes]:
    """Return the texts and digests of pixels that a model computes again whenever it computed others.

    A remembered answer would check nothing then; where all answers of a shard are remembered there is nothing to check.
    """
    texts: set[str | bytes] = {TEXT, query_text(POI_NAMES, TEXT)}
    return frozenset(texts | {pixel_digest(pixels) for picture in pictures(specs) for pixels in picture})


def _picture(number: int, size: int) -> np.ndarray:
    """Draw stripes, a slope and a disc in three colours: flat and busy parts, dark to bright."""
    y, x = np.mgrid[0:size, 0:size] / max(size - 1, 1)
    stripes = np.sin((3 + 4 * number) * np.pi * (x + y)) > 0
    disc = (x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.09
    channels = [10 + x * 245, np.where(disc, 255 * (1 - y), 30 + 90 * y), np.where(stripes, 230, 50 + 200 * y)]
    return np.stack(channels[number:] + channels[:number], axis=-1).astype(np.uint8)


def ask(models: Models, specs: Sequence[ImageSpec], rank: int | None, *, recall: bool) -> Answers:
    """Give the fixed inputs to models. `rank`: which tower's vectors the ranking model takes; None: there is none."""
    towers = models.encode(pictures(specs))
    text = models.texts([TEXT])[0] if recall else None
    scores = None
    if rank is not None:
        scores = models.rank(towers[rank], [TEXT] * NUM_PICTURES, [POI_NAMES] * NUM_PICTURES)
    return Answers(tuple(towers), text, scores)


@dataclass(frozen=True)
class Canary:
    """The check of one shard: one of the fixed pictures, and what is right for it.

    `answers` gives what is right, perhaps after a wait; None: nobody knows, and nothing is judged.
    """

    number: int
    pixels: tuple[np.ndarray, ...]
    answers: Callable[[], Answers | None]
    tolerance: float

    def row(self, number: int) -> ImageRow:
        """Return the picture as one more image of a shard."""
        return ImageRow(number, Status.OK, pixels=self.pixels)

    def rank_vector(self, tower: int) -> np.ndarray | None:
        """Return the right vector (D,) of the picture, so that the ranking is judged apart from its tower."""
        right = self.answers()
        return None if right is None else right.images[tower][self.number]

    def judge_image(self, vectors: Sequence[np.ndarray], error: str | None) -> None:
        """Compare each tower's vector (D,) of the picture. Raises WrongNumbersError."""
        if (known := self.answers()) is None:
            return
        if error is not None:
            raise WrongNumbersError(f"an image tower failed for a fixed picture: {error}")
        for tower, (vector, right) in enumerate(zip(vectors, known.images, strict=True)):
            self._judge(vector, right[self.number], f"image tower {tower + 1}")

    def judge_text(self, vector: np.ndarray, error: str | None) -> None:
        """Compare the text tower's vector (D,) of the fixed text. Raises WrongNumbersError."""
        if (known := self.answers()) is None:
            return
        if error is not None:
            raise WrongNumbersError(f"the text tower failed for a fixed text: {error}")
        assert known.text is not None
        self._judge(vector, known.text, "the text tower")

    def judge_rank(self, score: float, error: str | None) -> None:
        """Compare the ranking score of the picture with the fixed text. Raises WrongNumbersError."""
        if (known := self.answers()) is None:
            return
        if error is not None:
            raise WrongNumbersError(f"the ranking failed for a fixed picture: {error}")
        assert known.rank is not None
        right = float(known.rank[self.number])
        if not abs(score - right) <= _RANK_SLACK * self.tolerance * max(1.0, abs(right)):
            raise WrongNumbersError(f"the ranking gives {score:g} where plain float32 gives {right:g}")

    def _judge(self, vector: np.ndarray, right: np.ndarray, what: str) -> None:
        with np.errstate(all="ignore"):
            error = float(np.linalg.norm(vector.astype(np.float64) - right)) / max(float(np.linalg.norm(right)), 1e-12)
        if not error <= self.tolerance:
            raise WrongNumbersError(
                f"{what} is off by {error:.2g} of the vector's length for a fixed picture or text, where "
                f"{self.tolerance:g} is the most that its precision explains"
            )


class Canaries:
    """The canaries of one worker: they take turns."""

    def __init__(self, answers: Callable[[], Answers | None], specs: Sequence[ImageSpec], precision: str) -> None:
        """`answers`: asked once, when they are needed; may take its time. None: nothing is judged."""
        self._ask, self._pictures, self._tolerance = answers, pictures(specs), _TOLERANCE[precision]
        self._lock = threading.Lock()
        self._given: list[Answers | None] = []
        self._next = 0

    def answers(self) -> Answers | None:
        """Return what is right, waiting for it."""
        with self._lock:
            if not self._given:
                self._given.append(self._ask())
            return self._given[0]

    def next(self) -> Canary:
        """Return the next shard's."""
        self._next = (self._next + 1) % NUM_PICTURES
        return Canary(self._next, self._pictures[self._next], self.answers, self._tolerance)

    def check(self, models: Models, rank: int | None, batch_size: int, *, recall: bool) -> None:
        """Judge models by all fixed inputs before their first commit: asked first, then compared, perhaps after a wait.

        Args:
            rank: which tower's vectors the ranking model takes; None: there is none.
            batch_size: pictures that go through the towers at once, as in a shard.
            recall: there is a recall model.

        Raises:
            WrongNumbersError: an answer is not what plain float32 gives.
        """
        batch = [self._pictures[i % NUM_PICTURES] for i in range(max(batch_size, NUM_PICTURES))]
        towers, text = models.encode(batch), models.texts([TEXT])[0] if recall else None
        if (right := self.answers()) is None:
            return
        cases = [Canary(number, (), self.answers, self._tolerance) for number in range(NUM_PICTURES)]
        for i in range(len(towers[0])):
            cases[i % NUM_PICTURES].judge_image([tower[i] for tower in towers], None)
        if text is not None:
            cases[0].judge_text(text, None)
        if right.rank is not None and rank is not None:
            vector = right.images[rank][:1]
            cases[0].judge_rank(float(models.rank(vector, [TEXT], [POI_NAMES])[0]), None)


def answers_key(fingerprints: Sequence[str]) -> str:
    """Return a name for the answers of models with these fingerprints (their POI table's included)."""
    text = "\n".join([str(_VERSION), version("torch"), *fingerprints])  # another torch may sum in another order
    return hashlib.sha256(text.encode()).hexdigest()


def packed(answers: Answers) -> bytes:
    """Return answers as the bytes of an .npz file."""
    arrays = {f"tower{i}": tower for i, tower in enumerate(answers.images)}
    arrays |= {k: v for k, v in (("text", answers.text), ("rank", answers.rank)) if v is not None}
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]  # its own keyword is allow_pickle alone
    return out.getvalue()


def unpacked(data: bytes) -> Answers:
    """Read what `packed` made. Raises ValueError or OSError for anything else."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        towers = tuple(arrays[f"tower{i}"] for i in range(sum(k.startswith("tower") for k in arrays.files)))
        return Answers(towers, *(arrays[k] if k in arrays.files else None for k in ("text", "rank")))
