"""Puts the task ranking together: model, pairs, texts, POIs."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from aistudio.config.train import RankingTraining
from aistudio.config.train_data import SourceSettings
from aistudio.errors import AIStudioError, ConfigError
from aistudio.models.siamese_poi import SiameseRanking
from aistudio.poi_table import PoiTable
from aistudio.store import open_store
from aistudio.training.inputs import Data, DataOpener, Pixels, Say, model_here
from aistudio.training.pairs_data import PairRows, find_pairs, without_ties
from aistudio.training.ranking_data import (
    PoiArrays,
    PoiImages,
    RankingRows,
    choose_poi_images,
    encoded,
    poi_rows,
    ranking_rows,
)
from aistudio.training.ranking_model import RankingExport, open_ranking
from aistudio.training.ranking_task import RankingData, RankingTask
from aistudio.training.setup import Setup
from aistudio.training.team import Team
from aistudio.training.vector_columns import vector_column

_COSINE_TEXTS = 100_000  # more distinct texts than this, and encoding them is announced


def set_up_ranking(settings: RankingTraining, team: Team, device: torch.device, say: Say, *, dry: bool) -> Setup:
    """Open model and data of a ranking training.

    Raises:
        ConfigError: no pairs, labels of one class, vectors of another tower, a setting that does not fit.
        WeightsError: files that are missing or do not fit.
    """
    cfg = model_here(settings.model, settings, team.leads)
    towers = model_here(settings.towers_from, settings, team.leads) if settings.towers_from else None
    model = open_ranking(cfg, settings, towers)
    name = settings.name or cfg.name
    export = RankingExport(cfg, name)
    keeping = tempfile.TemporaryDirectory(prefix="aistudio-train-")  # of text vectors; lives as long as the setup
    start = export.load(model, _folder(keeping, "start"), None, str(device))
    opener = DataOpener(settings, None, say, dry)
    head_only = settings.train == "head"
    pixels = Pixels(
        cfg.image, settings.cache_px(cfg.image.size),
        start.encode_images if head_only else None, start.image_tower_fingerprint or "" if head_only else "", cfg,
    )  # fmt: skip

    def vectors(source: SourceSettings) -> str | None:
        if not (head_only and source.run):
            return None
        return vector_column(settings, opener.source(source, None), start.image_tower_fingerprint)

    data = opener.open(pixels, vectors)
    _require_width(data, start)
    rows, judged, counts = _pairs(data)
    poi_images, table = _pois(settings, data, start)
    poi_table = PoiTable.empty(start.dim) if table is None else PoiTable.from_arrow(table)
    poi_table.require_dim(start.dim)
    texts = None
    if settings.train != "towers":
        if len(rows.texts) > _COSINE_TEXTS:
            say(f"encoding {len(rows.texts):,} distinct texts")
        texts = encoded(rows.texts, start.encode_texts, start.dim, _folder(keeping, "texts"))
    pois = PoiArrays(poi_table, rows.poi_names)
    found = RankingData(data.train, rows, data.validation, judged, pois, table, poi_images, texts)
    task = RankingTask(settings, model, export, found, team, device)
    counts = data.counts() | {"pairs": counts, "pois": len(pois.pictures) - 1}
    return Setup(task, name, counts, _shape(data, start, table), opener.cache, keeping)


def _require_width(data: Data, start: SiameseRanking) -> None:
    for name, found in (("data", data.train), ("data.validation", data.validation)):
        vectors = found.arrays.get("vectors")
        if vectors is not None and vectors.info.row_shape != (start.dim,):
            raise ConfigError(
                f"{name}: vectors are {vectors.info.row_shape[0]} wide, but the ranking model works with {start.dim}"
            )


def _folder(keeping: Any, name: str) -> Path:
    folder = Path(keeping.name) / name
    folder.mkdir()
    return folder


def _shape(data: Data, start: SiameseRanking, table: pa.Table | None) -> dict[str, Any]:
    """Return what beside the settings decides the weights."""
    names = "" if table is None else hashlib.sha256(str(table.to_pylist()).encode()).hexdigest()
    return {"content": data.contents(), "model": start.fingerprint, "poi_table": names}


def _pairs(data: Data) -> tuple[RankingRows, PairRows, dict[str, Any]]:
    found, left_out = find_pairs(data.train, data.overlap.usable)
    train, num_ties = without_ties(found)
    if num_ties:
        left_out["both click rates are equal"] = num_ties
    judged, judged_left_out = find_pairs(data.validation, np.ones(len(data.validation), bool))
    for what, pairs, reasons in (("data", train, left_out), ("data.validation", judged, judged_left_out)):
        if not len(pairs):
            why = "; ".join(f"{n:,} because {reason}" for reason, n in reasons.items()) or "no row has a pair_id"
            raise ConfigError(
                f"{what}: no pairs are left: {why}. Rows need pair_id, side (a, b) and ctr: a ranking_pairs manifest "
                "has them, any other needs columns of these names"
            )
    rows = ranking_rows(data.train, train)
    labels = {"data": rows.label, "data.validation": (judged.ctr_a > judged.ctr_b).astype(np.float32)}
    for what, label in labels.items():
        if len(np.unique(label)) < 2:
            side = "a" if label[0] else "b"
            raise ConfigError(
                f"{what}: in every one of the {len(label):,} pairs side {side} was clicked more often: labels of one "
                "class teach and measure nothing; draw the sides of each pair at random"
            )
    counts = {"train": len(train), "validation": len(judged)}
    return rows, judged, counts | {"left_out": {"train": left_out, "validation": judged_left_out}}


def _pois(settings: RankingTraining, data: Data, start: SiameseRanking) -> tuple[PoiImages | None, pa.Table | None]:
    """Return the images from which the POI table is built, and the table that training begins with."""
    build = settings.poi_table == "build"
    if settings.poi_table is None:
        return None, None
    chosen = None
    if build or settings.train != "head":
        chosen = choose_poi_images(data.train, data.overlap.usable, start.encode_texts)
        if not chosen.images:
            raise ConfigError("poi_table: no training row names exactly one POI, so no POI has images to build it from")
    if not build:
        return chosen, _read_table(settings.poi_table, settings)
    assert chosen is not None
    stored = data.train.arrays.get("vectors")
    size = start.image_spec.size

    def vectors(images: list[int]) -> np.ndarray:
        if stored is not None:
            return stored[images]
        pixels = data.train.arrays["pixels"]
        at = (pixels.info.row_shape[0] - size) // 2
        parts = [pixels[images[i : i + 64]][:, at : at + size, at : at + size] for i in range(0, len(images), 64)]
        return np.concatenate([start.encode_images(np.ascontiguousarray(part)) for part in parts])

    return chosen, poi_rows(chosen, vectors, start.encode_texts)


def _read_table(path: str, settings: RankingTraining) -> pa.Table:
    folder, _, name = path.rpartition("/")
    try:
        return open_store(folder or ".", settings.store).read_table(name)
    except AIStudioError as e:
        raise ConfigError(f"poi_table: {e}; `aistudio poi_table` makes one, or set poi_table: build") from None
