"""Task vae: encode and decode images through a narrow normal distribution; the stored vector is its mean.

A VAE's vectors know colour, background and layout, not the kind of an item. `arch.beta: 0` is the plain autoencoder.
"""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from aistudio.config import ModelConfig
from aistudio.config.train import OptimiserSettings, VaeTraining
from aistudio.metrics.ranking import Similarity
from aistudio.models import load_model
from aistudio.models.vae import Vae, VaeModel, state_dict_published
from aistudio.training.board import Projection, tiled
from aistudio.training.embedder_model import write_encoder
from aistudio.training.embedder_task import ENCODED_AT_ONCE, SimilarData
from aistudio.training.exporting import Place
from aistudio.training.monitors import PosteriorWatch, active_units
from aistudio.training.picture_augment import augmented_batch
from aistudio.training.ranking_task import freeze_batch_norm
from aistudio.training.shuffled import ShuffledBatches
from aistudio.training.similar_check import Judged, few_queries, judge
from aistudio.training.similar_pictures import neighbour_rows, projection
from aistudio.training.task import Case, Progress, StepLoss
from aistudio.training.team import Team
from aistudio.training.vae_check import SHOWN, Kept, check_vae, vae_pictures
from aistudio.training.vae_loss import beta_at, vae_loss

LOWER_IS_BETTER = ("loss", "squared_error", "reconstruction", "kl")


class VaeBatch(NamedTuple):
    """B images on the CPU."""

    pixels: torch.Tensor  # (B, S, S, 3) uint8


