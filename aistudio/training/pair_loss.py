"""The click loss on pairs: BCE(sigmoid(s_a - s_b), label), from the difference and without overflow."""

import torch
import torch.nn.functional as F


def pair_losses(score_a: torch.Tensor, score_b: torch.Tensor, a_is_better: torch.Tensor) -> torch.Tensor:
    """Compute each pair's loss: (N,) three times -> (N,). Only differences matter: a common offset changes nothing.

    Args:
        a_is_better: 1 where a was clicked more often, else 0.
    """
    difference = score_a - score_b
    return F.binary_cross_entropy_with_logits(difference, a_is_better.to(difference.dtype), reduction="none")
