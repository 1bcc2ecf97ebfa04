"""Task embedder: images of one label together, others apart, by a loss of metric learning on P x K batches.

A frozen trunk's vectors are computed once and the head trains on them; else pixels are changed anew in each epoch.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from aistudio.config import ModelConfig
from aistudio.config.train import EmbedderTraining, OptimiserSettings
from aistudio.metrics.ranking import Similarity
from aistudio.models import load_model
from aistudio.models.embedder import EmbedderModel
from aistudio.training.board import Projection, tiled
from aistudio.training.class_batches import ClassBatches
from aistudio.training.dataset import Dataset
from aistudio.training.embedder_model import joined, write_embedder
from aistudio.training.exporting import Place
from aistudio.training.labelled import LabelledRows
from aistudio.training.metric_losses import LossSettings, MetricLoss
from aistudio.training.metric_watch import MetricWatch
from aistudio.training.picture_augment import augmented_batch
from aistudio.training.pixels import Normalise
from aistudio.training.ranking_task import freeze_batch_norm
from aistudio.training.similar_check import Judged, few_queries, judge
from aistudio.training.similar_pictures import neighbour_rows, projection, worst_queries
from aistudio.training.task import Case, Progress, StepLoss
from aistudio.training.team import Team

HEAD = "head_"  # before the metrics of a joint vector's part that is trained
ENCODED_AT_ONCE = 64  # images of the validation, at a time


class SimilarData(NamedTuple):
    """What is trained on and judged by."""

    train: Dataset
    rows: LabelledRows
    validation: Dataset
    judged: LabelledRows
    queries: NDArray[np.int64]  # places in `judged`


class EmbedderBatch(NamedTuple):
    """B images on the CPU."""

    images: torch.Tensor  # (B, S, S, 3) uint8, or (B, W) vectors of the frozen trunk
    labels: torch.Tensor  # (B,) numbers


class EmbedderTask:
    """See aistudio/training/task.py for the methods."""

    higher_is_better, unit = True, "images"

    def __init__(
        self, settings: EmbedderTraining, model: EmbedderModel, cfg: ModelConfig, data: SimilarData,
        batches: ClassBatches, team: Team, device: torch.device,
    ) -> None:  # fmt: skip
        self.settings, self.model, self.cfg, self.data = settings, model, cfg, data
        self._batches, self._team, self._device = batches, team, device
        self._frozen = model.arch.freeze_trunk
        # Only the head of a joint vector learns. The trunk's fixed part would hide which step is best.
        self.metric = f"{HEAD}map_at_r" if model.arch.joint else "map_at_r"
        self._names, numbers = np.unique(data.rows.label.astype(str), return_inverse=True)
        self._numbers = numbers.astype(np.int64)
        loss = metric_loss(settings, model, len(self._names))
        self.module = nn.ModuleDict({"model": model, "loss": loss}).to(device)
        if settings.channels_last:
            model.to(memory_format=torch.channels_last)
        self._loss = loss
        self._normalise = Normalise(cfg.image, device)
        self._watch = MetricWatch(settings.loss, model.arch.normalise)
        self.last: Judged | None = None
        self._vectors = np.empty((0, 1), np.float32)

    def batches(self) -> ClassBatches:
        return self._batches

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        pretrained = self.settings.init == "weights" or self.settings.trunk_from is not None
        factor = settings.tower_factor if pretrained else 1.0
        groups = [{"params": list(self.model.head.parameters()), "lr": settings.learning_rate}]
        if not self._frozen:
            trunk = [p for p in self.model.trunk.parameters() if p.requires_grad]
            groups.append({"params": trunk, "lr": settings.learning_rate * factor})
        own = list(self._loss.parameters())
        groups.append({"params": own, "lr": settings.learning_rate, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def train_mode(self) -> None:
        self.module.train()
        if self._frozen:
            self.model.trunk.eval()
        if self.settings.freeze_batch_norm:
            freeze_batch_norm(self.model.trunk)

    def compile(self) -> None:
        if not self._frozen:
            self.model.trunk.compile()

    def load(self, rows: Sequence[int], epoch: int) -> EmbedderBatch:
        at = np.asarray(rows, np.int64)
        image, labels = self.data.rows.image[at], torch.from_numpy(self._numbers[at])
        if self._frozen:
            return EmbedderBatch(torch.from_numpy(self.data.train.arrays["vectors"][image]), labels)
        stored = self.data.train.arrays["pixels"][image]
        seeds = (self.settings.seed, epoch)
        pixels = augmented_batch(stored, at.tolist(), self.cfg.image.size, self.settings.augment, seeds)
        return EmbedderBatch(pixels, labels)

    def loss(self, batch: EmbedderBatch, progress: Progress) -> StepLoss:
        if self._frozen:
            vectors = self.model.head_vectors(batch.images.to(self._device))
        else:
            vectors = self.model(self._normalise(batch.images))
        labels = batch.labels.to(self._device)
        with torch.autocast(self._device.type, enabled=False):
            vectors = vectors.float()
            if self.settings.gather:
                vectors, labels = self._team.gather(vectors), self._team.gather(labels)
            found = self._loss(vectors, labels)
        step, every = progress.step + 1, self.settings.log_every_steps
        detailed = step % every == 0 or step == progress.total_steps
        return StepLoss(found.loss, self._watch.update(vectors.detach(), labels, found, detailed))

    def new_warnings(self) -> list[tuple[str, str]]:
        return self._watch.new_warnings()

    def row_names(self, rows: Sequence[int]) -> list[str]:
        at = self.data.rows.row[np.asarray(rows, np.int64)]
        return [f"row {name}" for name in self.data.train.readable(at, "row_id")]

    def export(self, folder: Path, place: Place, name: str) -> ModelConfig:
        """Write the module's present weights; returns the model's settings for `place`."""
        return write_embedder(self.model, self.cfg, folder, place, name)

    def validate(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="aistudio-train-") as folder:
            self._vectors = self._encoded(self.export(Path(folder), Place(folder), "model"))
        similarity: Similarity = "cosine" if self.model.arch.normalise else "euclidean"
        data = self.data
        self.last = judge(self._vectors, data.judged, data.queries, self.settings.k, similarity)
        if not self.model.arch.joint:
            return self.last.metrics
        width = self.model.dim - self.model.trunk.width
        head = judge(self._vectors[:, -width:], data.judged, data.queries, self.settings.k, similarity)
        return self.last.metrics | {f"{HEAD}{name}": value for name, value in head.metrics.items()}

    def _encoded(self, cfg: ModelConfig) -> NDArray[np.float32]:
        """Encode the judged rows by an exported file; of a frozen trunk the stored vectors are taken."""
        images, arrays = self.data.judged.image, self.data.validation.arrays
        parts = [images[i : i + ENCODED_AT_ONCE] for i in range(0, len(images), ENCODED_AT_ONCE)]
        if self._frozen:
            return joined(cfg, arrays["vectors"][images])
        encoder = load_model(cfg, device=str(self._device))
        return np.concatenate([encoder.encode_images(arrays["pixels"][part]) for part in parts])

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Return a few fixed queries, one in each row, with their nearest images."""
        if self.last is None:
            return {}
        shown = few_queries(self.last, self.data.judged.label, 8)
        rows = neighbour_rows(self.last, self.data.judged, shown)
        return {"val/neighbours": tiled([self.data.validation.thumbnails(row) for row in rows])}

    def projection(self) -> Projection:
        """Return vectors, labels and pictures of the validation for TensorBoard's projector."""
        return projection(self._vectors, self.data.judged, self.data.validation)

    def worst_cases(self, num: int) -> list[Case]:
        """Return the queries with the lowest average precision, with their nearest images."""
        assert self.last is not None, "validate first"
        return worst_queries(self.last, self.data.judged, self.data.validation, num)


def metric_loss(settings: EmbedderTraining, model: EmbedderModel, num_classes: int) -> MetricLoss:
    """Build the loss, its own weights by the seed. Raises ConfigError for names and options that are not known."""
    asked, arch = settings.loss, model.arch
    width = model.trunk.width if arch.dim is None else arch.dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return MetricLoss(
            LossSettings(
                asked.name, dict(asked.options), asked.miner, dict(asked.miner_options), arch.normalise,
                2 if asked.squared else 1, asked.nonzero_mean,
            ),
            num_classes, width,
        )  # fmt: skip
