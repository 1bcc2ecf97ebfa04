"""The loss of a variational autoencoder: reconstruction and KL per image, beta with warm-up, free bits.

Per image: the sum over all values of the binary cross-entropy, or half the squared error, plus beta times the KL of
the encoder's normal from the standard normal; then the mean over the batch (Kingma and Welling 2013, appendix B).
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

Reconstruction = Literal["bce", "half_squared_error"]
WARM_UP_SHARE = 0.2  # of all steps, over which beta rises linearly from 0


class VaeLoss(NamedTuple):
    """A batch's loss, and its parts as means per image without beta."""

    loss: torch.Tensor
    reconstruction: torch.Tensor
    kl: torch.Tensor


def vae_loss(
    logits: torch.Tensor,
    pixels: torch.Tensor,
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    beta: float,
    kind: Reconstruction = "bce",
    free_bits: float = 0.0,
) -> VaeLoss:
    """Compute the loss of a batch.

    Args:
        logits: (N, ...) what the decoder gives, before the sigmoid.
        pixels: the same shape, in 0 .. 1.
        mean, log_variance: (N, D).
        beta: weight of the KL now (see `beta_at`); 0: the plain autoencoder.
        free_bits: nats per dimension below which the batch's mean KL is not pushed (Kingma 2016).
    """
    each = bce_of_logits(logits, pixels) if kind == "bce" else half_squared_error(pixels, torch.sigmoid(logits))
    reconstruction, kl = each.mean(), kl_divergence(mean, log_variance).mean()
    pushed = free_bits_kl(mean, log_variance, free_bits) if free_bits else kl
    return VaeLoss(reconstruction + beta * pushed, reconstruction, kl)


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Compute -0.5 sum(1 + logvar - mu^2 - exp(logvar)) per image: (N, D) twice -> (N,) nats."""
    return _kl_per_dimension(mean, log_variance).sum(dim=1)


def free_bits_kl(mean: torch.Tensor, log_variance: torch.Tensor, free_bits: float) -> torch.Tensor:
    """Sum over dimensions the larger of `free_bits` and the batch's mean KL of that dimension: a scalar."""
    return _kl_per_dimension(mean, log_variance).mean(dim=0).clamp(min=free_bits).sum()


def bce(pixels: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Sum the binary cross-entropy over an image's values: (N, ...) in 0 .. 1 twice -> (N,). For logits: the next."""
    return F.binary_cross_entropy(reconstruction, pixels, reduction="none").flatten(1).sum(dim=1)


def bce_of_logits(logits: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Compute `bce` of the logits' sigmoid without overflow: (N, ...) twice -> (N,)."""
    return F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").flatten(1).sum(dim=1)


def half_squared_error(pixels: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Sum half the squared error over an image's values: (N, ...) twice -> (N,)."""
    return 0.5 * (pixels - reconstruction).square().flatten(1).sum(dim=1)


def beta_at(step: int, total_steps: int, beta: float, warm_up_share: float = WARM_UP_SHARE) -> float:
    """Return beta at a step (from 0): it rises linearly over the first share of the steps, then stays.

    >>> [beta_at(step, 10, 2.0) for step in (0, 1, 2, 9)]
    [0.0, 1.0, 2.0, 2.0]
    """
    warm_up = warm_up_share * total_steps
    return beta if warm_up <= 0 else beta * min(1.0, step / warm_up)


def _kl_per_dimension(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())
