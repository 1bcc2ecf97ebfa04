"""Puts the task vae together: model and images, with labels where there are some."""

import tempfile

import torch

from aistudio.config import ModelConfig
from aistudio.config.train import VaeTraining
from aistudio.errors import ConfigError
from aistudio.models.vae import VaeModel, fresh_model, open_model
from aistudio.training.embedder_setup import label_counts, similar_data
from aistudio.training.inputs import DataOpener, Pixels, Say, model_here
from aistudio.training.labelled import open_labels
from aistudio.training.setup import Setup, weights_digest
from aistudio.training.team import Team
from aistudio.training.vae_task import VaeTask


def set_up_vae(settings: VaeTraining, team: Team, device: torch.device, say: Say, *, dry: bool) -> Setup:
    """Open model and data of a VAE's training.

    Raises:
        ConfigError: no rows, an image size that does not fit, labels that are left out although there are none.
        WeightsError: files that are missing or do not fit.
    """
    cfg = model_here(settings.model, settings, team.leads)
    model = _begin(cfg, settings)
    if settings.data.labels_left_out and settings.data.label is None:
        raise ConfigError("data.labels_left_out needs data.label: the column that they stand in")
    labels = open_labels(settings.data, settings, needed=False)
    opener = DataOpener(settings, labels.column, say, dry, labels)
    data = opener.open(Pixels(cfg.image, settings.cache_px(cfg.image.size), conf=cfg), lambda source: None)
    found = similar_data(data, settings, labelled=False)
    shape = {
        "content": data.contents(), "model": weights_digest(model),
        "labels": {"train": found.rows.digest, "validation": found.judged.digest},
    }  # fmt: skip
    task = VaeTask(settings, model, cfg, found, team, device)
    counts = data.counts() | ({"labels": label_counts(found)} if settings.data.label else {})
    keeping = tempfile.TemporaryDirectory(prefix="aistudio-train-")
    return Setup(task, settings.name or cfg.name, counts, shape, opener.cache, keeping)


def _begin(cfg: ModelConfig, settings: VaeTraining) -> VaeModel:
    if cfg.family != "vae":
        raise ConfigError(f"model: {cfg.name} belongs to family {cfg.family}; task vae trains the family vae")
    if settings.init == "weights":
        return open_model(cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return fresh_model(cfg)
