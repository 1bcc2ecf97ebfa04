"""Losses of the composers, as their published code computes them (docs/composed.md).

Base loss: soft triplets or batch-based classification (TIRG, arXiv 1812.07119, eq. 5 and 6). The autoencoders add
reconstruction losses, ComposeAE (arXiv 2006.11149) also rotational symmetry: the target rotated back must look like the
source.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from aistudio.config import ComposerLossSettings
from aistudio.models._composer_parts import Composed

TRIPLETS_PER_ANCHOR = 3
TOTAL = "total training loss"  # the published name, as those of the parts


class Mixer(Protocol):
    """What the losses ask of a composer: a ComposerModel, or a combiner with its scale."""

    normalization_layer: Any
    rotates: bool

    def mix(self, z: torch.Tensor, q: torch.Tensor, conjugate: bool = False) -> Composed:
        """(N,dim) image and (N,text_dim) text vectors -> composed ones, and what decoders make of them."""


class Vectors(NamedTuple):
    """A batch as the towers give it: source and target images (B,dim), texts (B,text_dim); nothing normalised."""

    source: torch.Tensor
    text: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True)
class Triplets:
    """(T,3) int64 rows anchor, positive, negative of the 2B rows [composed; target], for each loss that draws."""

    base: torch.Tensor
    rot_sym: torch.Tensor | None = None


def draw_triplets(batch_size: int, rng: np.random.RandomState) -> torch.Tensor:
    """Triplets of one loss: for each of the 2B rows three negatives by chance, its partner being the positive.

    Rows of the batch that show the same thing count as negatives, too. (6B,3) int64; fewer for B = 2. RandomState(s)
    draws what the published code draws after numpy.random.seed(s).

    Raises:
        ValueError: a batch of one row, which has no negative.
    """
    if batch_size < 2:
        raise ValueError(f"soft triplets need at least 2 rows in a batch, found {batch_size}")
    found = []
    for anchor in range(2 * batch_size):
        positive = (anchor + batch_size) % (2 * batch_size)
        own = [[anchor, positive, k] for k in range(2 * batch_size) if k % batch_size != anchor % batch_size]
        rng.shuffle(own)
        found += own[:TRIPLETS_PER_ANCHOR]
    return torch.tensor(found)


def soft_triplet(
    composed: torch.Tensor, target: torch.Tensor, triplets: torch.Tensor, as_published: bool = True
) -> torch.Tensor:
    """mean log(1 + exp(d(anchor, positive) - d(anchor, negative))), d the squared Euclidean distance.

    Args:
        composed, target: (B,dim) after the normalisation layer.
        triplets: (T,3) int64 rows of [composed; target].
        as_published: the published backward pass forgets the factor 2 of the distance's derivative; the value is right.
    """
    rows = torch.cat([composed, target])
    anchor, positive, negative = (rows[triplets[:, i].to(rows.device)] for i in range(3))
    nearer, farther = ((anchor - other).square().sum(dim=1) for other in (positive, negative))
    loss = F.softplus(nearer - farther).mean()
    return 0.5 * loss + 0.5 * loss.detach() if as_published else loss


def batch_based_classification(composed: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of composed @ target.T with the diagonal; (B,dim) each, after the normalisation layer."""
    return F.cross_entropy(composed @ target.T, torch.arange(len(composed), device=composed.device))


def composer_losses(
    model: Mixer, vectors: Vectors, settings: ComposerLossSettings, triplets: Triplets | None = None
) -> dict[str, torch.Tensor]:
    """Every loss by its published name, scalars with a gradient; the last is `total training loss`.

    Reconstructions are pulled towards vectors that are not detached: the towers are pulled towards them as well.

    Args:
        triplets: for soft triplets, as `triplets_for` draws them.

    Raises:
        ValueError: soft triplets without triplets.
    """
    scaled = model.normalization_layer
    composed = model.mix(vectors.source, vectors.text)
    found: dict[str, torch.Tensor] = {
        settings.base: _base(
            scaled(composed.vectors), scaled(vectors.target), settings, None if triplets is None else triplets.base
        )
    }
    total = found[settings.base]
    if composed.image is not None and composed.text is not None:
        found["L2_loss"] = F.mse_loss(composed.image, vectors.source)
        found["L2_loss_text"] = F.mse_loss(composed.text, vectors.text)
        total = total + settings.reconstruction_weight * (found["L2_loss"] + found["L2_loss_text"])
    if model.rotates:
        back = model.mix(vectors.target, vectors.text, conjugate=True)  # decoders included: their norms count it
        found["rot_sym_loss"] = _base(
            scaled(back.vectors), scaled(vectors.source), settings, None if triplets is None else triplets.rot_sym
        )
        total = total + settings.rotation_weight * found["rot_sym_loss"]
    return found | {TOTAL: total}


def triplets_for(
    model: Mixer, settings: ComposerLossSettings, batch_size: int, rng: np.random.RandomState
) -> Triplets | None:
    """The triplets of a batch, drawn in the published order (rotation first); None for the other base loss."""
    if settings.base != "soft_triplet":
        return None
    rotation = draw_triplets(batch_size, rng) if model.rotates else None
    return Triplets(draw_triplets(batch_size, rng), rotation)


def given_triplets(base: Sequence[Sequence[int]], rot_sym: Sequence[Sequence[int]] | None = None) -> Triplets:
    """Triplets that were drawn elsewhere."""
    return Triplets(torch.tensor(base), None if rot_sym is None else torch.tensor(rot_sym))


def _base(
    composed: torch.Tensor, target: torch.Tensor, settings: ComposerLossSettings, triplets: torch.Tensor | None
) -> torch.Tensor:
    if settings.base == "batch_based_classification":
        return batch_based_classification(composed, target)
    if triplets is None:
        raise ValueError("soft triplets need their triplets; draw them by triplets_for")
    return soft_triplet(composed, target, triplets, settings.as_published)
