"""Task ranking: which of an item's two images is clicked more often; the paper's siamese loss on score differences.

The head trains alone on stored vectors, or with its image tower or both towers on pixels. Frozen parts stay in eval
mode. While towers train, POI vectors in the batches are those of the start; the exported table is built anew.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ModelConfig
from aistudio.config.train import OptimiserSettings, RankingTraining
from aistudio.metrics import classification
from aistudio.metrics.pairs import Pairs, correct, pairs
from aistudio.models.siamese_poi import SiamesePoiModel, SiameseRanking
from aistudio.training.arrays import ArrayReader
from aistudio.training.dataset import Dataset
from aistudio.training.exporting import Place
from aistudio.training.images import augmented
from aistudio.training.pair_loss import pair_losses
from aistudio.training.pairs_data import PairRows
from aistudio.training.pixels import Normalise
from aistudio.training.ranking_data import PoiArrays, PoiImages, RankingRows, poi_rows
from aistudio.training.ranking_model import RankingExport
from aistudio.training.recall import padded
from aistudio.training.shuffled import ShuffledBatches
from aistudio.training.task import Case, Progress, StepLoss
from aistudio.training.team import Team

ENCODED_AT_ONCE = 64  # images of the validation, at a time


class RankingBatch(NamedTuple):
    """B pairs on the CPU: first the a sides, then the b sides."""

    images: torch.Tensor  # (2B, D) vectors, or (2B, S, S, 3) uint8
    texts: torch.Tensor  # (B, D) vectors, or (B, L) ids
    mask: torch.Tensor | None  # (B, L) of ids
    poi: torch.Tensor  # (B, P) numbers of POIs
    num_pois: torch.Tensor  # (B,)
    label: torch.Tensor  # (B,) 1 where a was clicked more often


class RankingData(NamedTuple):
    """Everything that is trained on and judged by."""

    train: Dataset
    rows: RankingRows
    validation: Dataset
    judged: PairRows
    pois: PoiArrays
    table: pa.Table | None  # POI table of the start
    poi_images: PoiImages | None  # from which it is built again when towers change
    texts: ArrayReader | None  # vectors of rows.texts, where the text tower is frozen


class RankingTask:
    """See aistudio/training/task.py for the methods."""

    metric, higher_is_better, unit = "pairwise_accuracy", True, "pairs"

    def __init__(
        self,
        settings: RankingTraining,
        model: SiamesePoiModel,
        exporter: RankingExport,
        data: RankingData,
        team: Team,
        device: torch.device,
    ) -> None:
        self.settings, self.exporter, self.data = settings, exporter, data
        self._team, self._device = team, device
        self.module = model.to(device)
        if settings.channels_last:
            self.module.align_model.image_model.to(memory_format=torch.channels_last)
        self._trains_images, self._trains_texts = settings.train != "head", settings.train == "towers"
        towers = self.module.align_model
        towers.requires_grad_(False)
        for part in self._trained_towers():
            part.requires_grad_(True)
        self._poi_pictures, self._poi_names = (
            torch.from_numpy(x).to(device) for x in (data.pois.pictures, data.pois.names)
        )
        self._spec = exporter.image_spec
        self._normalise = Normalise(self._spec, device)
        self._judged_images = data.validation.column("image")
        self.last: Pairs | None = None

    def _trained_towers(self) -> list[nn.Module]:
        towers = self.module.align_model
        parts: list[nn.Module] = [towers.image_model, towers.image_hidden_layer] if self._trains_images else []
        return parts + ([towers.text_model, towers.text_hidden_layer] if self._trains_texts else [])

    def batches(self) -> ShuffledBatches:
        return ShuffledBatches(
            len(self.data.rows.pairs), self.settings.batch_size, self.settings.seed, self._team.rank, self._team.size
        )

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        towers = [p for part in self._trained_towers() for p in part.parameters()]
        head = [p for n, p in self.module.named_parameters() if not n.startswith("align_model.")]
        factor = settings.tower_factor if self.settings.init == "weights" else 1.0
        groups = [{"params": head, "lr": settings.learning_rate}]
        return groups + ([{"params": towers, "lr": settings.learning_rate * factor}] if towers else [])

    def train_mode(self) -> None:
        self.module.train()
        self.module.align_model.eval()
        for part in self._trained_towers():
            part.train()
        if self.settings.freeze_batch_norm:
            freeze_batch_norm(self.module)

    def compile(self) -> None:
        for part in self._trained_towers() or [self.module.linear3]:
            part.compile()

    def load(self, rows: Sequence[int], epoch: int) -> RankingBatch:
        known, at = self.data.rows, np.asarray(rows, np.int64)
        images = np.concatenate([known.image_a[at], known.image_b[at]])
        if self._trains_images:
            values = self._pixels(images, [*rows, *rows], epoch)
        else:
            values = self.data.train.arrays["vectors"][images]
        texts, mask = self._texts(known.text[at])
        pois = self.data.pois
        return RankingBatch(
            torch.from_numpy(values), texts, mask, torch.from_numpy(pois.index[known.poi[at]]),
            torch.from_numpy(pois.count[known.poi[at]]), torch.from_numpy(known.label[at]),
        )  # fmt: skip

    def _pixels(self, images: np.ndarray, rows: Sequence[int], epoch: int) -> np.ndarray:
        stored, size, mirror = self.data.train.arrays["pixels"][images], self._spec.size, self.settings.augment.mirror
        out = np.empty((len(stored), size, size, 3), np.uint8)
        for i, (pixels, row) in enumerate(zip(stored, rows, strict=True)):
            rng = np.random.default_rng([self.settings.seed, epoch, row, 2 * i // len(stored)])
            out[i] = augmented(pixels, size, mirror, rng)
        return out

    def _texts(self, numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.data.texts is not None:
            return torch.from_numpy(self.data.texts[numbers]), None
        ids = self.exporter.tokenizer([self.data.rows.texts[i] for i in numbers.tolist()])
        return padded(ids, self.exporter.tokenizer.pad_id)

    def loss(self, batch: RankingBatch, progress: Progress) -> StepLoss:
        images, texts = self._image_vectors(batch.images), self._text_vectors(batch)
        images = F.dropout(images, self.settings.vector_dropout, self.module.training)
        poi, counts = batch.poi.to(self._device), batch.num_pois.to(self._device)
        pois = self._poi_pictures[poi], self._poi_names[poi], counts
        both = self.module.score(images, torch.cat([texts, texts]), *(torch.cat([x, x]) for x in pois))
        score_a, score_b = both.float().chunk(2)
        each = pair_losses(score_a, score_b, batch.label.to(self._device))
        return StepLoss(each.mean(), {}, each.detach())

    def _image_vectors(self, images: torch.Tensor) -> torch.Tensor:
        if not self._trains_images:
            return images.to(self._device)
        return F.normalize(self.module.align_model.image_features(self._normalise(images)).float(), dim=-1)

    def _text_vectors(self, batch: RankingBatch) -> torch.Tensor:
        if batch.mask is None:
            return batch.texts.to(self._device)
        features = self.module.align_model.text_features(batch.texts.to(self._device), batch.mask.to(self._device))
        return F.normalize(features.float(), dim=-1)

    def row_names(self, rows: Sequence[int]) -> list[str]:
        found = self.data.rows.pairs
        at = np.asarray(rows, np.int64)
        names = (self.data.train.readable(side[at], "row_id") for side in (found.row_a, found.row_b))
        return [f"pair ({a}, {b})" for a, b in zip(*names, strict=True)]

    # --- judging ---------------------------------------------------------------------------------------------------

    def validate(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory(prefix="aistudio-train-") as folder:
            model = self.exporter.load(self.module, Path(folder), self.table(), str(self._device))
            if self._changed_towers:
                table = self.rebuilt_table(model)
                model = self.exporter.load(self.module, Path(folder), table, str(self._device))
            self.last = self._judge(model)
        found = self.last
        return {
            "pairwise_accuracy": float(correct(found).mean()),
            "roc_auc": classification.roc_auc(found.label, found.margin),
            "log_loss": float(classification.log_losses(found.label, found.probability).mean()),
        }

    def worst_cases(self, num: int) -> list[Case]:
        """Return the pairs in the wrong order, those first of which the model was surest."""
        found = self.last
        assert found is not None, "validate first"
        wrong = np.flatnonzero((correct(found) == 0) & (found.ctr_a != found.ctr_b))
        wrong = wrong[np.argsort(-np.abs(found.margin[wrong]), kind="stable")][:num]
        judged, cases = self.data.judged, []
        for i in wrong.tolist():
            rows = [int(judged.row_a[i]), int(judged.row_b[i])]
            names, texts, items = (self.data.validation.readable(rows, c) for c in ("row_id", "text", "item_id"))
            thumbs = self.data.validation.thumbnails(self._judged_images[rows])
            sides = zip(names, (found.ctr_a[i], found.ctr_b[i]), (found.score_a[i], found.score_b[i]), strict=True)
            captions = [f"{name}: CTR {ctr:.4g}, score {score:.3f}" for name, ctr, score in sides]
            title = f"{items[0]} {texts[0]}".strip()
            cases.append(Case(title, f"margin {found.margin[i]:.3f}", list(zip(captions, thumbs, strict=True))))
        return cases

    @property
    def _changed_towers(self) -> bool:
        return self._trains_images and self.data.poi_images is not None

    def table(self) -> pa.Table | None:
        """Return the POI table of the start."""
        return self.data.table

    def rebuilt_table(self, model: SiameseRanking) -> pa.Table:
        """Build the POI table with the present towers."""
        chosen = self.data.poi_images
        assert chosen is not None
        size = self._spec.size

        def vectors(images: list[int]) -> np.ndarray:
            parts = []
            for start in range(0, len(images), ENCODED_AT_ONCE):
                stored = self.data.train.arrays["pixels"][images[start : start + ENCODED_AT_ONCE]]
                at = (stored.shape[1] - size) // 2
                parts.append(model.encode_images(np.ascontiguousarray(stored[:, at : at + size, at : at + size])))
            return np.concatenate(parts) if parts else np.empty((0, model.dim), np.float32)

        return poi_rows(chosen, vectors, model.encode_texts)

    def export(self, folder: Path, place: Place, name: str) -> ModelConfig:
        """Write the module's present weights, with the POI table that belongs to them."""
        table = self.table()
        if self._changed_towers:
            with tempfile.TemporaryDirectory(prefix="aistudio-train-") as tmp:
                table = self.rebuilt_table(self.exporter.load(self.module, Path(tmp), table, str(self._device)))
        return self.exporter.write(self.module, folder, place, table)

    def _judge(self, model: SiameseRanking) -> Pairs:
        judged, scores = self.data.judged, []
        for rows in (judged.row_a, judged.row_b):
            found = np.empty(len(rows), np.float32)
            for start in range(0, len(rows), 1_024):
                part = rows[start : start + 1_024]
                texts, names = (self.data.validation.readable(part, c) for c in ("text", "poi_names"))
                found[start : start + 1_024] = model.rank(self._validation_vectors(model, part), texts, names)
            scores.append(found)
        return pairs(judged.ctr_a, judged.ctr_b, *scores)

    def _validation_vectors(self, model: SiameseRanking, rows: np.ndarray) -> np.ndarray:
        images, arrays = self._judged_images[rows], self.data.validation.arrays
        if not self._trains_images:
            return arrays["vectors"][images]
        parts = [
            model.encode_images(arrays["pixels"][images[start : start + ENCODED_AT_ONCE]])
            for start in range(0, len(images), ENCODED_AT_ONCE)
        ]
        return np.concatenate(parts)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put every BatchNorm into eval mode: its running statistics are used and stay as they are."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
