"""What a task's set-up hands to the training program."""

import hashlib
from typing import Any, NamedTuple

import torch
from torch import nn

from aistudio.training.cache import Cache


class Setup(NamedTuple):
    """A task that is ready to train."""

    task: Any  # a RankingTask or RecallTask; see programs.TASKS
    name: str  # of the exported model
    counts: dict[str, Any]  # rows, items, pairs, what was left out and why
    shape: dict[str, Any]  # what beside the settings decides the weights
    cache: Cache
    keeping: Any  # temporary files that live as long as this


def weights_digest(module: nn.Module) -> str:
    """Return a digest of all tensors of a module: what training begins with."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
