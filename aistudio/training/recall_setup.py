"""Puts the task recall together: the dual encoder, rows of an image and its text."""

import tempfile
from typing import Any

import numpy as np
import torch

from aistudio.config.train import RecallTraining
from aistudio.errors import ConfigError
from aistudio.training.dataset import Dataset
from aistudio.training.dual import open_dual
from aistudio.training.inputs import Data, DataOpener, Pixels, Say, model_here
from aistudio.training.recall_task import RecallData, RecallRows, RecallTask
from aistudio.training.setup import Setup, weights_digest
from aistudio.training.team import Team

_ROWS_AT_ONCE = 8_192


def set_up_recall(settings: RecallTraining, team: Team, device: torch.device, say: Say, *, dry: bool) -> Setup:
    """Open model and data of a recall training.

    Raises:
        ConfigError: no row with a text, fewer than two items, a setting that does not fit.
        WeightsError: files that are missing or do not fit.
    """
    cfg = model_here(settings.model, settings, team.leads)
    dual = open_dual(cfg, settings)
    opener = DataOpener(settings, settings.hard_negatives, say, dry)
    spec = dual.image_spec
    data = opener.open(Pixels(spec, settings.cache_px(spec.size), conf=cfg), lambda source: None)
    rows, left_out = _rows(settings, data)
    start = weights_digest(dual.module)
    name = settings.name or cfg.name
    counts = data.counts() | {"texts": {"train": len(rows.row), "left_out": left_out}}
    task = RecallTask(settings, dual, RecallData(data.train, rows, data.validation), team, device)
    shape: dict[str, Any] = {"content": data.contents(), "model": start}
    keeping = tempfile.TemporaryDirectory(prefix="aistudio-train-")
    return Setup(task, name, counts, shape, opener.cache, keeping)


def _rows(settings: RecallTraining, data: Data) -> tuple[RecallRows, dict[str, int]]:
    train = data.train
    written = _has_text(train)
    usable = data.overlap.usable & written
    left_out = {
        "the text is empty": int((~written).sum()),
        "an item or image is also in the validation data": int((~data.overlap.usable & written).sum()),
    }
    row = np.flatnonzero(usable)
    if not len(row):
        reasons = "; ".join(f"{n:,} because {reason}" for reason, n in left_out.items() if n)
        raise ConfigError(f"data: no row with a text is left: {reasons}")
    if not _has_text(data.validation).any():
        raise ConfigError("data.validation: no row has a text, so there are no queries to judge by")
    item = np.unique(train.column("item")[row], return_inverse=True)[1].astype(np.int64)
    if item.max() < 1:
        raise ConfigError("data: all rows are of one item, so no text is a negative of any image")
    group = None
    if settings.hard_negatives:
        group = train.codes("label")[0][row]
    rows = RecallRows(row, train.column("image")[row], item, group, train.column("ctr")[row])
    if settings.click_weight and not np.isfinite(rows.ctr).any():
        raise ConfigError("click_weight: no training row has a ctr; set it to 0 or map a column to ctr")
    return rows, {reason: n for reason, n in left_out.items() if n}


def _has_text(data: Dataset) -> np.ndarray:
    out = np.zeros(len(data), bool)
    for start in range(0, len(data), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(data)))
        out[rows] = [bool(text.strip()) for text in data.readable(rows, "text")]
    return out
