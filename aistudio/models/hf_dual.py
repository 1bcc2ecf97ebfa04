"""Family `hf_dual`: image-text dual encoders from Hugging Face (CLIP, Chinese-CLIP, SigLIP, the Taiyi pair).

Models come from a local folder or, by name, from the hub's cache (the hub itself when it can be reached). Pixels are
the model's own: `image_spec` follows its preprocessor_config.json and may differ from the conf's `image`. A text tower
of its own (`arch.text_model`) is a BERT classifier whose logits are the projection into the image space, as Taiyi's is.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import WeightsError
from aistudio.models import Kind
from aistudio.models._checkpoint import fit, read_state_dict
from aistudio.models._encode import ImageRunner, LoadOptions, Padding, TextEncoder, TwoTowers
from aistudio.models._hf_folder import (
    FIXED_LENGTH,
    Folders,
    HfArch,
    explained,
    image_spec,
    pretrained,
    require_plain_steps,
)
from aistudio.models._opening import tensors_fingerprint
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo, model_fingerprint

KIND = Kind.RECALL
FROM_HUB = True
BERT_LEFTOVERS = {"bert.embeddings.position_ids", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}


class HfDualRecall(TwoTowers):
    """A dual encoder, loaded; attributes and methods as in AlignRecall."""

    normalised = True

    def __init__(self, cfg: ModelConfig, arch: HfArch, folders: Folders, options: LoadOptions) -> None:
        arch = _settled(arch, folders)
        model = pretrained(transformers.AutoModel, folders.model)
        text_model = _text_tower(arch, folders) if arch.text_model else model
        self.image_spec = image_spec(folders.model, cfg.image)
        self.fingerprint = _fingerprint(cfg, arch, folders, self.image_spec)
        images = {k: v for k, v in model.state_dict().items() if not k.startswith(("text_", "logit_"))}
        self.image_tower_fingerprint = tensors_fingerprint(images, self.image_spec.identity())
        text = _TextTower(text_model, masked=arch.padding == "longest")
        self.dim = _width(model)
        if (width := _width(text_model)) != self.dim:
            raise WeightsError(f"{folders.text}: text vectors are {width} wide, image vectors {self.dim}")
        tokenizer = _Tokenizer(folders.text, arch, text_model.config)
        self._texts = TextEncoder(tokenizer, text, self.dim, options, tokenizer.padding)
        self._images = ImageRunner(_ImageTower(model), self.image_spec, self.dim, options)


class _ImageTower(nn.Module):
    """Pixels -> vectors; holds nothing of the text tower, so that casting one leaves the other alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        kept = {name: child for name, child in model.named_children() if not name.startswith("text_")}
        self.parts = nn.ModuleDict(kept)
        self._features: list[Any] = [model.get_image_features]  # in a list: not a child of ours

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return _vectors(self._features[0](pixel_values=pixels))


class _TextTower(nn.Module):
    """Ids and mask -> vectors, by a dual encoder or by a classifier whose logits are the vectors."""

    def __init__(self, model: nn.Module, masked: bool) -> None:
        super().__init__()
        kept = {name: child for name, child in model.named_children() if not name.startswith(("vision_", "visual_"))}
        self.parts = nn.ModuleDict(kept)
        self._masked = masked
        self._features: list[Any] = [getattr(model, "get_text_features", model)]

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return _vectors(self._features[0](input_ids=ids, attention_mask=mask if self._masked else None))


def _vectors(out: Any) -> torch.Tensor:
    if isinstance(out, torch.Tensor):
        return out
    return out.logits if getattr(out, "logits", None) is not None else out.pooler_output


def _width(model: Any) -> int:
    """Width of a model's vectors: projection, classifier or, without either (SigLIP), the towers' own."""
    config = model.config
    if not hasattr(config, "text_config"):
        return int(config.num_labels)
    return int(getattr(config, "projection_dim", None) or config.vision_config.hidden_size)


