"""Dual encoders against transformers itself, on tiny random models that the tests save."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing

from aistudio.config import ModelConfig, StoreSettings, WeightsFile
from aistudio.errors import WeightsError
from aistudio.images.transform import resize
from aistudio.models import check_weights, load_model
from aistudio.weights.cache import WeightsCache
from aistudio.weights.placing import pin_files, place_files
from tests.weights.file_server import FileServer

TEXTS = ["海边", "山上的古寺，秋天的红叶", "一", "城"]
LETTERS = "海边山上的古寺，秋天红叶一城"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
}
VISION |= {"patch_size": 8}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT |= {"vocab_size": 24, "max_position_embeddings": 12}


def save_tokenizer(folder: Path, pad: str = "[PAD]") -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token=pad, cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)


def save_bert_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def clip(folder: Path) -> None:
    text = TEXT | {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    ).save_pretrained(folder)
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    save_tokenizer(folder)


def chinese_clip(folder: Path) -> None:
    config = transformers.ChineseCLIPConfig(
        text_config=TEXT | {"pad_token_id": 0}, vision_config=VISION, projection_dim=16
    )
    transformers.ChineseCLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ChineseCLIPImageProcessor(size=size, do_center_crop=False).save_pretrained(folder)
    save_bert_tokenizer(folder)


def siglip(folder: Path) -> None:
    text = TEXT | {"projection_size": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}, resample=2).save_pretrained(folder)
    save_tokenizer(folder)


KINDS = {"clip": (clip, {}), "chinese_clip": (chinese_clip, {}), "siglip": (siglip, {"padding": "max_length"})}


def conf(folder: Path, **arch: Any) -> ModelConfig:
    file = WeightsFile(path=str(folder / "model.safetensors"))
    return ModelConfig(family="hf_dual", name="tiny", weights=file, arch=arch)


def photograph(seed: int, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height))


@pytest.fixture(params=list(KINDS))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, ModelConfig]:
    torch.manual_seed(0)
    save, arch = KINDS[request.param]
    save(tmp_path)
    return tmp_path, conf(tmp_path, **arch)


def test_vectors_equal_transformers_own(saved: tuple[Path, ModelConfig]) -> None:
    folder, cfg = saved
    ours = load_model(cfg)
    images = [photograph(i, *size) for i, size in enumerate([(90, 60), (50, 70), (32, 32)])]
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        want = torch.nn.functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1).numpy()
    got = ours.encode_images(np.stack([resize(image, ours.image_spec) for image in images]))
    assert got.shape == (3, ours.dim)
    np.testing.assert_allclose(got, want, atol=2e-6)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, row in zip(TEXTS, ours.encode_texts(TEXTS), strict=True):
        full = cfg.arch.get("padding") == "max_length"
        kept = {"truncation": True, "max_length": 12, "padding": "max_length" if full else False}
        ids = tokenizer([text], return_tensors="pt", **kept)["input_ids"]
        with torch.inference_mode():
            alone = torch.nn.functional.normalize(model.get_text_features(ids).pooler_output, dim=-1)[0]
        np.testing.assert_allclose(row, alone.numpy(), atol=1e-6)


def test_check_knows_the_loaded_models_fingerprint_and_pixels(saved: tuple[Path, ModelConfig]) -> None:
    _, cfg = saved
    info, model = check_weights(cfg), load_model(cfg)
    assert (info.fingerprint, info.dim, info.image_spec) == (model.fingerprint, model.dim, model.image_spec)


def test_pixels_follow_the_processor_not_the_conf(tmp_path: Path) -> None:
    clip(tmp_path)
    spec = load_model(conf(tmp_path)).image_spec
    assert (spec.size, spec.resize, spec.resize_shortest) == (32, "pil_bicubic_center_crop", 36)
    assert spec.mean[0] == pytest.approx(0.48145466)


@pytest.fixture
def taiyi(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(1)
    image, text = tmp_path / "clip", tmp_path / "taiyi"
    for folder, save in ((image, clip), (text, save_bert_tokenizer)):
        folder.mkdir()
        save(folder)
    config = transformers.BertConfig(**TEXT, num_labels=16)
    transformers.BertForSequenceClassification(config).save_pretrained(text)
    return image, text


def test_taiyi_pair_takes_its_text_vectors_from_the_classifier(taiyi: tuple[Path, Path]) -> None:
    image, text = taiyi
    got = load_model(conf(image, text_model=str(text))).encode_texts(TEXTS)
    model = transformers.BertForSequenceClassification.from_pretrained(text).eval()
    tokenizer = transformers.BertTokenizer.from_pretrained(text)
    for row, one in zip(got, TEXTS, strict=True):
        with torch.inference_mode():
            ids = tokenizer([one], return_tensors="pt", truncation=True, max_length=12)["input_ids"]
            want = torch.nn.functional.normalize(model(ids).logits, dim=-1)[0].numpy()
        np.testing.assert_allclose(row, want, atol=1e-6)


def test_fine_tuned_file_replaces_the_text_weights(taiyi: tuple[Path, Path], tmp_path: Path) -> None:
    image, text = taiyi
    tuned = transformers.BertForSequenceClassification.from_pretrained(text)
    with torch.no_grad():
        tuned.classifier.weight.mul_(-1)
        tuned.classifier.bias.mul_(-1)
    path = tmp_path / "pytorch_model.bin"
    torch.save(tuned.state_dict() | {"bert.embeddings.position_ids": torch.arange(12)[None]}, path)
    base = load_model(conf(image, text_model=str(text)))
    other = load_model(conf(image, text_model=str(text), text_weights=str(path)))
    np.testing.assert_allclose(other.encode_texts(TEXTS), -base.encode_texts(TEXTS), atol=1e-6)
    assert other.fingerprint != base.fingerprint
    assert other.image_tower_fingerprint == base.image_tower_fingerprint


def test_incomplete_weights_are_refused(tmp_path: Path) -> None:
    clip(tmp_path)
    model = transformers.CLIPModel.from_pretrained(tmp_path)
    state = {k: v for k, v in model.state_dict().items() if k != "visual_projection.weight"}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(WeightsError, match="visual_projection"):
        load_model(conf(tmp_path))


def test_width_of_a_foreign_text_tower_is_checked(taiyi: tuple[Path, Path]) -> None:
    image, text = taiyi
    config = transformers.BertConfig(**TEXT, num_labels=8)
    transformers.BertForSequenceClassification(config).save_pretrained(text)
    with pytest.raises(WeightsError, match="8 wide"):
        load_model(conf(image, text_model=str(text)))


def test_hub_model_without_a_network_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"nobody/nothing.*arch.model"):
        check_weights(conf(tmp_path, model="nobody/nothing"))
    with pytest.raises(WeightsError, match="no such folder"):
        check_weights(conf(tmp_path, model=str(tmp_path / "missing")))


def test_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    clip(tmp_path)
    for file in tmp_path.glob("*processor*"):
        file.unlink()
    with pytest.raises(WeightsError, match="not a usable model folder"):
        check_weights(conf(tmp_path))


class Hostile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_torch_files_are_taken_but_not_trusted(tmp_path: Path) -> None:
    clip(tmp_path)
    want = load_model(conf(tmp_path)).encode_texts(TEXTS)
    state = transformers.CLIPModel.from_pretrained(tmp_path).state_dict()
    (tmp_path / "model.safetensors").unlink()
    file = WeightsFile(path=str(tmp_path / "pytorch_model.bin"))
    cfg = conf(tmp_path).model_copy(update={"weights": file})
    torch.save(state, file.path)
    np.testing.assert_array_equal(load_model(cfg).encode_texts(TEXTS), want)
    for content in (torch.save, lambda state, path: Path(path).write_text("<html>sign in</html>")):
        content({"a": Hostile(tmp_path / "executed")}, file.path)
        with pytest.raises(WeightsError, match="not a usable model folder"):
            load_model(cfg)
    assert not (tmp_path / "executed").exists()


def test_truncated_safetensors(tmp_path: Path) -> None:
    clip(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a usable model folder"):
        load_model(conf(tmp_path))


def test_vocabulary_alone_makes_the_same_tokeniser(tmp_path: Path) -> None:
    """The published Chinese folders hold vocab.txt and no tokenizer.json."""
    chinese_clip(tmp_path)
    want = load_model(conf(tmp_path)).tokenize(TEXTS)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).unlink(missing_ok=True)
    assert load_model(conf(tmp_path)).tokenize(TEXTS) == want
    assert len(set(map(tuple, want))) == len(TEXTS)


def test_folder_from_addresses_is_the_same_model(saved: tuple[Path, ModelConfig], tmp_path: Path) -> None:
    folder, cfg = saved
    names = [p.name for p in folder.iterdir() if p.is_file()]
    with FileServer({f"/{name}": (folder / name).read_bytes() for name in names}) as server:
        files = {n: WeightsFile(path=f"{tmp_path}/nowhere/{n}", url=server.url(f"/{n}")) for n in names}
        away = cfg.model_copy(update={"weights": files.pop("model.safetensors"), "extra_files": files})
        cache = WeightsCache(tmp_path / "cache", StoreSettings())
        placed = place_files(pin_files(away, cache), cache)
    info, want = check_weights(placed), check_weights(cfg)
    assert (info.fingerprint, info.image_spec) == (want.fingerprint, want.image_spec)
    np.testing.assert_array_equal(load_model(placed).encode_texts(TEXTS), load_model(cfg).encode_texts(TEXTS))
