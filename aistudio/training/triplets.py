"""Triplet losses as the papers write them, and what a batch's triplets look like.

D is the plain L2 distance, or its square where `squared` is set. A triplet is an anchor, another row of its class and
a row of another class. Hinge: max(0, D(a,p) - D(a,n) + m). Soft margin: log(1 + exp(D(a,p) - D(a,n))).
Batch-hard: Hermans, Beyer and Leibe (2017), arXiv 1703.07737. Semi-hard: Schroff et al. (2015), arXiv 1503.03832.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

Mining = Literal["all", "hard", "semihard", "violating"]


@dataclass(frozen=True)
class TripletOptions:
    """Which triplets of a batch count, and how.

    mining: all triplets; `hard`: for each anchor its farthest positive and nearest negative; `semihard`: those with
    D(a,p) < D(a,n) <= D(a,p) + m; `violating`: those with a loss above 0. margin None: the soft margin, which has no
    semi-hard or violating triplets. nonzero_mean: mean over the triplets with a loss above 0 only, as
    pytorch-metric-learning does by default: such a curve does not fall smoothly.
    """

    mining: Mining = "all"
    margin: float | None = 0.2
    normalise: bool = True
    squared: bool = False
    nonzero_mean: bool = False

    def __post_init__(self) -> None:
        if self.margin is None and self.mining in ("semihard", "violating"):
            raise ValueError(f"mining {self.mining} needs a margin; the soft margin has none")
        if self.margin is not None and self.margin < 0:
            raise ValueError(f"margin {self.margin}: expected 0 or more")


class TripletLoss(NamedTuple):
    """A batch's loss and what to log of it. `loss` is a differentiable zero where there was no triplet."""

    loss: torch.Tensor
    num_triplets: int  # that were mined; 0: skip the batch and count it
    active_share: float  # of these, with a loss above 0; always 1 for the soft margin
    positive_distance: float  # means over the mined triplets; NaN without any
    negative_distance: float


def triplet_loss(vectors: torch.Tensor, labels: torch.Tensor, options: TripletOptions) -> TripletLoss:
    """Compute the mean loss over a batch's triplets.

    Args:
        vectors: (N, D), any float type; distances are computed in float32 at least.
        labels: (N,) integers.
    """
    distance = distances(vectors, options.normalise, options.squared)
    anchor, positive, negative = mined(distance.detach(), labels, options)
    to_positive, to_negative = distance[anchor, positive], distance[anchor, negative]
    if not len(anchor):
        return TripletLoss(distance.sum() * 0.0, 0, 0.0, float("nan"), float("nan"))
    gap = to_positive - to_negative
    losses = F.softplus(gap) if options.margin is None else F.relu(gap + options.margin)
    active = losses.detach() > 0
    loss = losses.sum() / active.sum().clamp(min=1) if options.nonzero_mean else losses.mean()
    means = (float(d.detach().mean()) for d in (to_positive, to_negative))
    return TripletLoss(loss, len(anchor), float(active.double().mean()), *means)


def triplet_counts(
    vectors: torch.Tensor, labels: torch.Tensor, margin: float, normalise: bool = True
) -> dict[str, int]:
    """Count a batch's triplets: hard (the negative is nearer), semi-hard (farther by at most the margin) and easy."""
    distance = distances(vectors, normalise, squared=False)
    anchor, positive, negative = all_triplets(labels)
    gap = distance[anchor, negative] - distance[anchor, positive]
    hard, easy = int((gap <= 0).sum()), int((gap > margin).sum())
    return {"num_hard": hard, "num_semihard": len(gap) - hard - easy, "num_easy": easy}


