"""Family `sentence_transformers`: image-text models that sentence-transformers runs, from a hub repository or a folder.

All modules of the model (transformer, pooling, dense layers) are the library's own; pixels are those of its image
processor by Pillow. Models that encode texts alone, or pictures of varying size, are refused. Needs the extra `st`.
"""

import json
from typing import Any

import torch
from torch import nn

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import WeightsError
from aistudio.models import Kind
from aistudio.models._encode import ImageRunner, LoadOptions, Padding, TextEncoder, TwoTowers
from aistudio.models._hf_folder import FIXED_LENGTH, explained, image_spec, require_plain_steps
from aistudio.models._library import Folder, LibraryArch, info, library, width
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo

KIND = Kind.RECALL
FROM_HUB = True
NO_LIMIT = 1 << 20  # tokens; tokenizers without a limit say 1e30


class SentenceTransformersRecall(TwoTowers):
    """An image-text model, loaded; attributes and methods as in AlignRecall."""

    normalised = True

    def __init__(self, cfg: ModelConfig, folder: Folder, options: LoadOptions) -> None:
        model, self.image_spec = _built(folder), _pixels(folder, cfg)
        self.fingerprint = folder.fingerprint(cfg, self.image_spec, {})
        images = _Tower(model, "image")
        self.image_tower_fingerprint: str | None = tensors_fingerprint(images.state_dict(), self.image_spec.identity())
        tokenizer = _Tokenizer(model)
        self.dim = width(images, self.image_spec)
        # Each side gets modules of its own: one may be cast, folded or moved without the other.
        texts = _Tower(_built(folder), "text")
        self._texts = TextEncoder(tokenizer, texts, self.dim, options, tokenizer.padding)
        self._images = ImageRunner(images, self.image_spec, self.dim, options, one_by_one=True)


class _Tower(nn.Module):
    """Pixels, or ids and mask, -> vectors, through all of the model's modules."""

    def __init__(self, model: Any, modality: str) -> None:
        super().__init__()
        self.steps = nn.ModuleList(model.children())
        self._modality = modality

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        name = "pixel_values" if self._modality == "image" else "input_ids"
        features: dict[str, Any] = {name: inputs, "modality": self._modality}
        if mask is not None:
            features["attention_mask"] = mask
        for step in self.steps:
            features = step(features)
        return features["sentence_embedding"]


class _Tokenizer:
    """The model's own tokenizer, cut to its length, filled up where the model wants it."""

    def __init__(self, model: Any) -> None:
        first = next(iter(model.children()))
        self._tokenizer = first.tokenizer
        limit = first.max_seq_length or self._tokenizer.model_max_length
        config = getattr(first.config, "text_config", first.config)
        most = getattr(config, "max_position_embeddings", NO_LIMIT)
        self._limit = int(min(limit, most, NO_LIMIT))
        self.padding = Padding(self._tokenizer.pad_token_id or 0, self._limit)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(texts, truncation=True, max_length=self._limit)["input_ids"]

    def unknown_tokens(self, texts: list[str]) -> list[tuple[int, int]]:
        """(unknown tokens, tokens in all) of each text, special tokens not counted."""
        if not texts:
            return []
        found = self._tokenizer(texts, truncation=True, max_length=self._limit, add_special_tokens=False)["input_ids"]
        distinct = {i for ids in found for i in ids}
        lost = {i for i in distinct if i == self._tokenizer.unk_token_id or "\ufffd" in self._tokenizer.decode([i])}
        return [(sum(i in lost for i in ids), len(ids)) for ids in found]


def _folder(cfg: ModelConfig) -> Folder:
    arch = parse_arch(LibraryArch, cfg)
    return Folder(cfg, arch, arch.model)


def _built(folder: Folder) -> Any:
    st = library("sentence_transformers", "sentence-transformers", "st")
    with explained(folder.path):
        model = st.SentenceTransformer(str(folder.path), device="cpu", local_files_only=True, trust_remote_code=False)
    first: Any = next(iter(model.children()))
    modalities = set(getattr(first, "modality_config", {}))
    if not {"image", "text"} <= modalities:
        there = ", ".join(sorted(modalities)) or "texts"
        raise WeightsError(f"{folder.path}: encodes {there}; expected a model that encodes images and texts")
    if getattr(first.config, "model_type", "") in FIXED_LENGTH:
        raise WeightsError(f"{folder.path}: its texts are filled up to one length; name it hf://org/name instead")
    return model.float().eval()


def _pixels(folder: Folder, cfg: ModelConfig) -> ImageSpec:
    """Pixels as the image processor in the first module's folder makes them. Raises WeightsError."""
    listed = folder.path / "modules.json"
    with explained(folder.path):
        first = json.loads(listed.read_text(encoding="utf-8"))[0]["path"] if listed.is_file() else ""
        place = folder.path / first
    require_plain_steps(place)
    return image_spec(place, cfg.image)


def open_tokenizer(cfg: ModelConfig) -> _Tokenizer:
    """The tokenizer alone. Raises ConfigError and WeightsError."""
    return _Tokenizer(_built(_folder(cfg)))


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, modules and pixels; the model is read whole. Raises WeightsError or ConfigError."""
    folder = _folder(cfg)
    model, spec = _built(folder), _pixels(folder, cfg)
    dim = width(_Tower(model, "image"), spec)
    return info(cfg, folder, spec, model, dim, folder.fingerprint(cfg, spec, {}))


def load(cfg: ModelConfig, options: LoadOptions) -> SentenceTransformersRecall:
    """The model, ready to encode. Raises WeightsError or ConfigError."""
    return SentenceTransformersRecall(cfg, _folder(cfg), options)
