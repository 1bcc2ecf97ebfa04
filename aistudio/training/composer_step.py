"""One update of a composer: parameter groups, step schedule, towers, losses, gradient. The loop around it is elsewhere.

Published recipe: SGD with momentum 0.9 and weight decay on everything, the image tower's last layer and all that is no
image tower at the full rate, the rest of the image tower at a tenth; no warm-up, no clipping, no augmentation.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from pydantic import Field
from torch import nn

from aistudio.config import ComposerLossSettings, Settings
from aistudio.models._composer_parts import ComposerModel
from aistudio.training.composer_losses import TOTAL, Triplets, Vectors, composer_losses

GROUPS = ("fc", "image", "rest")


class ComposerRates(Settings):
    """Learning rates; the defaults are the published ones, decay 5e-5 for MIT-States and Fashion200k."""

    learning_rate: float = Field(1e-2, gt=0)
    image_factor: float = Field(0.1, ge=0)  # of the image tower but its last layer
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-6, ge=0)
    decay_every: int | None = Field(None, ge=1)  # updates; published: 50,000, FashionIQ 8,000; null: never
    decay_factor: float = Field(0.1, gt=0)


class ComposerBatch(NamedTuple):
    """A batch of B training pairs as tensors on the model's device.

    Images are normalised pixels (B,3,S,S), or (B,dim) vectors where the image tower is frozen; the text is word ids
    (B,L) with their lengths (B,), or (B,text_dim) vectors with None.
    """

    source: torch.Tensor
    target: torch.Tensor
    text: torch.Tensor
    text_lengths: torch.Tensor | None = None


def parameter_groups(model: ComposerModel, rates: ComposerRates) -> list[dict[str, object]]:
    """Three disjoint groups for an optimiser, named as GROUPS; a group may be empty (no image tower of its own)."""
    members: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        image = "fc" if name.startswith("img_model.fc.") else "image"
        members[image if name.startswith("img_model.") else "rest"].append(parameter)
    rate = {"fc": 1.0, "image": rates.image_factor, "rest": 1.0}
    return [{"params": members[n], "lr": rates.learning_rate * rate[n], "name": n} for n in GROUPS]


def composer_optimizer(
    model: ComposerModel, rates: ComposerRates
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler]:
    """Optimiser and schedule; step the schedule after each update: number k * decay_every still has the old rate."""
    optimizer = torch.optim.SGD(
        parameter_groups(model, rates),
        lr=rates.learning_rate,
        momentum=rates.momentum,
        weight_decay=rates.weight_decay,
    )
    if rates.decay_every is None:
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1.0)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, rates.decay_every, rates.decay_factor)


def encode_batch(model: ComposerModel, batch: ComposerBatch) -> Vectors:
    """The towers' vectors, in the published order: source, text, target (batch norms count two image batches)."""
    source = _images(model, batch.source)
    text = batch.text if batch.text_lengths is None else model.text_model(batch.text, batch.text_lengths)
    return Vectors(source, text, _images(model, batch.target))


def _images(model: ComposerModel, images: torch.Tensor) -> torch.Tensor:
    return model.img_model(images) if images.ndim == 4 else images


def backward(
    model: ComposerModel,
    batch: ComposerBatch,
    optimizer: torch.optim.Optimizer,
    settings: ComposerLossSettings,
    triplets: Triplets | None = None,
) -> dict[str, float]:
    """Losses of a batch by name, before the update; leaves the gradients of their total in the parameters.

    The caller looks at the gradients if it likes, then steps optimiser and schedule.
    """
    losses = composer_losses(model, encode_batch(model, batch), settings, triplets)
    optimizer.zero_grad(set_to_none=True)
    losses[TOTAL].backward()
    return {name: float(value.detach()) for name, value in losses.items()}


def gradient_norms(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Euclidean norm of the gradients of each group by its name; 0.0 for a group without any."""
    return {str(group["name"]): _norm(group["params"]) for group in optimizer.param_groups}


def _norm(parameters: Iterable[nn.Parameter]) -> float:
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def without_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0, in place: traces of two implementations can be compared then."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