def distances(vectors: torch.Tensor, normalise: bool, squared: bool) -> torch.Tensor:
    """(N, D) -> (N, N) distances of all rows; differences first, so that near rows lose no digits.

    The gradient of a distance of 0 is 0.
    """
    x = vectors if vectors.dtype == torch.float64 else vectors.float()
    x = F.normalize(x, dim=-1) if normalise else x
    if squared:
        return (x[:, None, :] - x[None, :, :]).square().sum(dim=-1)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def all_triplets(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Indices of anchors, positives and negatives of every triplet of a batch, (T,) each."""
    same = labels[:, None] == labels[None, :]
    other = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = torch.nonzero(same & other, as_tuple=True)
    pair, negative = torch.nonzero(~same[anchor], as_tuple=True)
    return anchor[pair], positive[pair], negative


def mined(
    distance: torch.Tensor, labels: torch.Tensor, options: TripletOptions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Select the triplets that count; `distance` is (N, N)."""
    if options.mining == "hard":
        return _batch_hard(distance, labels)
    anchor, positive, negative = all_triplets(labels)
    if options.mining == "all":
        return anchor, positive, negative
    assert options.margin is not None
    gap = distance[anchor, negative] - distance[anchor, positive]
    kept = gap < options.margin if options.mining == "violating" else (gap > 0) & (gap <= options.margin)
    return anchor[kept], positive[kept], negative[kept]


def _batch_hard(distance: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    usable = (same & ~itself).any(dim=1) & (~same).any(dim=1)
    anchor = torch.nonzero(usable)[:, 0]
    farthest = distance.masked_fill(~same | itself, -torch.inf)[anchor].argmax(dim=1) if len(anchor) else anchor
    nearest = distance.masked_fill(same, torch.inf)[anchor].argmin(dim=1) if len(anchor) else anchor
    return anchor, farthest, nearest


def wang_loss(query: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, gap: float) -> torch.Tensor:
    """Compute max(0, g + d2(q,p) - d2(q,n)) of unit vectors, squared distances: (T, D) three times -> (T,).

    Wang et al. (2014), Learning Fine-grained Image Similarity with Deep Ranking, arXiv 1404.4661, equation 4.
    """
    q, p, n = (F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1) for x in (query, positive, negative))
    return F.relu(gap + (q - p).square().sum(dim=-1) - (q - n).square().sum(dim=-1))


@dataclass(frozen=True)
class RelevanceTriplets:
    """Draws triplets by relevance, as Wang et al. (2014, section 5) do, without ever going through all of them.

    relevance_NN: (N, N), how relevant each row is to each other of its class; 0 on the diagonal and across classes.
    label_N: (N,) classes. cap: T, beyond which a positive is drawn no more often. threshold: by how much a negative of
    the same class must be less relevant than the positive. out_of_class: share of negatives from other classes.
    """

    relevance_NN: np.ndarray
    label_N: np.ndarray
    cap: float
    threshold: float
    out_of_class: float = 0.8

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (count, 3) rows: query in proportion to its total relevance, positive to min(T, relevance), negative.

        A draw that has no negative is made again.

        Raises:
            ValueError: no row is relevant to another, or none has a negative.
        """
        total = self.relevance_NN.sum(axis=1)
        if total.sum() <= 0:
            raise ValueError("relevance: no row is relevant to another")
        drawn: list[tuple[int, int, int]] = []
        for _ in range(20 * count):
            if len(drawn) == count:
                break
            query = int(rng.choice(len(total), p=total / total.sum()))
            weight = np.minimum(self.cap, self.relevance_NN[query])
            positive = int(rng.choice(len(weight), p=weight / weight.sum()))
            negatives = self._negatives(query, positive, rng.random() < self.out_of_class)
            if len(negatives):
                drawn.append((query, positive, int(rng.choice(negatives))))
        if len(drawn) < count:
            raise ValueError(f"relevance: only {len(drawn)} of {count} triplets have a negative; lower the threshold")
        return np.array(drawn, dtype=np.int64).reshape(-1, 3)

    def _negatives(self, query: int, positive: int, outside: bool) -> np.ndarray:
        if outside:
            return np.flatnonzero(self.label_N != self.label_N[query])
        less = self.relevance_NN[query, positive] - self.relevance_NN[query] >= self.threshold
        mine = less & (self.label_N == self.label_N[query])
        mine[[query, positive]] = False
        return np.flatnonzero(mine)
