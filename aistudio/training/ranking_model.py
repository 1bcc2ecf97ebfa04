"""The ranking model while it trains: opened or fresh, its towers taken over from a recall model, and exported."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from aistudio.config import ModelConfig
from aistudio.config.train import RankingTraining
from aistudio.errors import ConfigError
from aistudio.models import load_ranking
from aistudio.models._checkpoint import save_weights
from aistudio.models._opening import open_published
from aistudio.models._settings import parse_arch, require_vocabulary
from aistudio.models._tower_sizes import AlignArch
from aistudio.models._wordpiece import BertTokenizer
from aistudio.models.align import AlignModel
from aistudio.models.align import published_names as align_names
from aistudio.models.siamese_poi import (
    SiameseArch,
    SiamesePoiModel,
    SiameseRanking,
    published_names,
    state_dict_published,
)
from aistudio.poi_table import PoiTable
from aistudio.training.exporting import Place, with_files, write_model_yaml

POI_FILE = "poi_table.parquet"
VOCABULARY = "vocab.txt"


def open_ranking(cfg: ModelConfig, settings: RankingTraining, towers: ModelConfig | None) -> SiamesePoiModel:
    """Build the model with the weights that training begins with, float32 on the CPU.

    Args:
        towers: the recall model of `towers_from`.

    Raises:
        ConfigError: another family, or towers of other sizes.
        WeightsError: a file is missing or does not fit.
    """
    if cfg.family != "siamese_poi":
        raise ConfigError(f"model: {cfg.name} is of family {cfg.family}; task ranking trains family siamese_poi")
    arch = parse_arch(SiameseArch, cfg)
    torch.manual_seed(settings.seed)  # fresh parts are the same in every attempt
    model = SiamesePoiModel(arch)
    if settings.init == "weights" and not (settings.init_head == "random" and towers is not None):
        opened = open_published(cfg, arch, lambda: SiamesePoiModel(arch), published_names, arch.dim, "align_model.")
        loaded = opened.load()
        if settings.init_head == "random":
            model.align_model.load_state_dict(loaded.align_model.state_dict())
        else:
            model = loaded
    if towers is not None:
        model.align_model.load_state_dict(_towers(towers, cfg, arch).state_dict())
    return model


def _towers(recall: ModelConfig, cfg: ModelConfig, arch: SiameseArch) -> AlignModel:
    if recall.family != "align":
        raise ConfigError(f"towers_from: {recall.name} is of family {recall.family}, expected align")
    theirs = parse_arch(AlignArch, recall)
    if (theirs.image, theirs.text, theirs.dim) != (arch.image, arch.text, arch.dim) or recall.image != cfg.image:
        raise ConfigError(f"towers_from: {recall.name} has other sizes or pixels than {cfg.name}, which takes it over")
    return open_published(recall, theirs, lambda: AlignModel(theirs), align_names, theirs.dim).load()


class RankingExport:
    """Writes the model into folders; each can be loaded at once."""

    def __init__(self, cfg: ModelConfig, name: str) -> None:
        self._cfg, self.name = cfg, name
        self.image_spec = cfg.image
        self._vocabulary = require_vocabulary(cfg) / VOCABULARY
        text = parse_arch(SiameseArch, cfg).text
        self.tokenizer = BertTokenizer(self._vocabulary.parent, text.max_tokens, text.vocab_size)

    def write(self, model: SiamesePoiModel, folder: Path, place: Place, table: pa.Table | None) -> ModelConfig:
        """Write weights, vocabulary, POI table and YAML into `folder`; returns the settings for `place`."""
        weights = folder / f"{self.name}.safetensors"
        save_weights(state_dict_published(model), weights)
        shutil.copyfile(self._vocabulary, folder / VOCABULARY)
        comment = "Ranking model trained by `python -m aistudio train`; see card.md."
        if table is not None:
            pq.write_table(table, folder / POI_FILE, compression="zstd")
            comment += f"\nWants models.poi_table: {place.url or place.folder}/{POI_FILE}"
        cfg = with_files(self._cfg, place, weights, {"vocabulary": folder / VOCABULARY}, self.name)
        write_model_yaml(cfg, folder / f"{self.name}.yaml", comment)
        return cfg

    def load(self, model: SiamesePoiModel, folder: Path, table: pa.Table | None, device: str) -> SiameseRanking:
        """Write into `folder` and load what was written, float32, as `aistudio score` does."""
        cfg = self.write(model, folder, Place(str(folder)), table)
        poi_table = None if table is None else PoiTable.from_arrow(pq.read_table(folder / POI_FILE))
        loaded = load_ranking(cfg, poi_table, device=device)
        assert isinstance(loaded, SiameseRanking)
        return loaded
