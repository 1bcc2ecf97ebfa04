"""A tiny model of every family, with random weights: the contract test runs all of them.

A new family adds its builder here; without one tests/models/test_contract.py fails.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.models._checkpoint import save_weights
from aistudio.models.combiner import CombinerArch, CombinerModel
from tests.models import library_models, test_composers, test_embedder, test_hf_dual, test_vae, test_vision, tiny_golden


def align(folder: Path) -> ModelConfig:
    return _published(folder, "align", tiny_golden.shapes(), tiny_golden.ARCH)


def siamese_poi(folder: Path) -> ModelConfig:
    return _published(folder, "siamese_poi", tiny_golden.ranking_shapes(), tiny_golden.RANKING_ARCH)


def hf_dual(folder: Path) -> ModelConfig:
    torch.manual_seed(0)
    test_hf_dual.clip(folder)
    return test_hf_dual.conf(folder)


def embedder(folder: Path) -> ModelConfig:
    return test_embedder.written(folder, 32, {"backbone": "small_resnet", "dim": 16})[0]


def vae(folder: Path) -> ModelConfig:
    return test_vae.written(folder, test_vae.ARCH)[0]


def combiner(folder: Path) -> ModelConfig:
    base, arch = align(folder), {"projection": 6, "hidden": 8}
    torch.manual_seed(0)
    model = CombinerModel(tiny_golden.ARCH["dim"], CombinerArch(**arch))
    save_weights(model.state_dict(), folder / "combiner.safetensors")
    weights = WeightsFile(path=str(folder / "combiner.safetensors"))
    return ModelConfig(family="combiner", name="tiny_combiner", weights=weights, towers={"base": base}, arch=arch)


def weighted_sum(folder: Path) -> ModelConfig:
    base = align(folder)
    return test_composers.config(folder, "weighted_sum", weights=base.weights, towers={"base": base}, arch={})


def vision(folder: Path) -> ModelConfig:
    torch.save(test_vision.torchvision_net("resnet18").state_dict(), folder / "vision.pth")
    return test_vision.conf(folder / "vision.pth", torchvision="resnet18")


BUILDERS: dict[str, Callable[[Path], ModelConfig]] = {
    "align": align,
    "combiner": combiner,
    "compose_ae": lambda folder: test_composers.saved(folder, "compose_ae"),
    "embedder": embedder,
    "hf_dual": hf_dual,
    "open_clip": library_models.open_clip,
    "real_space_concat_ae": lambda folder: test_composers.saved(folder, "real_space_concat_ae"),
    "siamese_poi": siamese_poi,
    "sentence_transformers": library_models.sentence_transformers,
    "timm": library_models.timm,
    "tirg": lambda folder: test_composers.saved(folder, "tirg"),
    "vae": vae,
    "vision": vision,
    "weighted_sum": weighted_sum,
}


def _published(folder: Path, family: str, shapes: dict, arch: dict) -> ModelConfig:
    (folder / "vocab.txt").write_text("\n".join(tiny_golden.VOCABULARY) + "\n", encoding="utf-8")
    save_weights(tiny_golden.weights(shapes), folder / "model.safetensors")
    return ModelConfig(
        family=family, name=f"tiny_{family}", weights=WeightsFile(path=str(folder / "model.safetensors")),
        tokenizer=str(folder), image=ImageSpec(size=tiny_golden.SIZE), arch=arch,
    )  # fmt: skip
