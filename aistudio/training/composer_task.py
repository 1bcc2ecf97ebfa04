"""Task composer: a reference picture's vector and a text, turned into a vector near the target picture's.

The losses are those of composer_losses.py, the order of the passes that of the published code. Vectors of all workers
are gathered before they are composed: every row of the whole batch is a negative of the others.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aistudio.config import ComposerTraining, ModelConfig
from aistudio.config.train import OptimiserSettings
from aistudio.models import load_composer
from aistudio.training.composer_check import Judgement, in_parts, judge_composer, worst_questions
from aistudio.training.composer_losses import TOTAL, Vectors, composer_losses, triplets_for
from aistudio.training.composer_model import open_trainable, word_tensors
from aistudio.training.composer_pairs import EpochPairs, Pairs, QuestionPairs
from aistudio.training.composer_step import ComposerBatch, ComposerRates, encode_batch, parameter_groups
from aistudio.training.composer_trainable import Trainable
from aistudio.training.dataset import Dataset
from aistudio.training.exporting import Place
from aistudio.training.images import augmented
from aistudio.training.pixels import Normalise
from aistudio.training.ranking_task import freeze_batch_norm
from aistudio.training.shuffled import ShuffledBatches
from aistudio.training.task import Case, Progress, StepLoss
from aistudio.training.team import Team


class ComposerData(NamedTuple):
    """What is trained on and judged by."""

    train: Dataset
    pairs: Pairs
    validation: Dataset
    judged: QuestionPairs
    prefix: str  # protocol of the validation's metrics


class InOrder(ShuffledBatches):
    """Batches of places in an epoch's pairs, which are drawn in their order already."""

    def order(self, epoch: int) -> NDArray[np.int64]:
        return np.arange(self._num_rows)


