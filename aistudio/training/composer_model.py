"""Composers that can be trained: opened from a file, or fresh; and texts as their LSTM reads them."""

from collections.abc import Sequence

import torch

from aistudio.config import ModelConfig
from aistudio.errors import ConfigError
from aistudio.models._composer_open import Build, OpenedComposer, open_composer
from aistudio.models._composer_parts import ComposerArch, ComposerModel
from aistudio.models._settings import parse_arch
from aistudio.models._words import Vocabulary
from aistudio.models.compose_ae import ComposeAeModel
from aistudio.models.real_space_concat_ae import RealSpaceConcatAeModel
from aistudio.models.tirg import TirgModel
from aistudio.training.recall import padded

BUILDERS: dict[str, Build] = {
    "tirg": TirgModel,
    "compose_ae": ComposeAeModel,
    "real_space_concat_ae": RealSpaceConcatAeModel,
}


def open_trainable(cfg: ModelConfig) -> OpenedComposer:
    """A checked composer whose `model()` can be trained further.

    Raises:
        ConfigError: the family is no composer that is trained here.
        WeightsError: as `load_model`.
    """
    return open_composer(cfg, _builder(cfg))


def fresh_composer(cfg: ModelConfig, words: Sequence[str] | None) -> ComposerModel:
    """A composer with random numbers, by torch's global generator; no file is read.

    Args:
        words: the LSTM's vocabulary by id; None where the text side is another one.

    Raises:
        ConfigError: no such composer, an invalid size, or an LSTM without words.
    """
    arch = parse_arch(ComposerArch, cfg)
    if (arch.text == "lstm") != (words is not None):
        raise ConfigError(f"{cfg.name}: a vocabulary goes with arch.text: lstm, which is {arch.text}")
    num_words = None if words is None else len(Vocabulary(words, cfg.name))
    return _builder(cfg)(arch, num_words, "image" not in cfg.towers)


def _builder(cfg: ModelConfig) -> Build:
    if cfg.family not in BUILDERS:
        raise ConfigError(f"{cfg.name}: family {cfg.family!r} is no composer; known: {', '.join(BUILDERS)}")
    return BUILDERS[cfg.family]


def word_tensors(vocabulary: Vocabulary, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Word ids (B,L) int64, padded on the right, and their lengths (B,).

    Raises:
        ValueError: a text without any word, which the LSTM has no vector for; leave such pairs out.
    """
    ids = vocabulary.tokenize(texts)
    empty = next((text for text, words in zip(texts, ids, strict=True) if not words), None)
    if empty is not None:
        raise ValueError(f"a text without any word cannot be trained on: {empty[:100]!r}")
    return padded(ids, 0)[0], torch.tensor([len(words) for words in ids])
