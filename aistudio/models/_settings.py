"""A family's own settings (`arch`) and its vocabulary's folder, from a model's conf; no torch here."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from aistudio.config import ModelConfig, Settings
from aistudio.errors import ConfigError, WeightsError

A = TypeVar("A", bound=Settings)


def parse_arch(model: type[A], cfg: ModelConfig) -> A:
    """`cfg.arch` as the family's own settings. Raises ConfigError naming the key."""
    try:
        return model.model_validate(cfg.arch)
    except ValidationError as e:
        lines = [f"{cfg.name}: arch.{'.'.join(map(str, err['loc']))}: {err['msg']}" for err in e.errors()]
        raise ConfigError("\n".join(lines)) from None


def require_vocabulary(cfg: ModelConfig) -> Path:
    """Folder of the tokenizer. Raises ConfigError when not set, WeightsError when vocab.txt is not there."""
    if cfg.tokenizer is None:
        raise ConfigError(f"{cfg.name}: tokenizer is missing; expected the folder that holds vocab.txt")
    folder = Path(cfg.tokenizer)
    if not (folder / "vocab.txt").is_file():
        raise WeightsError(
            f"{folder / 'vocab.txt'}: no such tokenizer file; fetch it with\n"
            f"  python -m aistudio weights fetch --conf conf/models/{cfg.name}.yaml\n"
            "or list it under extra_files with its url, so that every node can fetch it"
        )
    return folder
