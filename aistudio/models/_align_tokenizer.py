"""The tokenizer of the family `align`; no torch here, so that a driver can look at texts without it."""

from aistudio.config import ModelConfig
from aistudio.models._settings import parse_arch, require_vocabulary
from aistudio.models._tower_sizes import AlignArch, TextArch
from aistudio.models._wordpiece import BertTokenizer


def open_tokenizer(cfg: ModelConfig) -> BertTokenizer:
    """The tokenizer alone. Raises ConfigError and WeightsError."""
    return tokenizer_of(cfg, parse_arch(AlignArch, cfg).text)


def tokenizer_of(cfg: ModelConfig, arch: TextArch) -> BertTokenizer:
    """Open the vocabulary in the conf's folder. Raises ConfigError, and WeightsError when it is not the model's."""
    return BertTokenizer(require_vocabulary(cfg), arch.max_tokens, arch.vocab_size)
