"""The composers, data sets, losses and metrics behind the functions that the shared check of composed retrieval calls.

    PYTHONPATH=tests python ../shared/composed/check.py composed_adapter --strict

Weights are written by the recipe to files of the published format and opened by `load_model`.
"""

import atexit
import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aistudio.config import ImageSpec, ImagesSettings, ModelConfig, WeightsFile
from aistudio.images.decode import decode
from aistudio.models import load_model
from aistudio.models._words import Vocabulary

FAMILIES = {"tirg": "tirg", "composeae": "compose_ae", "realspace": "real_space_concat_ae"}
SPEC = ImageSpec(resize="pil_bilinear_center_crop")
_folder = tempfile.TemporaryDirectory(prefix="composed_")
atexit.register(_folder.cleanup)


def settings(keys_json: str, composer: str, text_dim: int, words: list[str]) -> ModelConfig:
    """The recipe's weights as a checkpoint of the published format, its vocabulary beside it."""
    recipe: Any = importlib.import_module("recipe")  # check.py has its folder on the path
    folder = Path(tempfile.mkdtemp(dir=_folder.name))
    state = recipe.make_state_dict(keys_json, len(words))
    torch.save({"it": 0, "model_state_dict": state}, folder / "latest_checkpoint.pth")
    (folder / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return ModelConfig(
        family=FAMILIES[composer],
        name=composer,
        weights=WeightsFile(path=str(folder / "latest_checkpoint.pth")),
        extra_files={"vocabulary": WeightsFile(path=str(folder / "words.txt"))},
        image=SPEC,
        arch={"text_dim": text_dim},
    )


def load(keys_json: str, composer: str, text_dim: int, words: list[str]) -> Any:
    return load_model(settings(keys_json, composer, text_dim, words))


def pixels(paths: list[str]) -> np.ndarray:
    found = [decode(Path(path).read_bytes(), [SPEC], ImagesSettings(thumbnail_px=0)) for path in paths]
    return np.stack([image.pixels[0] for image in found])


def encode_images(model: Any, paths: list[str]) -> np.ndarray:
    return model.encode_images(pixels(paths))


def encode_texts(model: Any, texts: list[str]) -> np.ndarray:
    return model.text_vectors(texts)


def compose(model: Any, paths: list[str], texts: list[str] | None, given: np.ndarray | None) -> dict[str, Any]:
    z = encode_images(model, paths)
    q = model.text_vectors(texts) if given is None else given
    vectors = model.compose(z, texts) if texts is not None else model.compose_vectors(z, q)
    _, image, text = model.mix(z, q)
    return {"composed": vectors} | ({} if image is None else {"image_decoded": image, "text_decoded": text})


def compose_conjugate(model: Any, paths: list[str], given: np.ndarray) -> Any:
    return model.mix(encode_images(model, paths), given, conjugate=True).vectors


def tokenize(words: list[str], texts: list[str]) -> list[list[int]]:
    return Vocabulary(words, "case").tokenize(texts)