class VaeTask:
    """See aistudio/training/task.py for the methods."""

    metric, unit = "loss", "images"

    def __init__(
        self, settings: VaeTraining, model: VaeModel, cfg: ModelConfig, data: SimilarData, team: Team,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.settings, self.cfg, self.data = settings, cfg, data
        self._team, self._device = team, device
        self.module = model.to(device)
        if settings.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self.higher_is_better = (settings.validation.metric or self.metric) not in LOWER_IS_BETTER
        self._watch, self._new = PosteriorWatch(), list[tuple[str, str]]()
        self.last: Judged | None = None
        self._kept: Kept | None = None
        self._vectors = np.empty((0, 1), np.float32)
        self._pictures: dict[str, NDArray[np.uint8]] = {}
        self._decoded: list[NDArray[np.uint8]] = []

    def batches(self) -> ShuffledBatches:
        settings = self.settings
        return ShuffledBatches(
            len(self.data.rows), settings.batch_size, settings.seed, self._team.rank, self._team.size
        )

    def parameter_groups(self, settings: OptimiserSettings) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": settings.learning_rate}]

    def train_mode(self) -> None:
        self.module.train()
        if self.settings.freeze_batch_norm:
            freeze_batch_norm(self.module)

    def compile(self) -> None:
        self.module.encoder.compile()
        self.module.decoder.compile()

    def load(self, rows: Sequence[int], epoch: int) -> VaeBatch:
        at = np.asarray(rows, np.int64)
        stored = self.data.train.arrays["pixels"][self.data.rows.image[at]]
        seeds = (self.settings.seed, epoch)
        return VaeBatch(augmented_batch(stored, at.tolist(), self.cfg.image.size, self.settings.augment, seeds))

    def loss(self, batch: VaeBatch, progress: Progress) -> StepLoss:
        asked, arch, device = self.settings.loss, self.module.arch, self._device
        x = batch.pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        noise = torch.randn(len(x), arch.latent_dim, device=device) if arch.beta else None
        logits, mean, log_variance = self.module(x, noise)
        beta = beta_at(progress.step, progress.total_steps, arch.beta, asked.warmup_share)
        with torch.autocast(device.type, enabled=False):
            found = vae_loss(
                logits.float(), x, mean.float(), log_variance.float(), beta, asked.reconstruction, asked.free_bits
            )
        reconstruction, kl = float(found.reconstruction.detach()), float(found.kl.detach())
        text = self._watch.update(kl, reconstruction, beta)
        self._new += [("posterior", text)] if text is not None else []
        numbers = {"vae/reconstruction": reconstruction, "vae/kl": kl, "vae/beta": beta}
        return StepLoss(found.loss, numbers | {"vae/active_units": float(active_units(mean))})

    def new_warnings(self) -> list[tuple[str, str]]:
        new, self._new = self._new, []
        return new

    def row_names(self, rows: Sequence[int]) -> list[str]:
        at = self.data.rows.row[np.asarray(rows, np.int64)]
        return [f"row {name}" for name in self.data.train.readable(at, "row_id")]

    def export(self, folder: Path, place: Place, name: str) -> ModelConfig:
        """Write the module's present weights; returns the model's settings for `place`."""
        return write_encoder(state_dict_published(self.module), self.cfg, folder, place, name)

    def validate(self) -> dict[str, float]:
        data, pixels, images = self.data, self.data.validation.arrays["pixels"], self.data.judged.image
        with tempfile.TemporaryDirectory(prefix="aistudio-train-") as folder:
            cfg = self.export(Path(folder), Place(folder), "model")
            self._kept = check_vae(cfg, pixels, images, self.settings.loss.reconstruction, self._device)
            model = cast(Vae, load_model(cfg, device=str(self._device)))
        parts = [images[i : i + ENCODED_AT_ONCE] for i in range(0, len(images), ENCODED_AT_ONCE)]
        self._vectors = np.concatenate([model.encode_images(pixels[part]) for part in parts])
        self._show(model)
        metrics = dict(self._kept.metrics)
        if len(data.queries):
            similarity: Similarity = "cosine" if self.module.arch.normalise else "euclidean"
            self.last = judge(self._vectors, data.judged, data.queries, self.settings.k, similarity)
            metrics |= self.last.metrics
        return metrics

    def _show(self, model: Vae) -> None:
        """Keep pictures of this state: a few fixed images spread over the validation, and the worst ones."""
        assert self._kept is not None
        images, pixels = self.data.judged.image, self.data.validation.arrays["pixels"]
        few = np.linspace(0, len(images) - 1, min(SHOWN, len(images))).round().astype(np.int64)
        self._pictures = vae_pictures(model, pixels[images[few]])
        worst = self._worst(self.settings.validation.worst_cases)
        self._decoded = list(model.reconstruct(pixels[images[worst]])) if len(worst) else []

    def _worst(self, num: int) -> NDArray[np.int64]:
        assert self._kept is not None
        return np.argsort(-self._kept.squared_error, kind="stable")[:num]

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Return reconstructions, samples and a walk; with labels also what is nearest to a few queries."""
        found = dict(self._pictures)
        if self.last is not None:
            rows = neighbour_rows(self.last, self.data.judged, few_queries(self.last, self.data.judged.label, SHOWN))
            found["val/neighbours"] = tiled([self.data.validation.thumbnails(row) for row in rows])
        return found

    def projection(self) -> Projection:
        """Return vectors, labels and pictures of the validation for TensorBoard's projector."""
        return projection(self._vectors, self.data.judged, self.data.validation)

    def worst_cases(self, num: int) -> list[Case]:
        """Return the images that are reconstructed worst, with their reconstruction."""
        assert self._kept is not None, "validate first"
        worst, rows = self._worst(num), self.data.judged
        names = self.data.validation.readable(rows.row[worst], "row_id")
        cases = []
        for at, name, decoded in zip(worst.tolist(), names, self._decoded, strict=False):
            original = self.data.validation.thumbnails(rows.image[[at]])[0]
            pictures: list[tuple[str, bytes | None]] = [(f"row {name}", original), ("reconstruction", _jpeg(decoded))]
            note = f"squared error {self._kept.squared_error[at]:.4f}"
            cases.append(Case(f"{rows.label[at]} {name}".strip(), note, pictures))
        return cases


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "JPEG", quality=90)
    return body.getvalue()
