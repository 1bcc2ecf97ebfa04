"""Weights of the published size with random numbers, and the model as one would write it without this project."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from torch import nn
from torchvision.models.efficientnet import MBConv

from aistudio.config import ImageSpec, load_model_config
from aistudio.models import load_model
from aistudio.models._checkpoint import read_state_dict, save_weights
from aistudio.models._wordpiece import BertTokenizer
from aistudio.models.align import AlignArch, AlignModel, published_names, state_dict_published

BRANCH_GAIN = 0.3  # of the last norm in each block; at 1 a change of 1e-7 in the pixels turns vectors by 0.05


def write_b3(folder: Path, files: list[Path]) -> str:
    """Conf file of a recall model of the published sizes (EfficientNet-B3, 4-layer BERT).

    BatchNorm's statistics are taken from `files`, else the vectors of all images would come out nearly equal. Blocks
    add little to what they pass on: plain random weights are chaotic, and rounding alone turns the vectors.
    """
    torch.manual_seed(0)
    model = AlignModel()
    for block in model.image_model.modules():
        if isinstance(block, MBConv):
            block.block[-1][1].weight.data.fill_(BRANCH_GAIN)
    for norm in model.image_model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # the mean over what is shown
    spec = ImageSpec()
    pixels = [_pixels(path.read_bytes(), 224, np.array(spec.mean), np.array(spec.std)) for path in files]
    with torch.no_grad():
        model.train().image_features(torch.from_numpy(np.stack(pixels)))
    save_weights(state_dict_published(model), folder / "b3.safetensors")
    letters = [chr(c) for c in range(0x4E00, 0x4E00 + 21128 - 5)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]) + "\n")
    conf = {
        "family": "align",
        "name": "random-b3",
        "weights": {"path": str(folder / "b3.safetensors")},
        "tokenizer": str(folder),
        "image": {"size": 224},
    }
    (folder / "b3.yaml").write_text(yaml.safe_dump(conf))
    return str(folder / "b3.yaml")


class PlainModel:
    """Eager float32 as the paper's script runs it: Pillow, cv2.resize, float64 normalisation, one module call."""

    def __init__(self, conf: str) -> None:
        cfg = load_model_config(conf)
        arch = AlignArch(**cfg.arch)
        self.model = AlignModel(arch).eval()
        state = read_state_dict(cfg.weights.path)
        own = {key: state[name] for key, name in published_names(self.model).items()}
        missing = self.model.load_state_dict(own, strict=False).missing_keys
        assert all(key.endswith("num_batches_tracked") for key in missing), missing
        self._spec = cfg.image
        self._tokenizer = BertTokenizer(str(cfg.tokenizer), arch.text.max_tokens)

    def pixels(self, body: bytes) -> np.ndarray:
        """A file's bytes -> (3, S, S) float32."""
        return _pixels(body, self._spec.size, np.array(self._spec.mean), np.array(self._spec.std))

    def resized(self, rgb: np.ndarray) -> np.ndarray:
        """As `pixels`, from uint8 (H, W, 3)."""
        return _resized(rgb, self._spec.size, np.array(self._spec.mean), np.array(self._spec.std))

    def images(self, pixels: np.ndarray | torch.Tensor) -> np.ndarray:
        """(N, 3, S, S) -> (N, D) unit rows."""
        with torch.inference_mode():
            return F.normalize(self.model.image_features(torch.as_tensor(pixels)), dim=-1).numpy()

    def texts(self, texts: list[str]) -> np.ndarray:
        """Texts -> (N, D) unit rows."""
        tokens = self._tokenizer(texts)
        longest = max(map(len, tokens))
        ids = torch.tensor([t + [0] * (longest - len(t)) for t in tokens])
        mask = torch.tensor([[1] * len(t) + [0] * (longest - len(t)) for t in tokens])
        with torch.inference_mode():
            return F.normalize(self.model.text_features(ids, mask), dim=-1).numpy()


class OurModel:
    """This project's towers behind the same four calls, for peers that are given the fast model."""

    def __init__(self, conf: str) -> None:
        self.model: Any = load_model(load_model_config(conf))
        self._size = self.model.image_spec.size

    def pixels(self, body: bytes) -> np.ndarray:
        """A file's bytes -> (S, S, 3) uint8."""
        return self.resized(_rgb(body))

    def resized(self, rgb: np.ndarray) -> np.ndarray:
        """As `pixels`, from uint8 (H, W, 3)."""
        return cv2.resize(rgb, (self._size, self._size))

    def images(self, pixels: np.ndarray | torch.Tensor) -> np.ndarray:
        return self.model.encode_images(np.asarray(pixels))

    def texts(self, texts: list[str]) -> np.ndarray:
        return self.model.encode_texts(texts)


def model_for(kind: str, conf: str) -> PlainModel | OurModel:
    """`plain` or `ours`."""
    return PlainModel(conf) if kind == "plain" else OurModel(conf)


def scores(model: PlainModel | OurModel, vectors: np.ndarray, texts: list[str]) -> np.ndarray:
    """Inner products of images and their texts; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    of_text = dict(zip(distinct, model.texts(distinct), strict=True))
    return np.einsum("nd,nd->n", vectors, np.stack([of_text[t] for t in texts]))


def _rgb(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def _pixels(body: bytes, size: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return _resized(_rgb(body), size, mean, std)


def _resized(rgb: np.ndarray, size: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    small = cv2.resize(rgb, (size, size))
    return (((small / 255) - mean) / std).transpose(2, 0, 1).astype(np.float32)
