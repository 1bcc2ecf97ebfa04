"""Adaptors against the libraries themselves, from the PIL picture to the vector; and models named in one string."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from aistudio.config import load_model_config
from aistudio.config.model_text import is_model_text, model_of_text
from aistudio.errors import ConfigError, WeightsError
from aistudio.images.transform import resize
from aistudio.models import check_weights, load_model, load_recall
from tests.models import library_models
from tests.models.test_hf_dual import TEXTS

SIZES = [
    (33, 47), (47, 33), (32, 32), (160, 160), (161, 159), (500, 375), (375, 500), (1000, 90), (90, 1000), (31, 300),
    (300, 31), (17, 19), (640, 427), (427, 640), (225, 224), (224, 225), (1, 9), (9, 1), (401, 26), (799, 601),
]  # fmt: skip


def photographs() -> list[Image.Image]:
    """20 pictures of odd shapes: smooth colours with noise and edges, as cameras make them."""
    random, found = np.random.default_rng(3), []
    for width, height in SIZES:
        y, x = np.mgrid[0:height, 0:width]
        waves = [127 + 120 * np.sin(x / random.uniform(3, 60) + y / random.uniform(3, 60)) for _ in range(3)]
        noise = random.normal(0, 12, (height, width, 3))
        pixels = np.stack(waves, -1) + noise
        pixels[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = random.integers(0, 256, 3)
        found.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return found


def ours(cfg) -> np.ndarray:
    model = load_model(cfg)
    return model.encode_images(np.stack([resize(picture, model.image_spec) for picture in photographs()]))


def theirs(encode, transform) -> np.ndarray:
    with torch.inference_mode():
        rows = [encode(transform(picture)[None]) for picture in photographs()]
    return F.normalize(torch.cat(rows), dim=-1).numpy()


@pytest.mark.parametrize(
    "pixels",
    [{}, {"crop_pct": 1.0, "crop_mode": "squash"}, {"interpolation": "bilinear", "crop_pct": 0.875}],
    ids=["bicubic crop", "squash", "bilinear crop"],
)
def test_timm(tmp_path: Path, pixels: dict) -> None:
    timm = pytest.importorskip("timm")
    cfg = library_models.timm(tmp_path / "m", **pixels)
    model = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    assert np.abs(ours(cfg) - theirs(model, transform)).max() <= 1e-5


@pytest.mark.parametrize("mode", ["squash", "shortest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_open_clip(tmp_path: Path, mode: str, interpolation: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    cfg = library_models.open_clip(tmp_path / "m", resize_mode=mode, interpolation=interpolation)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'm'}")
    model.eval()
    assert np.abs(ours(cfg) - theirs(model.encode_image, transform)).max() <= 1e-5
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'm'}")(TEXTS)
    with torch.inference_mode():
        texts = F.normalize(model.encode_text(tokens), dim=-1).numpy()
    assert np.abs(load_recall(cfg).encode_texts(TEXTS) - texts).max() <= 1e-5


def test_sentence_transformers(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    cfg = library_models.sentence_transformers(tmp_path)
    model = library.SentenceTransformer(cfg.arch["model"], device="cpu", processor_kwargs={"backend": "pil"})
    model.max_seq_length = (
        12  # of the tiny text tower; its tokenizer's file says none, and then the library cuts nothing
    )
    both = [model.encode(x, normalize_embeddings=True, batch_size=1) for x in (photographs(), TEXTS)]
    assert np.abs(ours(cfg) - both[0]).max() <= 1e-5
    assert np.abs(load_recall(cfg).encode_texts(TEXTS) - both[1]).max() <= 1e-5


@pytest.mark.parametrize(
    ("make", "pixels"),
    [
        (library_models.timm, {"crop_mode": "border"}),
        (library_models.timm, {"crop_mode": "squash", "crop_pct": 0.9}),
        (library_models.timm, {"interpolation": "lanczos"}),
        (library_models.timm, {"input_size": (3, 160, 128)}),
        (library_models.open_clip, {"resize_mode": "longest"}),
    ],
)
def test_pixels_that_cannot_be_made_here_are_refused(tmp_path: Path, make, pixels: dict) -> None:
    cfg = make(tmp_path / "m", **pixels)
    for look in (check_weights, load_model):
        with pytest.raises(WeightsError, match="not supported here"):
            look(cfg)


@pytest.mark.parametrize("family", ["timm", "open_clip", "sentence_transformers"])
def test_a_model_without_its_numbers_is_refused(tmp_path: Path, family: str) -> None:
    cfg = getattr(library_models, family)(tmp_path / "m")
    for file in Path(cfg.arch["model"]).rglob("*.safetensors"):
        file.unlink()
    for look in (check_weights, load_model):
        with pytest.raises(WeightsError):
            look(cfg)


def test_a_library_that_is_not_there_is_named_with_the_command(tmp_path: Path, monkeypatch) -> None:
    import sys

    cfg = library_models.timm(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'aistudio-catalogue\[timm\]'"):
        check_weights(cfg)


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    import transformers

    from tests.models.test_hf_dual import save_bert_tokenizer

    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=24
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    save_bert_tokenizer(tmp_path / "bert")
    library.SentenceTransformer(str(tmp_path / "bert"), device="cpu").save(str(tmp_path / "m"), create_model_card=False)
    with pytest.raises(WeightsError, match="expected a model that encodes images and texts"):
        check_weights(library_models.conf(tmp_path / "m", "sentence_transformers"))


@pytest.mark.parametrize(
    ("text", "family", "arch"),
    [
        ("hf://google/siglip2-base-patch16-256", "hf_dual", {"model": "google/siglip2-base-patch16-256"}),
        ("hf://a/b@v1.0", "hf_dual", {"model": "a/b", "revision": "v1.0"}),
        ("open_clip:ViT-B-16-SigLIP/webli", "open_clip", {"model": "ViT-B-16-SigLIP/webli"}),
        ("open_clip:a/b@main", "open_clip", {"model": "a/b", "revision": "main"}),
        ("timm:vit_small_patch14_dinov2", "timm", {"model": "vit_small_patch14_dinov2"}),
        ("timm:vit_small_patch14_dinov2.lvd142m", "timm", {"model": "vit_small_patch14_dinov2.lvd142m"}),
        ("st:a/b@refs/pr/1", "sentence_transformers", {"model": "a/b", "revision": "refs/pr/1"}),
    ],
)
def test_a_model_in_one_string(text: str, family: str, arch: dict) -> None:
    cfg = load_model_config(text)
    assert cfg.family == family and {k: v for k, v in cfg.arch.items() if k != "padding"} == arch


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://a",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/b@",
        "open_clip:x",
        "timm:",
        "st:b",
        "st:a/b c",
        "timm:a/../b",
    ],
)
def test_what_is_no_model_is_refused_with_the_form(text: str) -> None:
    assert is_model_text(text)
    with pytest.raises(ConfigError, match="expected"):
        model_of_text(text)


@pytest.mark.parametrize("text", ["conf/models/x.yaml", "siglip", "/a/timm", "s3://b/x", "steam:x", "./st:a/b"])
def test_other_texts_are_files_and_names(text: str) -> None:
    assert not is_model_text(text)


def test_siglip_by_sentence_transformers_is_refused_and_the_way_out_said(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    from transformers import AutoTokenizer, SiglipImageProcessor, SiglipProcessor

    from tests.models.test_hf_dual import siglip

    siglip(tmp_path / "plain")
    parts = (
        SiglipImageProcessor.from_pretrained(tmp_path / "plain"),
        AutoTokenizer.from_pretrained(tmp_path / "plain"),
    )
    SiglipProcessor(*parts).save_pretrained(tmp_path / "plain")
    model = library.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    model.save(str(tmp_path / "m"), create_model_card=False)
    with pytest.raises(WeightsError, match="name it hf://org/name instead"):
        check_weights(library_models.conf(tmp_path / "m", "sentence_transformers"))


def test_siglip_by_its_hub_name_fills_its_texts_up(tmp_path: Path) -> None:
    from tests.models.test_hf_dual import siglip

    siglip(tmp_path)
    model = load_recall(library_models.conf(tmp_path, "hf_dual").model_copy(
        update={"arch": {"model": str(tmp_path), "padding": "auto"}}))  # fmt: skip
    assert {len(ids) for ids in model.tokenize(TEXTS)} == {12}
