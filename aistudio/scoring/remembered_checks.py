"""What a check of a model's files found, kept beside the node's weights: the same files need not be checked again.

A check needs torch, whose import takes longer than all else that a driver does. What it finds depends on the checksums
of the files, the settings and the code, so it is kept under a name made of these; workers check what they load anyway.
"""

import functools
import hashlib
import importlib.metadata
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import StoreError, WeightsError
from aistudio.models import check_is_remembered, check_weights
from aistudio.store import open_store
from aistudio.weights.files import WeightsInfo, file_sha256, require_files

_DECIDING = ("models", "config", "weights")  # the code of a check
_PACKAGES = ("torch", "torchvision")


def checked(cfg: ModelConfig, folder: Path) -> WeightsInfo:
    """Return the findings of `check_weights`: kept in `folder` from before, else found now and kept there.

    Raises:
        ConfigError, WeightsError: as check_weights.
    """
    key = _key(cfg)
    if key is None:
        return check_weights(cfg)
    if (known := _read(folder / key)) is not None:
        return known
    found = check_weights(cfg)
    with suppress(StoreError, OSError):  # a disk that is full or read-only: checked again next time
        open_store(str(folder)).write_bytes(key, json.dumps(asdict(found), default=_plain).encode())
    return found


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json")


def _read(path: Path) -> WeightsInfo | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return WeightsInfo(**data | {"image_spec": ImageSpec.model_validate(data["image_spec"])})
    except (OSError, ValueError, TypeError, KeyError):  # not there, or something else
        return None


def _key(cfg: ModelConfig) -> str | None:
    """A file name for all that a check depends on; None where it may depend on more, or a file is not there."""
    if not check_is_remembered(cfg):
        return None
    try:
        models, files = [cfg, *_towers(cfg)], require_files(cfg)
        vocabularies = {str(path): file_sha256(path) for model in models for path in _vocabulary(model)}
    except (OSError, WeightsError):
        return None
    content = {"model": cfg.model_dump(mode="json"), "files": files, "vocabularies": vocabularies, "code": _code()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest() + ".json"


def _towers(cfg: ModelConfig) -> list[ModelConfig]:
    return [model for tower in cfg.towers.values() for model in (tower, *_towers(tower))]


def _vocabulary(cfg: ModelConfig) -> list[Path]:
    """Every file that a tokenizer may be read from; a model's weights may lie in the same folder."""
    if cfg.tokenizer is None:
        return []
    return sorted(p for p in Path(cfg.tokenizer).iterdir() if p.suffix in (".txt", ".json", ".model"))


@functools.cache
def _code() -> str:
    digest = hashlib.sha256()
    for package in _PACKAGES:
        digest.update(f"{package} {importlib.metadata.version(package)} ".encode())
    for room in _DECIDING:
        for path in sorted((Path(__file__).parents[1] / room).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
