"""Batches of P classes x K images, drawn from a seed for each epoch; an epoch can be resumed in the middle.

An epoch's batches are a function of the seed, the epoch and the labels alone, so three numbers say where a training
stands. With several workers each gets classes of its own in every step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from aistudio.errors import ConfigError


class SamplerState(TypedDict):
    """Where a sampler stands: the next batch is number `position` of `epoch`; `num_images` guards against others."""

    seed: int
    epoch: int
    position: int
    num_images: int


@dataclass(frozen=True)
class BatchShape:
    """P classes of K images in each worker's batch. batches_per_epoch None: as many as there are images for."""

    classes_per_batch: int
    images_per_class: int
    batches_per_epoch: int | None = None


class ClassBatches:
    """Iterating yields an epoch's remaining batches, lists of P x K positions in `labels`, and then begins the next.

    Classes take turns: none comes again before all have been drawn. So do a class's images; a class with fewer than K
    repeats some within a batch, which augmentation makes different.
    """

    def __init__(
        self, labels: Sequence[object], shape: BatchShape, seed: int, rank: int = 0, num_workers: int = 1
    ) -> None:
        """Group the rows by label.

        Raises:
            ConfigError: a number below 1 (one class or image per batch gives no triplets), or too few classes.
        """
        names, which = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)
        needed = shape.classes_per_batch * num_workers
        if shape.classes_per_batch < 2 or shape.images_per_class < 2:
            raise ConfigError(
                "classes_per_batch and images_per_class: expected 2 or more, or there is nothing to compare"
            )
        if len(names) < needed:
            raise ConfigError(
                f"classes_per_batch {shape.classes_per_batch} on {num_workers} workers needs {needed} classes; "
                f"found {len(names)}"
            )
        self._rows = [np.flatnonzero(which == c) for c in range(len(names))]
        self._shape, self._seed, self._rank, self._workers = shape, seed, rank, num_workers
        self._num_images, self._epoch, self._position = len(which), 0, 0

    def __len__(self) -> int:
        """Batches of this worker in one epoch."""
        asked = self._shape.batches_per_epoch
        together = self._shape.classes_per_batch * self._shape.images_per_class * self._workers
        return max(1, self._num_images // together) if asked is None else asked

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches(self._epoch)[self._position :]:
            self._position += 1
            yield batch
        self._epoch, self._position = self._epoch + 1, 0

    def state_dict(self) -> SamplerState:
        """Where the sampler stands, after the batch that was yielded last."""
        return {
            "seed": self._seed, "epoch": self._epoch, "position": self._position, "num_images": self._num_images,
        }  # fmt: skip

    def load_state_dict(self, state: SamplerState) -> None:
        """Go on where `state` says.

        Raises:
            ConfigError: the state belongs to another seed or to other images.
        """
        for name, mine in (("seed", self._seed), ("num_images", self._num_images)):
            if state[name] != mine:  # type: ignore[literal-required]
                raise ConfigError(f"the stored training has {name} {state[name]}, this one {mine}")  # type: ignore[literal-required]
        self._epoch, self._position = state["epoch"], state["position"]
        if self._position >= len(self):  # stopped between the last batch and the end of the epoch
            self._epoch, self._position = self._epoch + 1, 0

    def _batches(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self._seed, epoch])
        together = self._shape.classes_per_batch * self._workers
        turns: list[int] = []
        left: list[list[int]] = [[] for _ in self._rows]
        batches = []
        for _ in range(len(self)):
            classes = self._next_classes(turns, together, rng)
            drawn = [self._draw(c, left, rng) for c in classes]  # by every worker alike: all see the same numbers
            mine = drawn[self._rank :: self._workers]
            batches.append([row for rows in mine for row in rows])
        return batches

    def _next_classes(self, turns: list[int], count: int, rng: np.random.Generator) -> list[int]:
        """The next classes in turn, all different; `turns` keeps those that wait."""
        chosen: list[int] = []
        while len(chosen) < count:
            if not turns:
                order = rng.permutation(len(self._rows)).tolist()
                turns += [c for c in order if c not in chosen] + [c for c in order if c in chosen]
            chosen.append(turns.pop(0))
        return chosen

    def _draw(self, number: int, left: list[list[int]], rng: np.random.Generator) -> list[int]:
        rows: list[int] = []
        while len(rows) < self._shape.images_per_class:
            if not left[number]:
                left[number] = rng.permutation(self._rows[number]).tolist()
            rows.append(left[number].pop())
        return rows
