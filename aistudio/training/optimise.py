"""Optimiser, learning rate over time, and averaged weights, from their settings."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from aistudio.config.train import OptimiserSettings, ScheduleSettings
from aistudio.training.task import trained_tensors


def build_optimizer(groups: list[dict[str, Any]], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Return AdamW, or SGD with momentum, over parameter groups that bring their own `lr`."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.name == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, weight_decay=decay)
    return torch.optim.AdamW(groups, rate, weight_decay=decay)


def rate_factor(settings: ScheduleSettings, total_steps: int) -> Callable[[int], float]:
    """Return the function from an update's number (from 0) to the factor of its learning rate.

    Warm-up rises linearly and reaches 1 at its last update; a cosine then falls to `final_factor` at the last update
    of all, steps multiply by `decay_factor` after every `decay_every_steps` updates (the k-th still has the old rate).
    """
    warmup = round(settings.warmup_share * total_steps)

    def factor(update: int) -> float:
        if update < warmup:
            return (update + 1) / warmup
        if settings.kind == "step":
            assert settings.decay_every_steps is not None
            return settings.decay_factor ** (update // settings.decay_every_steps)
        if settings.kind == "constant":
            return 1.0
        done = min(1.0, (update - warmup) / max(1, total_steps - 1 - warmup))
        return settings.final_factor + (1 - settings.final_factor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor


class AveragedWeights:
    """Exponential moving average of the tensors that train: average = decay x average + (1 - decay) x now."""

    def __init__(self, module: nn.Module, names: Sequence[str], decay: float) -> None:
        self._names, self._decay = list(names), decay
        self.tensors = {name: value.clone() for name, value in trained_tensors(module, self._names).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights into the average; counters are copied."""
        for name, now in trained_tensors(module, self._names).items():
            if now.is_floating_point():
                self.tensors[name].lerp_(now, 1 - self._decay)
            else:
                self.tensors[name].copy_(now)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the module's weights with the averages; a second call undoes it."""
        for name, now in trained_tensors(module, self._names).items():
            kept = now.clone()
            now.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)
