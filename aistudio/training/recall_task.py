"""Task recall: images and the texts that are true of them, brought together by symmetric InfoNCE.

Texts of the same item are no negatives. A click loss may be added, as for the demo: it keeps in the image's vector what
a ranking model that takes the tower over has to see.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from aistudio.config.train import OptimiserSettings, RecallTraining
from aistudio.models import load_recall
from aistudio.training.board import tiled
from aistudio.training.dataset import Dataset
from aistudio.training.dual import DualModel, choose_trained
from aistudio.training.exporting import Place
from aistudio.training.images import augmented
from aistudio.training.info_nce import info_nce_losses
from aistudio.training.item_batches import ItemBatches
from aistudio.training.pixels import Normalise
from aistudio.training.ranking_task import freeze_batch_norm
from aistudio.training.recall import click_loss, padded
from aistudio.training.retrieval_check import Judged, retrieval_metrics
from aistudio.training.shuffled import ShuffledBatches
from aistudio.training.task import Case, Progress, StepLoss
from aistudio.training.team import Team

MAX_LOG_SCALE = math.log(100)  # as CLIP: a sharper temperature is not stable
PROBE_WIDTH = 64
PICTURES = 4  # shown of a query's item


class RecallRows(NamedTuple):
    """N usable rows of the training data: numbers of rows, images, items, groups, and click rates."""

    row: np.ndarray
    image: np.ndarray
    item: np.ndarray
    group: np.ndarray | None
    ctr: np.ndarray  # NaN where not known


class RecallBatch(NamedTuple):
    """B rows on the CPU."""

    pixels: torch.Tensor  # (B, S, S, 3) uint8
    ids: torch.Tensor  # (B, L)
    mask: torch.Tensor
    items: torch.Tensor  # (B,) numbers
    ctr: torch.Tensor  # (B,)


class RecallData(NamedTuple):
    """What is trained on and judged by."""

    train: Dataset
    rows: RecallRows
    validation: Dataset


class _Heads(nn.Module):
    """What trains beside the towers and is not exported: temperature and click probe."""

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.probe = nn.Sequential(nn.Linear(dim, PROBE_WIDTH), nn.ReLU(), nn.Linear(PROBE_WIDTH, 1))


class RecallTask:
    """See aistudio/training/task.py for the methods."""

    higher_is_better, unit = True, "images"

    def __init__(
        self, settings: RecallTraining, dual: DualModel, data: RecallData, team: Team, device: torch.device
    ) -> None:
        self.settings, self.dual, self.data = settings, dual, data
        self._team, self._device = team, device
        self.metric = "mrr"
        self._chosen = choose_trained(dual, settings)
        heads = _Heads(dual.dim, settings.temperature)
        heads.probe.requires_grad_(settings.click_weight > 0)
        self.module = nn.ModuleDict({"model": dual.module, "heads": heads}).to(device)
        if settings.channels_last:
            dual.module.to(memory_format=torch.channels_last)
        self._heads = heads
        self._normalise = Normalise(dual.image_spec, device)
        self.last: Judged | None = None

    def batches(self) -> ItemBatches:
        settings, rows = self.settings, self.data.rows
        plain = ShuffledBatches(len(rows.row), settings.batch_size, settings.seed, self._team.rank, self._team.size)
        return ItemBatches(rows.item, settings.images_per_item, rows.group, plain)

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        factor = settings.tower_factor if self.settings.init == "weights" else 1.0
        chosen = set(self._chosen)
        towers = [p for n, p in self.dual.module.named_parameters() if n in chosen]
        heads = [p for p in self._heads.parameters() if p.requires_grad]
        return [
            {"params": towers, "lr": settings.learning_rate * factor},
            {"params": heads, "lr": settings.learning_rate, "weight_decay": 0.0},
        ]

    def train_mode(self) -> None:
        self.module.train()
        for part in self.module.modules():
            parameters = list(part.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                part.eval()  # frozen, with its dropouts and running statistics
        if self.settings.freeze_batch_norm:
            freeze_batch_norm(self.module)

    def compile(self) -> None:
        for part in self.dual.module.children():
            part.compile()

    def load(self, rows: Sequence[int], epoch: int) -> RecallBatch:
        known, at = self.data.rows, np.asarray(rows, np.int64)
        stored = self.data.train.arrays["pixels"][known.image[at]]
        size, mirror = self.dual.image_spec.size, self.settings.augment.mirror
        pixels = np.empty((len(at), size, size, 3), np.uint8)
        for i, row in enumerate(at.tolist()):
            pixels[i] = augmented(stored[i], size, mirror, np.random.default_rng([self.settings.seed, epoch, row]))
        texts = self.data.train.readable(known.row[at], "text")
        ids, mask = padded(self.dual.tokenize(texts), self.dual.pad_id)
        items, ctr = torch.from_numpy(known.item[at]), torch.from_numpy(known.ctr[at])
        return RecallBatch(torch.from_numpy(pixels), ids, mask, items, ctr)

    def loss(self, batch: RecallBatch, progress: Progress) -> StepLoss:
        device = self._device
        images = F.normalize(self.dual.images(self._normalise(batch.pixels)).float(), dim=-1)
        texts = F.normalize(self.dual.texts(batch.ids.to(device), batch.mask.to(device)).float(), dim=-1)
        with torch.autocast(device.type, enabled=False):
            own = slice(self._team.rank * len(images), (self._team.rank + 1) * len(images))
            images, texts, items = (self._team.gather(x) for x in (images, texts, batch.items.to(device)))
            scale = self._heads.log_scale.clamp(max=MAX_LOG_SCALE).exp()
            each = info_nce_losses(images, texts, scale, items)
            loss, numbers = each.mean(), {"recall/scale": float(scale.detach())}
            if self.settings.click_weight:
                clicks = self._click_loss(images, items, self._team.gather(batch.ctr.to(device)))
                loss = loss + self.settings.click_weight * clicks
                numbers |= {
                    "recall/match_loss": float(each.mean().detach()),
                    "recall/click_loss": float(clicks.detach()),
                }
        return StepLoss(loss, numbers, each[own].detach())

    def _click_loss(self, images: torch.Tensor, items: torch.Tensor, ctr: torch.Tensor) -> torch.Tensor:
        known = torch.isfinite(ctr)
        return click_loss(self._heads.probe(images[known]).squeeze(-1), items[known], ctr[known])

    def row_names(self, rows: Sequence[int]) -> list[str]:
        at = self.data.rows.row[np.asarray(rows, np.int64)]
        return [f"row {name}" for name in self.data.train.readable(at, "row_id")]

    def export(self, folder: Path, place: Place, name: str) -> Any:
        """Write the module's present weights; returns the model's settings for `place`."""
        return self.dual.write(folder, place, name, float(self._heads.log_scale.detach()))

    def validate(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="aistudio-train-") as folder:
            model = load_recall(self.export(Path(folder), Place(folder), "model"), device=str(self._device))
            self.last = retrieval_metrics(model, self.data.validation, self.settings.k)
        return self.last.metrics

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Return a grid of a few fixed texts: first an image of the text's own item, then the nearest images."""
        if self.last is None:
            return {}
        return {"val/neighbours": tiled([self.data.validation.thumbnails(row) for row in self.last.neighbours])}

    def worst_cases(self, num: int) -> list[Case]:
        """Return the queries whose first right image has the lowest rank, with some of their images."""
        assert self.last is not None, "validate first"
        found, data = self.last.queries, self.data.validation
        missed = found[found["first_rank"].isna() | (found["first_rank"] > 1)]
        rank = missed["first_rank"].fillna(np.inf)
        worst = missed.loc[rank.sort_values(ascending=False, kind="stable").index[:num]]
        images, items = data.column("image"), data.codes("item_id")
        number = {name: i for i, name in enumerate(items[1])}
        cases = []
        for item, text, first in zip(worst["item_id"], worst["text"], rank[worst.index], strict=True):
            rows = np.flatnonzero(items[0] == number[item])
            rows = rows[np.sort(np.unique(images[rows], return_index=True)[1])][:PICTURES]  # one row of each image
            captions = [f"row {name}" for name in data.readable(rows, "row_id")]
            note = f"its first image has rank {first:.0f}" if np.isfinite(first) else "no image was found"
            pictures = list(zip(captions, data.thumbnails(images[rows]), strict=True))
            cases.append(Case(f"{item} {text}".strip(), note, pictures))
        return cases
