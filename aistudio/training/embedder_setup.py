"""Puts the task embedder together: model, loss, labelled images, batches."""

import tempfile
from typing import Any

import numpy as np
import torch

from aistudio.config.train import EmbedderTraining, VaeTraining
from aistudio.errors import ConfigError
from aistudio.training.class_batches import BatchShape, ClassBatches
from aistudio.training.embedder_model import begin_model, frozen_trunk
from aistudio.training.embedder_task import EmbedderTask, SimilarData, metric_loss
from aistudio.training.inputs import Data, DataOpener, Pixels, Say, model_here
from aistudio.training.labelled import LabelledRows, labelled_rows, open_labels
from aistudio.training.setup import Setup, weights_digest
from aistudio.training.similar_check import queries_of
from aistudio.training.team import Team


def set_up_embedder(settings: EmbedderTraining, team: Team, device: torch.device, say: Say, *, dry: bool) -> Setup:
    """Open model and data of an embedder's training.

    Raises:
        ConfigError: no labels, one class, batches that cannot be made, a loss that is not known.
        WeightsError: files that are missing or do not fit.
    """
    cfg = model_here(settings.model, settings, team.leads)
    trunk = settings.trunk_from
    pretrained = model_here(trunk, settings.model_copy(update={"init": "weights"}), team.leads) if trunk else None
    model = begin_model(cfg, settings, pretrained, say)
    metric_loss(settings, model, 2)  # a wrong name or option is found before anything is fetched
    encode, fingerprint = frozen_trunk(model, cfg, device) if model.arch.freeze_trunk else (None, "")
    labels = open_labels(settings.data, settings, needed=True)
    opener = DataOpener(settings, labels.column, say, dry, labels)
    pixels = Pixels(cfg.image, settings.cache_px(cfg.image.size), encode, fingerprint, cfg)
    data = opener.open(pixels, lambda source: None)
    found = similar_data(data, settings, labelled=True)
    batches = class_batches(settings, found.rows, team)
    shape = {
        "content": data.contents(), "model": weights_digest(model),
        "labels": {"train": found.rows.digest, "validation": found.judged.digest},
    }  # fmt: skip
    task = EmbedderTask(settings, model, cfg, found, batches, team, device)
    counts = data.counts() | {"labels": label_counts(found)}
    keeping = tempfile.TemporaryDirectory(prefix="aistudio-train-")
    return Setup(task, settings.name or cfg.name, counts, shape, opener.cache, keeping)


def similar_data(data: Data, settings: EmbedderTraining | VaeTraining, *, labelled: bool) -> SimilarData:
    """Return the rows that are trained on and judged by.

    Raises:
        ConfigError: nothing to train on or to judge by; with `labelled` also labels that teach or measure nothing.
    """
    left_out = settings.data.labels_left_out
    rows = labelled_rows(data.train, data.overlap.usable, left_out)
    judged = labelled_rows(data.validation, np.ones(len(data.validation), bool), left_out)
    for name, part in (("data", rows), ("data.validation", judged)):
        if not len(part):
            raise ConfigError(f"{name}: no rows are left: all have a label of data.labels_left_out, or the overlap")
    if labelled and len(rows.classes) < 2:
        only = next(iter(rows.classes))
        raise ConfigError(
            f"data.label: all {len(rows):,} training rows have the label {only!r}: of one class there is nothing to "
            "tell apart; name another column"
        )
    queries = queries_of(judged, settings.max_queries, settings.seed)
    if labelled and not len(queries):
        raise ConfigError(
            f"data.validation: no two different images of its {len(judged):,} rows have the same label, so nothing "
            "can be found; give the validation more rows"
        )
    return SimilarData(data.train, rows, data.validation, judged, queries)


def class_batches(settings: EmbedderTraining, rows: LabelledRows, team: Team) -> ClassBatches:
    """Return this worker's sampler. Raises ConfigError where P x K batches cannot be made."""
    p = settings.classes_per_batch
    if settings.micro_batches > 1:
        raise ConfigError("micro_batches: a batch's images are compared with each other, so it cannot be cut; set 1")
    if p % team.size:
        raise ConfigError(f"classes_per_batch {p} cannot be shared evenly by {team.size} workers")
    if p > len(rows.classes):
        raise ConfigError(
            f"classes_per_batch {p}: the training rows have {len(rows.classes)} labels "
            f"({', '.join(list(rows.classes)[:5])} …); set at most that"
        )
    shape = BatchShape(p // team.size, settings.images_per_class, settings.batches_per_epoch)
    return ClassBatches(rows.label.tolist(), shape, settings.seed, team.rank, team.size)


def label_counts(found: SimilarData) -> dict[str, Any]:
    """Return how many rows have which label, for people."""
    return {"train": found.rows.classes, "validation": found.judged.classes, "queries": len(found.queries)}
