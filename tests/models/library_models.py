"""Tiny models that open_clip, timm and sentence-transformers make themselves, laid out as their hub repositories."""

import json
from pathlib import Path

import pytest
import torch

from aistudio.config import ModelConfig, WeightsFile
from tests.models import test_hf_dual

TIMM = {"crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def conf(folder: Path, family: str) -> ModelConfig:
    weights = WeightsFile(path=str(folder / "hub"))
    return ModelConfig(family=family, name=f"tiny_{family}", weights=weights, arch={"model": str(folder)})


def timm(folder: Path, **pretrained: object) -> ModelConfig:
    library = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = library.create_model("test_vit", num_classes=5)
    model.pretrained_cfg.update(TIMM | {"input_size": (3, 160, 160), "num_classes": 5} | pretrained)
    library.models.save_for_hf(model, folder, safe_serialization=True)
    return conf(folder, "timm")


def open_clip(folder: Path, **preprocess: object) -> ModelConfig:
    pytest.importorskip("open_clip")
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    test_hf_dual.save_tokenizer(folder)
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 24, "width": 32, "heads": 2, "layers": 2}
    text |= {"hf_tokenizer_name": str(folder), "no_causal_mask": True, "pool_type": "last"}
    torch.manual_seed(0)
    known = {k: v for k, v in text.items() if k != "hf_tokenizer_name"}
    save_file(CLIP(16, vision, known).state_dict(), folder / "open_clip_model.safetensors")
    plain = {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27], "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}}
    config |= {"preprocess_cfg": plain | preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return conf(folder, "open_clip")


def sentence_transformers(folder: Path) -> ModelConfig:
    library = pytest.importorskip("sentence_transformers")
    torch.manual_seed(0)
    test_hf_dual.clip(folder / "plain")
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPProcessor

    parts = CLIPImageProcessor.from_pretrained(folder / "plain"), AutoTokenizer.from_pretrained(folder / "plain")
    CLIPProcessor(*parts).save_pretrained(folder / "plain")
    model = library.SentenceTransformer(str(folder / "plain"), device="cpu")
    model.save(str(folder / "saved"))
    return conf(folder / "saved", "sentence_transformers")
