"""Family `open_clip`: image-text dual encoders that OpenCLIP builds, from a hub repository or a folder in its layout.

Towers, tokenizer and pixels are the library's own, of the folder's open_clip_config.json. Needs the extra `open-clip`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from aistudio.config import ModelConfig
from aistudio.errors import ConfigError
from aistudio.models import Kind
from aistudio.models._encode import ImageRunner, LoadOptions, Padding, TextEncoder, TwoTowers
from aistudio.models._hf_folder import explained
from aistudio.models._library import Folder, LibraryArch, info, library, spec_of, width
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo

KIND = Kind.RECALL
FROM_HUB = True


class OpenClipRecall(TwoTowers):
    """A dual encoder, loaded; attributes and methods as in AlignRecall."""

    normalised = True

    def __init__(self, cfg: ModelConfig, folder: Folder, options: LoadOptions) -> None:
        model, transform = _built(folder)
        self.image_spec = spec_of(transform, cfg.image, str(folder.path))
        self.fingerprint = folder.fingerprint(cfg, self.image_spec, {})
        images, texts = _ImageTower(model), _TextTower(model)
        self.image_tower_fingerprint: str | None = tensors_fingerprint(images.state_dict(), self.image_spec.identity())
        tokenizer = _Tokenizer(folder)
        self.dim = width(images, self.image_spec)
        self._texts = TextEncoder(tokenizer, texts, self.dim, options, tokenizer.padding)
        self._images = ImageRunner(images, self.image_spec, self.dim, options, one_by_one=True)


class _ImageTower(nn.Module):
    """Pixels -> vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual(pixels)


class _TextTower(nn.Module):
    """Ids -> vectors; the mask is the library's own business."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.model.visual = nn.Identity()  # the image tower is another module's, which may be cast alone

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(ids)


class _Tokenizer:
    """The model's own tokenizer, which fills each text up to one length."""

    def __init__(self, folder: Folder) -> None:
        open_clip = library("open_clip", "open_clip_torch", "open-clip")
        with explained(folder.path):
            self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder.path}")
        self._length = int(self._tokenizer.context_length)
        self._fill = int(self._tokenizer([""])[0][-1])
        self.padding = Padding(self._fill, self._length)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts).tolist() if texts else []

    def unknown_tokens(self, texts: list[str]) -> list[tuple[int, int]]:
        """(unknown tokens, tokens in all) of each text, special tokens not counted."""
        hugging = getattr(self._tokenizer, "tokenizer", None)
        special = {int(i) for i in self._tokenizer([""])[0].tolist()}
        unknown = getattr(hugging, "unk_token_id", None)
        found = [[i for i in ids if i not in special] for ids in self(texts)]
        lost = {i for i in {i for ids in found for i in ids} if i == unknown or self._is_part(i)}
        return [(sum(i in lost for i in ids), len(ids)) for ids in found]

    def _is_part(self, token: int) -> bool:
        """Whether a token is a part of a character, as tokenizers over bytes say that they have never seen it."""
        hugging = getattr(self._tokenizer, "tokenizer", None)
        return "\ufffd" in (hugging.decode([token]) if hugging is not None else self._tokenizer.decode([token]))


def hub_id(name: str) -> str:
    """Return the hub repository of MODEL/TAG in OpenCLIP's table of weights; any other name is one already.

    Raises:
        ConfigError: the table has such a model, but not with that tag or not on the hub.
    """
    open_clip = library("open_clip", "open_clip_torch", "open-clip")
    model, _, tag = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not tags:
        return name
    found = open_clip.pretrained.get_pretrained_cfg(model, tag).get("hf_hub", "")
    if not found:
        raise ConfigError(f"open_clip:{name}: no such weights on the hub; of {model} there are {', '.join(tags)}")
    return str(found).rstrip("/")


def _folder(cfg: ModelConfig) -> Folder:
    arch = parse_arch(LibraryArch, cfg)
    return Folder(cfg, arch, arch.model if Path(arch.model).is_dir() else hub_id(arch.model))


def _built(folder: Folder) -> tuple[Any, Any]:
    """(model, the transform of its pictures), float32. Raises WeightsError when a number is missing."""
    open_clip = library("open_clip", "open_clip_torch", "open-clip")
    from open_clip.transform import PreprocessCfg, image_transform_v2

    with explained(folder.path):
        model = open_clip.create_model(
            f"local-dir:{folder.path}", require_pretrained=True, pretrained_text=False, weights_only=True
        )
        transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return model.float().eval(), transform


def open_tokenizer(cfg: ModelConfig) -> _Tokenizer:
    """The tokenizer alone. Raises ConfigError and WeightsError."""
    return _Tokenizer(_folder(cfg))


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, configuration, tokenizer and pixels; the model is read whole. Raises WeightsError or ConfigError."""
    folder = _folder(cfg)
    model, transform = _built(folder)
    spec = spec_of(transform, cfg.image, str(folder.path))
    _Tokenizer(folder)
    fingerprint = folder.fingerprint(cfg, spec, {})
    return info(cfg, folder, spec, model, width(_ImageTower(model), spec), fingerprint)


def load(cfg: ModelConfig, options: LoadOptions) -> OpenClipRecall:
    """The dual encoder, ready to encode. Raises WeightsError or ConfigError."""
    return OpenClipRecall(cfg, _folder(cfg), options)
