"""What the towers make of one shard's distinct images, batch by batch; see shard.py."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from aistudio.schema import Status
from aistudio.scoring.canaries import Canary, WrongNumbersError
from aistudio.scoring.encoders import Encoders
from aistudio.scoring.image_columns import ImageColumns, image_table
from aistudio.scoring.image_source import ImageRow
from aistudio.scoring.isolate import in_halves


class ShardImages:
    """Vectors and outcomes of a shard's distinct images, filled batch by batch."""

    def __init__(self, encoders: Encoders, num_images: int, columns: Sequence[str], taken: ImageColumns) -> None:
        """Begin with images that are taken over whole. `columns`: of the vectors of these and of such as arrive."""
        self._encoders, self._num, self._taken = encoders, num_images, taken
        self._of_base = [encoders.towers.tower_of(column) for column in columns]
        self.outcomes: dict[int, ImageRow] = {}  # of those that arrive, and of the canary, which comes last
        self.vectors = [np.zeros((num_images + 1, model.dim), np.float32) for model in encoders.towers.models]
        for tower, matrix in zip(self._of_base, taken.vectors, strict=bool(taken)):
            self.vectors[tower][taken.numbers] = matrix
        self._unsteady: list[int] = []  # positions in a batch whose vector was not finite once, and was then
        self.asked = False  # the towers were

    def encode(self, images: Sequence[ImageRow]) -> bool:
        """Encode; failures are pinned to single images. True when the device's memory was too small for all at once."""
        self.asked |= bool(images)
        halving = in_halves(lambda chosen: self._encode([images[i] for i in chosen], chosen), list(range(len(images))))
        for position, error in halving.errors.items():
            image = images[position]
            self.outcomes[image.number] = image._replace(status=Status.MODEL_ERROR, error=error, pixels=())
        refuse_unsteady(self._unsteady, "an image's vector")
        return halving.out_of_memory

    def take_over(self, image: ImageRow) -> None:
        """Take an image that comes with its vectors: of the base run, or of another shard."""
        for tower, vector in zip(self._of_base, image.vectors, strict=True):
            self.vectors[tower][image.number] = vector

    def columns(self, cropped: Sequence[int]) -> tuple[pa.Table, np.ndarray]:
        """Return the images' outcomes (image_columns.image_schema), and the place there of each: (images,) int64."""
        there = np.zeros(self._num, bool)
        there[self._taken.numbers] = True
        table = image_table([self._outcome(n) for n in np.flatnonzero(~there).tolist()], cropped)
        place = np.where(there, 0, np.cumsum(~there) - 1)
        if self._taken:
            place[self._taken.numbers] = table.num_rows + np.arange(len(self._taken))
            table = pa.concat_tables([table, self._taken.table]).combine_chunks()
        return table, place

    def with_vectors(self, columns: Sequence[str]) -> list[ImageRow]:
        """Return the images' outcomes, the canary's left out, with their vectors by column."""
        towers = [self._encoders.towers.tower_of(column) for column in columns]
        images = [self._taken.get(n) or self._outcome(n) for n in range(self._num)]
        return [
            image._replace(vectors=tuple(self.vectors[t][n] for t in towers)) if image.status == Status.OK else image
            for n, image in enumerate(images)
        ]

    def _outcome(self, number: int) -> ImageRow:
        missing = ImageRow(number, Status.MODEL_ERROR, "the image never arrived (a fault of the pipeline)")
        return self.outcomes.get(number, missing)

    def judge(self, canary: Canary) -> None:
        """Compare what the last image gave. Raises WrongNumbersError."""
        outcome = self.outcomes[self._num]
        canary.judge_image([v[-1] for v in self.vectors], None if outcome.status == Status.OK else outcome.error)

    def _encode(self, images: Sequence[ImageRow], positions: list[int]) -> dict[int, str]:
        towers = self._encoders.encode([i.pixels for i in images])
        finite = _finite(towers)
        bad = np.flatnonzero(~finite).tolist()
        if bad:
            again = _finite(self._encoders.encode([images[i].pixels for i in bad]))
            self._unsteady += [positions[i] for i, fine in zip(bad, again, strict=True) if fine]
        numbers = np.array([image.number for image in images])[finite]
        for stored, vectors in zip(self.vectors, towers, strict=True):
            stored[numbers] = vectors[finite]
        return {positions[i]: "the model's vector is not finite" for i in bad}


def refuse_unsteady(found: Sequence[int], what: str) -> None:
    """Raises WrongNumbersError: a model that gives other numbers for the same input is not to be believed."""
    if found:
        raise WrongNumbersError(f"{what} was not finite, and finite when the model was asked again")


def _finite(towers: Sequence[np.ndarray]) -> np.ndarray:
    """Whether each image's vectors (N, D) are finite in every tower: (N,) bool."""
    return np.asarray(np.logical_and.reduce([np.isfinite(vectors).all(axis=1) for vectors in towers]))