class ComposerTask:
    """See aistudio/training/task.py for the methods."""

    higher_is_better, unit = True, "pairs"

    def __init__(
        self,
        settings: ComposerTraining,
        trainable: Trainable,
        conf: ModelConfig,
        data: ComposerData,
        team: Team,
        device: torch.device,
    ) -> None:
        """`conf`: the model's settings as they were given, whose towers an export names."""
        self.settings, self.trainable, self.data = settings, trainable, data
        self._conf, self._team, self._device = conf, team, device
        self.metric = f"{data.prefix}map@{max(settings.k)}"
        self.module: Any = trainable.model.to(device)
        self._normalise = Normalise(trainable.spec, device)
        self._images = data.train.column("image")
        self._drawn: tuple[int, EpochPairs] | None = None
        self.last: Judgement | None = None

    def batches(self) -> ShuffledBatches:
        settings, team = self.settings, self._team
        return InOrder(len(self.data.pairs), settings.batch_size, settings.seed, team.rank, team.size)

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        rates = ComposerRates(learning_rate=settings.learning_rate, image_factor=settings.tower_factor)
        groups: list[dict[str, Any]] = list(parameter_groups(self.module, rates))
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        return [group for group in groups if group["params"]]

    def train_mode(self) -> None:
        self.module.train()
        if self.trainable.images is not None and not self.trainable.has_head and hasattr(self.module, "img_model"):
            self.module.img_model.eval()
        if self.settings.freeze_batch_norm:
            freeze_batch_norm(self.module)

    def compile(self) -> None:
        for name in ("img_model", "text_model", "network"):
            if hasattr(self.module, name):
                getattr(self.module, name).compile()

    def _pairs(self, epoch: int) -> EpochPairs:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, self.data.pairs.epoch(self.settings.seed, epoch))
        return self._drawn[1]

    def load(self, rows: Sequence[int], epoch: int) -> ComposerBatch:
        """Read pairs: pixels (B,S,S,3) uint8 or vectors (B,dim), and word ids or text vectors, on the CPU."""
        pairs, at = self._pairs(epoch), np.asarray(rows, np.int64)
        texts = [pairs.texts[i] for i in at.tolist()]
        source = self._read(self._images[pairs.source[at]], at, epoch, 0)
        target = self._read(self._images[pairs.target[at]], at, epoch, 1)
        return ComposerBatch(source, target, *self._texts(texts))

    def _read(self, images: NDArray[np.int64], rows: NDArray[np.int64], epoch: int, side: int) -> torch.Tensor:
        if self.trainable.images is not None:
            return torch.from_numpy(self.data.train.arrays["vectors"][images])
        stored, size = self.data.train.arrays["pixels"][images], self.trainable.spec.size
        out = np.empty((len(stored), size, size, 3), np.uint8)
        for i, row in enumerate(rows.tolist()):
            rng = np.random.default_rng([self.settings.seed, epoch, row, side])
            out[i] = augmented(stored[i], size, self.settings.augment.mirror, rng)
        return torch.from_numpy(out)

    def _texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.trainable.texts is not None:
            distinct = list(dict.fromkeys(texts))
            place = {text: i for i, text in enumerate(distinct)}
            return torch.from_numpy(self.trainable.texts(distinct)[[place[text] for text in texts]]), None
        assert self.trainable.vocabulary is not None
        return word_tensors(self.trainable.vocabulary, texts)

    def loss(self, batch: ComposerBatch, progress: Progress) -> StepLoss:
        lengths = None if batch.text_lengths is None else batch.text_lengths.to(self._device)
        here = ComposerBatch(self._shown(batch.source), self._shown(batch.target), batch.text.to(self._device), lengths)
        found = encode_batch(self.module, here)
        with torch.autocast(self._device.type, enabled=False):
            vectors = Vectors(*(self._team.gather(rows.float()) for rows in found))
            rng = np.random.RandomState([self.settings.seed, progress.step])
            triplets = triplets_for(self.module, self.settings.loss, len(vectors.text), rng)
            losses = composer_losses(self.module, vectors, self.settings.loss, triplets)
        numbers = {f"composer/{name}": float(value.detach()) for name, value in losses.items() if name != TOTAL}
        return StepLoss(losses[TOTAL], numbers)

    def _shown(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim == 4:
            return self._normalise(images)
        images = images.to(self._device)
        return self.module.img_model(images) if self.trainable.has_head else images

    def row_names(self, rows: Sequence[int]) -> list[str]:
        pairs = self._pairs(self._drawn[0] if self._drawn else 0)
        at = np.asarray(rows, np.int64)
        names = (self.data.train.readable(side[at], "row_id") for side in (pairs.source, pairs.target))
        return [f"pair ({a}, {b})" for a, b in zip(*names, strict=True)]

    # --- judging ---------------------------------------------------------------------------------------------------

    def export(self, folder: Path, place: Place, name: str) -> ModelConfig:
        """Write the module's present weights; returns the model's settings for `place`."""
        return self.trainable.write(folder, place, name, self._conf)

    def validate(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="aistudio-train-") as tmp:
            folder = Path(tmp)
            cfg = self.trainable.write(folder, Place(tmp), "model", self.trainable.cfg)
            model: Any = load_composer(cfg, device=str(self._device))
            gallery = self._gallery(cfg, model)
            judged, ks = self.data.judged, self.settings.k
            self.last = judge_composer(model, gallery, self.data.validation, judged, ks, self.data.prefix)
        return self.last.metrics

    def _gallery(self, cfg: ModelConfig, model: Any) -> NDArray[np.float32]:
        """Vectors of all validation images by number, (N,dim)."""
        arrays = self.data.validation.arrays
        if self.trainable.images is None:
            return in_parts(model.encode_images, arrays["pixels"])
        if not self.trainable.has_head:
            return arrays["vectors"][np.arange(len(arrays["vectors"]))]
        head = open_trainable(cfg).model().img_model
        with torch.inference_mode():
            return in_parts(lambda stages: head(torch.from_numpy(stages)).numpy(), arrays["vectors"])

    def worst_cases(self, num: int) -> list[Case]:
        """Return the questions whose first right picture has the lowest rank, with what was found instead."""
        assert self.last is not None, "validate first"
        return worst_questions(self.last, self.data.validation, self.data.judged, num)
