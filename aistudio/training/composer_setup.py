"""Puts the task composer together: the composer, its pictures, the pairs and the questions to judge by."""

import hashlib
import json
import tempfile

import numpy as np
import torch
from numpy.typing import NDArray

from aistudio.catalogue import DATASET_FORMATS
from aistudio.config import ComposerTraining, ImageSpec, SearchSettings, load_model_config
from aistudio.config.train_data import SourceSettings
from aistudio.errors import ConfigError
from aistudio.search.judging import protocol_prefix
from aistudio.training.cache import Cache
from aistudio.training.composer_drawn import SHOWN
from aistudio.training.composer_pairs import Pairs, QuestionPairs
from aistudio.training.composer_sources import Asked, training_pairs, validation_questions
from aistudio.training.composer_task import ComposerData, ComposerTask
from aistudio.training.composer_trainable import (
    FrozenImages,
    open_images,
    open_trained,
    refused_texts,
    require_composer,
    towers_digests,
)
from aistudio.training.dataset import Dataset
from aistudio.training.inputs import Data, DataOpener, Pixels, Say, model_here
from aistudio.training.setup import Setup, weights_digest
from aistudio.training.team import Team
from aistudio.training.vector_columns import vector_column

ROWS_AT_ONCE = 65_536


def set_up_composer(settings: ComposerTraining, team: Team, device: torch.device, say: Say, *, dry: bool) -> Setup:
    """Open model and data of a composer's training.

    Raises:
        ConfigError: no pairs, vectors of another tower, a setting that does not fit.
        WeightsError: files that are missing or do not fit.
    """
    cfg, conf = model_here(settings.model, settings, team.leads), load_model_config(settings.model)
    require_composer(cfg)
    settings = _with_splits(settings)
    images = open_images(cfg, settings, device)
    data, cache = _data(settings, cfg.image, images, say, dry)
    usable = data.overlap.usable & _good_vectors(data.train, dry)
    refused = refused_texts(cfg)
    own = settings.data.validation if settings.data.validation.num_named else settings.data
    asking = Asked(settings, settings.data, settings.pairs, training=True)
    judging = Asked(settings, own, settings.validation_pairs or settings.pairs, training=False)
    pairs = training_pairs(asking, data.train, usable, refused)
    judged = validation_questions(judging, data.validation, refused)
    trained = open_trained(cfg, settings, images, pairs.texts, device)
    _require_width(data, cfg.arch["stages"] if trained.has_head else trained.dim)
    _require_batches(settings, len(pairs), team)
    name = settings.name or cfg.name
    dataset = judging.dataset
    kept = [] if dataset is not None and dataset.format == "fashioniq" else ["row"]
    prefix = protocol_prefix(SearchSettings(text=settings.text), "row", kept, dataset.format if dataset else None)
    shape = {
        "content": data.contents(), "model": weights_digest(trained.model), "pairs": _digest(pairs),
        "questions": _digest(judged), "towers": towers_digests(cfg),
    }  # fmt: skip
    found = ComposerData(data.train, pairs, data.validation, judged, prefix)
    task = ComposerTask(settings, trained, conf, found, team, device)
    left_out = {"train": pairs.left_out, "validation": judged.left_out}
    counts = data.counts() | {"pairs": {"train": len(pairs), "validation": len(judged), "left_out": left_out}}
    return Setup(task, name, counts, shape, cache, tempfile.TemporaryDirectory(prefix="aistudio-train-"))


def _with_splits(settings: ComposerTraining) -> ComposerTraining:
    """A data set is trained on by its split train, unless another is named. Raises ConfigError without its judges."""
    manifest = settings.data.manifest
    if manifest is None or manifest.format not in DATASET_FORMATS:
        return settings
    if not settings.data.validation.num_named:
        raise ConfigError(
            f"data.validation: {manifest.format} is judged by a split of its own, not by a share; name "
            "data.validation.manifest with the same path and format"
        )
    if manifest.split is not None:
        return settings
    data = settings.data.model_copy(update={"manifest": manifest.model_copy(update={"split": "train"})})
    return settings.model_copy(update={"data": data})


def _data(
    settings: ComposerTraining, spec: ImageSpec, images: FrozenImages | None, say: Say, dry: bool
) -> tuple[Data, Cache]:
    """Open pixels, or vectors of the frozen image tower: stored ones where the source is a run."""
    drawn = settings.data.drawn is not None or settings.data.validation.drawn is not None
    opener = DataOpener(settings, SHOWN if drawn else None, say, dry)
    if images is None:
        return opener.open(Pixels(spec, settings.cache_px(spec.size)), lambda source: None), opener.cache
    tower = images.image_tower_fingerprint or ""

    def column(source: SourceSettings) -> str | None:
        if source.run and settings.train == "image_tower":
            raise ConfigError("data.run: a run stores no stages; train: image_tower wants a manifest or drawn pictures")
        return vector_column(settings, opener.source(source, None), tower) if source.run else None

    return opener.open(Pixels(images.spec, images.spec.size, images.encode, tower), column), opener.cache


def _good_vectors(data: Dataset, dry: bool) -> NDArray[np.bool_]:
    """(N,) rows whose image has a direction: a vector of zeros has none, and no cosine to anything."""
    vectors, image = data.arrays.get("vectors"), data.column("image")
    if vectors is None or dry:
        return np.ones(len(image), bool)
    good = np.empty(len(image), bool)
    for start in range(0, len(image), ROWS_AT_ONCE):
        rows = vectors[image[start : start + ROWS_AT_ONCE]]
        good[start : start + ROWS_AT_ONCE] = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    return good


def _require_width(data: Data, dim: int) -> None:
    for name, found in (("data", data.train), ("data.validation", data.validation)):
        vectors = found.arrays.get("vectors")
        if vectors is not None and vectors.info.row_shape != (dim,):
            raise ConfigError(
                f"{name}: vectors are {vectors.info.row_shape[0]} wide, but the composer works with {dim}; "
                "name the right column in data.vectors"
            )


def _require_batches(settings: ComposerTraining, num_pairs: int, team: Team) -> None:
    """Raises ConfigError where a batch, or a part of it, would be one pair: it has no negative, and no batch norm."""
    rows = min(settings.batch_size, num_pairs) // team.size
    size = -(-rows // max(1, min(settings.micro_batches, rows)))
    if size < 2 or rows % size == 1:
        raise ConfigError(
            f"{num_pairs:,} pairs with batch_size {settings.batch_size}, micro_batches {settings.micro_batches} on "
            f"{team.size} worker(s) leave a batch of one pair, which has nothing to be compared with"
        )


def _digest(pairs: Pairs | QuestionPairs) -> str:
    """Return a digest of the pairs: those of the first epoch."""
    first = pairs.epoch(0, 0)
    digest = hashlib.sha256(first.source.tobytes() + first.target.tobytes())
    digest.update(json.dumps(first.texts).encode())
    return digest.hexdigest()