class _Tokenizer:
    """The folder's own tokeniser, cut (and, where the model wants it, filled up) to `max_tokens`."""

    def __init__(self, folder: Path, arch: HfArch, config: Any) -> None:
        with explained(folder):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        config = getattr(config, "text_config", config)
        self._limit = arch.max_tokens or min(config.max_position_embeddings, self._tokenizer.model_max_length)
        self._fill = "max_length" if arch.padding == "max_length" else False
        self.padding = Padding(self._tokenizer.pad_token_id or 0, self._limit)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(texts, truncation=True, max_length=self._limit, padding=self._fill)["input_ids"]

    def unknown_tokens(self, texts: list[str]) -> list[tuple[int, int]]:
        """(unknown tokens, tokens in all) of each text, special tokens not counted.

        Unknown is the tokenizer's own unknown token, and a token that is a part of a character: tokenizers that fall
        back to bytes know no other way to say that they have never seen it.
        """
        if not texts:
            return []
        found = self._tokenizer(texts, truncation=True, max_length=self._limit, add_special_tokens=False)["input_ids"]
        distinct = {i for ids in found for i in ids}
        unknown = {i for i in distinct if i == self._tokenizer.unk_token_id or "\ufffd" in self._tokenizer.decode([i])}
        return [(sum(i in unknown for i in ids), len(ids)) for ids in found]


def open_tokenizer(cfg: ModelConfig) -> _Tokenizer:
    """The tokenizer alone. Raises ConfigError and WeightsError."""
    arch = parse_arch(HfArch, cfg)
    folders = Folders(cfg, arch)
    arch = _settled(arch, folders)
    with explained(folders.text):
        config = transformers.AutoConfig.from_pretrained(folders.text, local_files_only=True)
    return _Tokenizer(folders.text, arch, config)


def _text_tower(arch: HfArch, folders: Folders) -> Any:
    auto = transformers.AutoModelForSequenceClassification
    if arch.text_weights is None:
        return pretrained(auto, folders.text)
    with explained(folders.text):
        model = auto.from_config(transformers.AutoConfig.from_pretrained(folders.text, local_files_only=True))
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    state = read_state_dict(arch.text_weights)
    extra = {name: value for name, value in state.items() if name in wanted or name not in BERT_LEFTOVERS}
    model.load_state_dict({n: t.float() for n, t in fit(extra, wanted, arch.text_weights).items()}, strict=True)
    return model.eval()


def _settled(arch: HfArch, folders: Folders) -> HfArch:
    """`padding: auto` filled in. Raises WeightsError for a model that is no dual encoder or whose pixels differ."""
    if arch.padding != "auto":
        return arch
    with explained(folders.model):
        config = transformers.AutoConfig.from_pretrained(folders.model, local_files_only=True)
    if not hasattr(config, "text_config") or not hasattr(config, "vision_config"):
        raise WeightsError(
            f"{arch.model}: a {config.model_type} model, not an image-text dual encoder; an image encoder is named by "
            "timm:NAME or by a conf of the family vision, a sentence-transformers model by st:org/name"
        )
    require_plain_steps(folders.model)
    fixed = config.model_type in FIXED_LENGTH
    return arch.model_copy(update={"padding": "max_length" if fixed else "longest"})


def _fingerprint(cfg: ModelConfig, arch: HfArch, folders: Folders, spec: ImageSpec) -> str:
    settings = arch.model_dump(include={"max_tokens", "padding"})
    return model_fingerprint(cfg.model_copy(update={"image": spec}), list(folders.files.values()), settings)


def check(cfg: ModelConfig) -> WeightsInfo:
    """Files, configuration and processor; shapes by the configuration. Raises WeightsError or ConfigError."""
    arch = parse_arch(HfArch, cfg)
    folders = Folders(cfg, arch)
    arch = _settled(arch, folders)
    with explained(folders.model), torch.device("meta"):
        model = transformers.AutoModel.from_config(
            transformers.AutoConfig.from_pretrained(folders.model, local_files_only=True)
        )
    tensors = list(model.state_dict().values())
    spec = image_spec(folders.model, cfg.image)
    return WeightsInfo(
        name=cfg.name,
        family=cfg.family,
        fingerprint=_fingerprint(cfg, arch, folders, spec),
        image_spec=spec,
        image_tower_fingerprint=None,
        dim=_width(model),
        num_tensors=len(tensors),
        num_parameters=sum(t.numel() for t in tensors),
        files=folders.files,
    )


def load(cfg: ModelConfig, options: LoadOptions) -> HfDualRecall:
    """The dual encoder, ready to encode. Raises WeightsError or ConfigError."""
    arch = parse_arch(HfArch, cfg)
    return HfDualRecall(cfg, arch, Folders(cfg, arch), options)
