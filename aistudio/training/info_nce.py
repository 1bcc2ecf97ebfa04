"""Symmetric InfoNCE of images and texts (CLIP, arXiv 2103.00020); an item's other texts are no negatives."""

import torch
import torch.nn.functional as F


def info_nce_losses(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, items: torch.Tensor
) -> torch.Tensor:
    """Compute each row's loss, the mean of both directions: (B,) float32.

    Args:
        images, texts: (B, D) unit rows; row i of one belongs to row i of the other.
        scale: scalar, one over the temperature.
        items: (B,) int64; rows of one item are left out of each other's sums.
    """
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    same_item = (items[:, None] == items[None, :]) & ~own
    logits = (scale.float() * images.float() @ texts.float().T).masked_fill(same_item, float("-inf"))
    target = torch.arange(len(images), device=images.device)
    both = (F.cross_entropy(x, target, reduction="none") for x in (logits, logits.T))
    return sum(both, torch.zeros(len(images), device=images.device)) / 2
