"""The whole recipe of weights/demo: vocabulary, both models, POI table. Measuring and the card are elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from aistudio.config import ModelConfig
from aistudio.demo.texts import vocabulary
from aistudio.errors import ConfigError
from aistudio.models._bert import BertTokenizer
from aistudio.models._checkpoint import save_weights
from aistudio.models.align import AlignArch, AlignModel
from aistudio.models.align import state_dict_published as align_tensors
from aistudio.models.siamese_poi import SiameseArch, SiamesePoiModel
from aistudio.models.siamese_poi import state_dict_published as siamese_tensors
from aistudio.poi_table import PoiTable
from aistudio.training.ranking import RankingRecipe, Vectors, build_poi_rows, train_ranking
from aistudio.training.recall import RecallRecipe, encode_images, encode_texts, train_recall
from aistudio.training.renderings import RenderedSet, render

TRAIN_SEED = 1_000  # added to the run's seed; the demo catalogue's and the held-out seeds are below it


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides the conf files; the defaults made weights/demo."""

    seed: int = 0
    recall_images: int = 100  # per sight, for the towers
    ranking_images: int = 60  # per sight, for the head; others than the towers saw
    num_sights: int | None = None  # None: all
    workers: int = 2
    recall: RecallRecipe = field(default_factory=RecallRecipe)
    ranking: RankingRecipe = field(default_factory=RankingRecipe)


def train_demo(
    recall_cfg: ModelConfig,
    ranking_cfg: ModelConfig,
    out: Path,
    recipe: Recipe,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Train both models and write vocab.txt, recall.safetensors, ranking.safetensors, poi_table.parquet into `out`.

    Returns the last losses and the seconds each part took.

    Raises:
        ConfigError: the two conf files disagree on towers or pixels, or the vocabulary has another size.
    """
    arch, ranking_arch = _arches(recall_cfg, ranking_cfg)
    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(out, arch.text.max_tokens, arch.text.vocab_size)
    clock = _Clock(log)
    seen, unseen = _renderings(recall_cfg, recipe)
    clock.lap("render", f"{len(seen) + len(unseen)} pictures drawn")

    torch.manual_seed(recipe.seed)
    model = AlignModel(arch)
    loss = train_recall(model, tokenizer, recall_cfg.image, seen, recipe.recall, recipe.seed, log)
    save_weights(align_tensors(model), out / "recall.safetensors")
    clock.lap("recall", f"{out / 'recall.safetensors'} written")

    def encode(texts: list[str]) -> np.ndarray:
        return encode_texts(model, texts, tokenizer)

    known = Vectors(encode_images(model, seen.pixels, recall_cfg.image), seen.sight, seen.clicks)
    fresh = Vectors(encode_images(model, unseen.pixels, recall_cfg.image), unseen.sight, unseen.clicks)
    rows = build_poi_rows(known, encode)
    pq.write_table(rows, out / "poi_table.parquet", compression="zstd")
    torch.manual_seed(recipe.seed + 1)
    ranker = SiamesePoiModel(ranking_arch)
    ranker.align_model.load_state_dict(model.state_dict())
    ranking_loss = train_ranking(ranker, fresh, PoiTable.from_arrow(rows), encode, recipe.ranking, recipe.seed, log)
    save_weights(siamese_tensors(ranker), out / "ranking.safetensors")
    clock.lap("ranking", f"{out / 'ranking.safetensors'} written")
    return {"recall_loss": loss, "ranking_loss": ranking_loss, **clock.seconds}


def _arches(recall_cfg: ModelConfig, ranking_cfg: ModelConfig) -> tuple[AlignArch, SiameseArch]:
    arch, ranking = AlignArch(**recall_cfg.arch), SiameseArch(**ranking_cfg.arch)
    if (arch.image, arch.text, arch.dim) != (ranking.image, ranking.text, ranking.dim):
        raise ConfigError(f"{ranking_cfg.name}: arch must have the towers of {recall_cfg.name}, which it takes over")
    if recall_cfg.image != ranking_cfg.image:
        raise ConfigError(f"{ranking_cfg.name}: image must be that of {recall_cfg.name}")
    found, expected = arch.text.vocab_size, len(vocabulary())
    if found != expected:
        raise ConfigError(f"{recall_cfg.name}: arch.text.vocab_size is {found}, but the vocabulary has {expected}")
    return arch, ranking


def _renderings(cfg: ModelConfig, recipe: Recipe) -> tuple[RenderedSet, RenderedSet]:
    seed, both = TRAIN_SEED + recipe.seed, recipe.recall_images + recipe.ranking_images
    seen = render(seed, range(recipe.recall_images), cfg.image, recipe.num_sights, recipe.workers)
    unseen = render(seed, range(recipe.recall_images, both), cfg.image, recipe.num_sights, recipe.workers)
    return seen, unseen


class _Clock:
    def __init__(self, log: Callable[[str], None]) -> None:
        self._log, self._last = log, time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str, what: str) -> None:
        """Seconds since the last lap, logged and kept."""
        now = time.perf_counter()
        self.seconds[f"{name}_s"] = now - self._last
        self._last = now
        self._log(f"{what} ({self.seconds[f'{name}_s']:.0f} s)")
