"""Watching a training for the ways in which it fails without a word: collapse, nothing mined, posterior collapse.

Each watcher takes a step's numbers and returns a warning once, when its condition has held for `PATIENCE` steps.
"""

import math
from dataclasses import dataclass, field

import torch

PATIENCE = 50  # steps
NEAR = 0.01  # relative: "the loss is the margin" to one per cent
ACTIVE_VARIANCE = 0.01  # of a latent dimension's mean over the data (Burda 2015, arXiv 1509.00519)
KL_NEAR_ZERO = 0.1  # nats per image
NO_VARIANCE = 1e-4  # of all dimensions together; unit rows that point everywhere have 1
FLAT = 0.01  # relative change of the reconstruction over PATIENCE steps


def vector_variance(vectors: torch.Tensor) -> float:
    """Sum the variances of all dimensions over a batch, (N, D): 0 for equal vectors, at most 1 for unit rows."""
    return float(vectors.detach().double().var(dim=0, unbiased=False).sum())


def active_units(means: torch.Tensor) -> int:
    """Count the latent dimensions whose mean varies over the images, (N, D): variance above 0.01."""
    if len(means) < 2:
        return 0
    return int((means.detach().double().var(dim=0, unbiased=False) > ACTIVE_VARIANCE).sum())


@dataclass
class CollapseWatch:
    """All vectors equal: a triplet loss then stays at its margin, or at ln 2 where the margin is soft."""

    margin: float | None
    patience: int = PATIENCE
    _steps: int = 0
    _warned: bool = False

    def update(self, loss: float) -> str | None:
        """Take a step's loss, the plain mean over triplets; returns a warning once."""
        stuck = math.log(2) if self.margin is None else self.margin
        self._steps = self._steps + 1 if abs(loss - stuck) <= NEAR * stuck else 0
        if self._steps < self.patience or self._warned:
            return None
        self._warned = True
        return (
            f"the loss has been {stuck:.3g} for {self.patience} steps: all vectors are equal (collapse). Try in this "
            "order: a lower learning rate, mining all or semihard before hard, more classes per batch, pretrained trunk"
        )


@dataclass
class VarianceWatch:
    """All vectors equal, whatever the loss: the sum of their variances over a batch is nearly 0."""

    patience: int = PATIENCE
    _steps: int = 0
    _warned: bool = False

    def update(self, variance: float) -> str | None:
        """Take a step's `vector_variance`; returns a warning once."""
        self._steps = self._steps + 1 if variance < NO_VARIANCE else 0
        if self._steps < self.patience or self._warned:
            return None
        self._warned = True
        return (
            f"the vectors of a batch have differed by less than {NO_VARIANCE:g} (embed/variance) for {self.patience} "
            "steps: they are equal (collapse). Try a lower learning rate, other mining, or a pretrained trunk"
        )


@dataclass
class MiningWatch:
    """Batches in which the miner finds nothing: they are skipped, counted, and after many in a row warned of."""

    patience: int = PATIENCE
    skipped: int = 0  # batches in all
    _steps: int = 0
    _warned: bool = False

    def update(self, num_mined: int, positive_distance: float | None = None) -> str | None:
        """Take a step's number of mined triplets, and the mean distance of positive pairs; returns a warning once."""
        self.skipped += num_mined == 0
        self._steps = self._steps + 1 if num_mined == 0 else 0
        if self._steps < self.patience or self._warned:
            return None
        self._warned = True
        apart = "" if positive_distance is None else f" (mean distance of positives: {positive_distance:.3g})"
        return (
            f"no triplet was mined in {self.patience} steps{apart}: the vectors have collapsed, or grown without "
            "bounds. Set normalise: true, or another mining"
        )


@dataclass
class PosteriorWatch:
    """KL near 0 while the reconstruction stays flat: the decoder ignores the latent vector."""

    patience: int = PATIENCE
    _reconstructions: list[float] = field(default_factory=list)
    _warned: bool = False

    def update(self, kl: float, reconstruction: float, beta: float) -> str | None:
        """Take a step's means per image; steps with beta 0 do not count. Returns a warning once."""
        if kl > KL_NEAR_ZERO or beta == 0:
            self._reconstructions.clear()
            return None
        self._reconstructions.append(reconstruction)
        recent = self._reconstructions[-self.patience :]
        if len(recent) < self.patience or self._warned:
            return None
        half = self.patience // 2
        early, late = sum(recent[:half]) / half, sum(recent[-half:]) / half
        if abs(early - late) > FLAT * abs(early):
            return None
        self._warned = True
        return (
            f"the KL has been below {KL_NEAR_ZERO:g} for {self.patience} steps and the reconstruction does not "
            "improve: the latent vector is ignored (posterior collapse). Lower beta, or warm it up for longer"
        )
