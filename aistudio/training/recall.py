"""Contrastive training of the recall model (family `align`) on renderings.

Symmetric InfoNCE (CLIP, arXiv 2103.00020) in which texts that are also true of a picture are no negatives, plus a
pairwise click loss on a linear probe of the picture's vector: without it the vectors would forget what the ranking
model, which shares the image tower, has to see. The probe is thrown away.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ImageSpec
from aistudio.models._bert import BertTokenizer
from aistudio.models.align import AlignModel
from aistudio.training.batches import Batch, batches
from aistudio.training.renderings import RenderedSet


@dataclass(frozen=True)
class RecallRecipe:
    """How the recall model is trained; the defaults made weights/demo."""

    steps: int = 800
    sights_per_batch: int = 32
    images_per_sight: int = 4
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    click_weight: float = 1.0  # of the click loss, beside the 1 of InfoNCE
    log_every: int = 25


class _Heads(nn.Module):
    """What is trained beside the towers and not kept: temperature and click probe."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # 1 / 0.07, as CLIP starts
        self.probe = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 1))


def train_recall(
    model: AlignModel,
    tokenizer: BertTokenizer,
    spec: ImageSpec,
    data: RenderedSet,
    recipe: RecallRecipe,
    seed: int,
    log: Callable[[str], None] = print,
) -> float:
    """Train both towers in place; leaves the model in eval mode. Returns the last step's loss.

    Equal seeds, data and thread counts give equal weights on the same machine and torch build.
    """
    torch.manual_seed(seed)
    heads = _Heads(model.arch.dim)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.05  # the published 0.01 would need several thousand steps to settle
    model.train().to(memory_format=torch.channels_last)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    started, loss_value = time.perf_counter(), float("nan")
    stream = batches(data, recipe.steps, recipe.sights_per_batch, recipe.images_per_sight, seed)
    for step, batch in enumerate(stream, start=1):
        match, clicks = _losses(model, heads, tokenizer, spec, batch)
        loss = match + recipe.click_weight * clicks
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % recipe.log_every == 0 or step == recipe.steps:
            loss_value = loss.item()
            rate = step * len(batch.texts) / (time.perf_counter() - started)
            log(
                f"recall step {step}/{recipe.steps}  loss {loss_value:.3f}  match {match.item():.3f}  "
                f"clicks {clicks.item():.3f}  {rate:.0f} images/s"
            )
    model.eval()
    return loss_value


def _losses(
    model: AlignModel, heads: _Heads, tokenizer: BertTokenizer, spec: ImageSpec, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    images = F.normalize(model.image_features(to_tensor(batch.pixels, spec)), dim=-1)
    texts = F.normalize(model.text_features(*padded(tokenizer(batch.texts), tokenizer.pad_id)), dim=-1)
    match = masked_info_nce(images, texts, heads.log_scale.clamp(max=4.6).exp(), torch.from_numpy(batch.compatible))
    clicks = click_loss(heads.probe(images).squeeze(-1), torch.from_numpy(batch.sight), torch.from_numpy(batch.clicks))
    return match, clicks


def masked_info_nce(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, compatible: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE of unit rows (B, D) and (B, D), pair i against i.

    compatible: (B, B) bool, [i, j]: text j is true of image i; such pairs with i != j are left out of the sums.
    """
    own = torch.eye(len(images), dtype=torch.bool)
    logits = (scale * images @ texts.T).masked_fill(compatible & ~own, float("-inf"))
    target = torch.arange(len(images))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def click_loss(scores: torch.Tensor, sight: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
    """BCE(sigmoid(s_a - s_b), clicks_a > clicks_b) over all pairs of the same sight whose clicks differ.

    scores (B,) float, sight (B,) int, clicks (B,) int. Zero when there is no such pair.
    """
    pairs = (sight[:, None] == sight[None, :]) & (clicks[:, None] > clicks[None, :])
    if not bool(pairs.any()):
        return scores.sum() * 0.0
    return F.softplus(-(scores[:, None] - scores[None, :])[pairs]).mean()


def to_tensor(pixels: np.ndarray, spec: ImageSpec) -> torch.Tensor:
    """(N, S, S, 3) uint8 -> (N, 3, S, S) float32 after mean and std, channels last in memory."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(spec.mean).view(1, 3, 1, 1), torch.tensor(spec.std).view(1, 3, 1, 1)
    return (x - mean) / std


def padded(ids: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (N, L) int64, padded on the right, and their mask of ones and zeros."""
    length = max(map(len, ids))
    rows = [row + [pad_id] * (length - len(row)) for row in ids]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in ids]
    return torch.tensor(rows), torch.tensor(mask)


@torch.inference_mode()
def encode_images(model: AlignModel, pixels: np.ndarray, spec: ImageSpec, batch_size: int = 128) -> np.ndarray:
    """(N, S, S, 3) uint8 -> (N, dim) float32 unit rows; the model in eval mode."""
    parts = [
        F.normalize(model.image_features(to_tensor(pixels[i : i + batch_size], spec)), dim=-1).numpy()
        for i in range(0, len(pixels), batch_size)
    ]
    return np.concatenate(parts) if parts else np.empty((0, model.arch.dim), np.float32)


@torch.inference_mode()
def encode_texts(model: AlignModel, texts: list[str], tokenizer: BertTokenizer) -> np.ndarray:
    """N strings -> (N, dim) float32 unit rows; the model in eval mode."""
    return F.normalize(model.text_features(*padded(tokenizer(texts), tokenizer.pad_id)), dim=-1).numpy()
