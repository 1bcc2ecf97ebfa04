"""Models of a hub: a branch becomes a commit on the driver, nodes fetch that commit, run.json records it."""

import re
from pathlib import Path

import huggingface_hub.constants as constants
import pytest

from aistudio.config import load_config, parse_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import load_recall
from aistudio.scoring.pinned_models import load_pinned, pin_model
from tests.models import library_models, test_hf_dual
from tests.models.fake_hub import FakeHub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with FakeHub() as server:
        # As HF_ENDPOINT does, which is read when the library is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        new_cache(monkeypatch, tmp_path / "cache")
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        yield server


def new_cache(monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))


def config(model: str, tmp_path: Path):
    data = {
        "manifest": {"path": "m.csv", "format": "csv"},
        "output": str(tmp_path / "run"),
        "models": {"recall": model},
    }
    return parse_config(data, "here")


def pinned(model: str, tmp_path: Path):
    return pin_model(model, config(model, tmp_path), "models.recall")


def made(folder: Path, seed: int = 0) -> Path:
    import torch

    torch.manual_seed(seed)
    folder.mkdir()
    test_hf_dual.clip(folder)
    return folder


def test_a_branch_that_moves_moves_no_node(hub, monkeypatch, tmp_path) -> None:
    first = hub.commit("shop/tiny", made(tmp_path / "1"))
    model = pinned("hf://shop/tiny@main", tmp_path)
    assert model.config.arch["revision"] == first
    files = model.facts().files
    assert f"hf://shop/tiny@{first}/model.safetensors" in files
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in files.values())
    second = hub.commit("shop/tiny", made(tmp_path / "2", seed=1))
    new_cache(monkeypatch, tmp_path / "another_node")
    hub.asked.clear()
    loaded = load_pinned(model, config("hf://shop/tiny@main", tmp_path), load_recall)
    assert loaded.fingerprint == model.fingerprint
    assert not any(second in path or "/main" in path for path in hub.asked)
    again = pinned("hf://shop/tiny@main", tmp_path)
    assert again.config.arch["revision"] == second and again.fingerprint != model.fingerprint
    assert pinned(f"hf://shop/tiny@{first}", tmp_path).fingerprint == model.fingerprint


def test_a_private_model_needs_the_token(hub, monkeypatch, tmp_path) -> None:
    hub.commit("shop/secret", made(tmp_path / "1"))
    hub.tokens["shop/secret"] = "hf_" + "x" * 20
    with pytest.raises(WeightsError, match="HF_TOKEN"):
        pinned("hf://shop/secret", tmp_path)
    monkeypatch.setenv("HF_TOKEN", hub.tokens["shop/secret"])
    model = pinned("hf://shop/secret", tmp_path)
    assert "hf_x" not in str(model.facts())


def test_without_a_network_the_cache_serves_and_says_when_it_cannot(hub, monkeypatch, tmp_path) -> None:
    commit = hub.commit("shop/tiny", made(tmp_path / "1"))
    online = pinned("hf://shop/tiny", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.asked)
    offline = pinned("hf://shop/tiny", tmp_path)
    assert (offline.fingerprint, offline.config.arch["revision"]) == (online.fingerprint, commit)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        pinned("hf://shop/other", tmp_path)
    assert len(hub.asked) == asked


@pytest.mark.parametrize("text", ["hf://shop/none", "hf://shop/tiny@none", "st:shop/none", "open_clip:shop/none"])
def test_what_is_not_there_is_said(hub, tmp_path, text) -> None:
    hub.commit("shop/tiny", made(tmp_path / "1"))
    with pytest.raises(WeightsError, match=r"shop/(none|tiny@none): "):
        pinned(text, tmp_path)


def test_other_libraries_by_their_repositories(hub, tmp_path) -> None:
    library_models.open_clip(tmp_path / "oc")
    library_models.sentence_transformers(tmp_path / "st")
    commits = [hub.commit("shop/oc", tmp_path / "oc"), hub.commit("shop/st", tmp_path / "st" / "saved")]
    for text, commit in zip(("open_clip:shop/oc", "st:shop/st@main"), commits, strict=True):
        model = pinned(text, tmp_path)
        assert model.config.arch["revision"] == commit and model.facts().conf == text
        load_pinned(model, config(text, tmp_path), load_recall)


def test_timms_own_names_mean_repositories(hub, tmp_path) -> None:
    from aistudio.models import Kind, kind
    from aistudio.models.timm import hub_id

    assert hub_id("vit_small_patch14_dinov2") == "timm/vit_small_patch14_dinov2.lvd142m"
    with pytest.raises(ConfigError, match="perhaps vit_small"):
        hub_id("vit_smal_patch14_dinov2")
    library_models.timm(tmp_path / "t")
    commit = hub.commit("timm/vit_small_patch14_dinov2.lvd142m", tmp_path / "t")
    job = config("hf://a/b", tmp_path)
    model = pin_model("timm:vit_small_patch14_dinov2", job, "models.encoders.look")
    assert model.config.arch["revision"] == commit and kind(model.config) is Kind.ENCODER
    with pytest.raises(ConfigError, match=r"models.recall: .* of the kind image encoder"):
        pin_model("timm:vit_small_patch14_dinov2", job, "models.recall")


def test_open_clips_table_of_weights() -> None:
    from aistudio.models.open_clip import hub_id

    assert hub_id("ViT-B-16-SigLIP/webli") == "timm/ViT-B-16-SigLIP"
    with pytest.raises(ConfigError, match="there are"):
        hub_id("ViT-B-16-SigLIP/none")


def test_a_model_of_another_kind_is_refused_by_name(hub, tmp_path) -> None:
    import transformers

    folder = tmp_path / "vit"
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessor().save_pretrained(folder)
    hub.commit("shop/vit", folder)
    with pytest.raises(WeightsError, match="a vit model, not an image-text dual encoder"):
        pinned("hf://shop/vit", tmp_path)


def test_on_the_command_line(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("manifest: {path: m.csv, format: csv}\noutput: out\nmodels: {recall: siglip}\n")
    for text in ("hf://google/siglip2-base-patch16-256@main", "open_clip:ViT-B-16-SigLIP/webli"):
        loaded = load_config(tmp_path / "c.yaml", [f"models.recall={text}", "models.encoders.look=timm:resnet50"])
        assert loaded.models.recall == text and loaded.models.encoders == {"look": "timm:resnet50"}
