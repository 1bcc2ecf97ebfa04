"""What dual encoders need in training beside InfoNCE: the click loss on images of one item, and padded token ids."""

import torch
import torch.nn.functional as F


def click_loss(scores: torch.Tensor, item: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
    """Compute the mean BCE(sigmoid(s_a - s_b), clicks_a > clicks_b) over pairs of one item whose clicks differ.

    Args:
        scores: (B,) float.
        item: (B,) int64.
        clicks: (B,) counts or rates.

    Returns:
        A scalar with gradient; 0 when there is no such pair.
    """
    pairs = (item[:, None] == item[None, :]) & (clicks[:, None] > clicks[None, :])
    if not bool(pairs.any()):
        return scores.sum() * 0.0
    return F.softplus(-(scores[:, None] - scores[None, :])[pairs]).mean()


def padded(ids: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad N lists of ids on the right: ids (N, L) int64, and their mask (N, L) of ones and zeros; N at least 1."""
    length = max(map(len, ids))
    rows = [row + [pad_id] * (length - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in ids]
    return torch.tensor(rows), torch.tensor(mask)
