"""Numbers of a metric-learning batch beside its loss, and the warnings when a training has stopped learning."""

import math

import torch

from aistudio.config.train_similar import MetricLossSettings
from aistudio.training.metric_losses import BatchLoss
from aistudio.training.monitors import CollapseWatch, MiningWatch, VarianceWatch, vector_variance
from aistudio.training.triplets import TripletOptions, triplet_loss

MARGIN = 0.05  # pytorch-metric-learning's own, where none is given


class MetricWatch:
    """Follows one training. Distances and active shares are of all triplets of a batch, whatever the loss is."""

    def __init__(self, loss: MetricLossSettings, normalise: bool) -> None:
        self._loss, self._normalise = loss, normalise
        soft = bool(loss.options.get("soft", False))
        self._margin = None if soft else float(loss.options.get("margin", MARGIN))
        self._collapse = CollapseWatch(self._margin) if loss.name == "triplet" else None
        self._mining, self._variance = MiningWatch(), VarianceWatch()
        self._new: list[tuple[str, str]] = []

    def update(self, vectors: torch.Tensor, labels: torch.Tensor, batch: BatchLoss, detailed: bool) -> dict[str, float]:
        """Take one batch; returns what to log of it. `detailed`: also what costs time."""
        variance = vector_variance(vectors)
        numbers = {"embed/variance": variance}
        distance = None
        if batch.num_mined is not None:
            numbers["triplet/mined"] = float(batch.num_mined)
        if detailed or batch.num_mined == 0:
            numbers |= self._triplets(vectors, labels)
            distance = numbers.get("triplet/pos_distance")
        if batch.num_mined is not None:
            self._warn("mining", self._mining.update(batch.num_mined, distance))
            numbers["triplet/skipped_batches"] = float(self._mining.skipped)
        if self._collapse is not None and batch.loss is not None:
            self._warn("collapse", self._collapse.update(float(batch.loss.detach())))
        self._warn("variance", self._variance.update(variance))
        return numbers

    def _triplets(self, vectors: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        options = TripletOptions("all", self._margin, self._normalise, self._loss.squared)
        found = triplet_loss(vectors.detach(), labels, options)
        numbers = {
            "triplet/active_share": found.active_share, "triplet/pos_distance": found.positive_distance,
            "triplet/neg_distance": found.negative_distance,
        }  # fmt: skip
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def _warn(self, kind: str, text: str | None) -> None:
        if text is not None:
            self._new.append((kind, text))

    def new_warnings(self) -> list[tuple[str, str]]:
        """Return the warnings since the last call."""
        new, self._new = self._new, []
        return new
