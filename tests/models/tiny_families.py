"""A tiny model of every family, with random weights: the contract test runs all of them.

A new family adds its builder here; without one tests/models/test_contract.py fails.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.models._checkpoint import save_weights
from tests.models import test_hf_dual, tiny_golden


def align(folder: Path) -> ModelConfig:
    return _published(folder, "align", tiny_golden.shapes(), tiny_golden.ARCH)


def siamese_poi(folder: Path) -> ModelConfig:
    return _published(folder, "siamese_poi", tiny_golden.ranking_shapes(), tiny_golden.RANKING_ARCH)


def hf_dual(folder: Path) -> ModelConfig:
    torch.manual_seed(0)
    test_hf_dual.clip(folder)
    return test_hf_dual.conf(folder)


BUILDERS: dict[str, Callable[[Path], ModelConfig]] = {"align": align, "hf_dual": hf_dual, "siamese_poi": siamese_poi}


def _published(folder: Path, family: str, shapes: dict, arch: dict) -> ModelConfig:
    (folder / "vocab.txt").write_text("\n".join(tiny_golden.VOCABULARY) + "\n", encoding="utf-8")
    save_weights(tiny_golden.weights(shapes), folder / "model.safetensors")
    return ModelConfig(
        family=family, name=f"tiny_{family}", weights=WeightsFile(path=str(folder / "model.safetensors")),
        tokenizer=str(folder), image=ImageSpec(size=tiny_golden.SIZE), arch=arch,
    )  # fmt: skip
