"""Dual encoders in training: which parts train, what is exported, for `align` and for folders of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aistudio.config import load_trainings
from aistudio.errors import ConfigError
from aistudio.models import load_recall
from aistudio.training import programs
from aistudio.training.dual import choose_trained, open_dual
from aistudio.training.exporting import Place
from aistudio.training.info_nce import info_nce_losses
from aistudio.training.inputs import model_here
from aistudio.training.pixels import Normalise
from aistudio.training.recall import padded
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("conf", sorted((ROOT / "conf" / "train").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_confs_that_come_with_the_project_are_valid(conf):
    published = any(family in conf.stem for family in ("tirg", "compose_ae", "concat_ae"))
    for run in load_trainings(conf):
        task = run.settings.task
        assert task in conf.stem or (task == "composer" and published) or conf.stem.endswith("_grid")


def opened(tmp: Path, family: str, **changes):
    model, _ = tiny.write_model(tmp / family, family)
    base = {"task": "recall", "model": model, "output": str(tmp / "out"), "epochs": 1, "data": {"run": "r"}}
    settings = tiny.parsed(base | changes)
    return open_dual(model_here(model, settings, False), settings), settings


@pytest.mark.parametrize("family", ["align", "hf_dual"])
def test_what_trains(family, tmp_path):
    chosen = {}
    for train in ("full", "last_blocks", "projection"):
        dual, settings = opened(tmp_path, family, train=train)
        chosen[train] = set(choose_trained(dual, settings))
        assert {n for n, p in dual.module.named_parameters() if p.requires_grad} == chosen[train]
    assert chosen["projection"] < chosen["last_blocks"] < chosen["full"]
    assert not any("embeddings" in n for n in chosen["last_blocks"])
    sides = ("text_hidden_layer", "image_hidden_layer") if family == "align" else ("text_proj", "visual_proj")
    assert all(any(side in n for n in chosen["projection"]) for side in sides)
    dual, settings = opened(tmp_path, family, train="last_blocks", last_blocks=99)
    with pytest.raises(ConfigError, match="last_blocks: 99 is more than the towers have"):
        choose_trained(dual, settings)


@pytest.mark.parametrize("family", ["align", "hf_dual"])
def test_an_export_encodes_as_the_trained_module(family, tmp_path):
    dual, _ = opened(tmp_path, family)
    with torch.no_grad():
        for parameter in dual.module.parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            parameter.add_(0.01 * noise)
    dual.module.eval()
    out = tmp_path / "export"
    out.mkdir()
    model = load_recall(dual.write(out, Place(str(out)), "mine", 2.0))
    size = dual.image_spec.size
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    texts = ["ab", "b a b", "a"]
    with torch.no_grad():
        images = F.normalize(dual.images(Normalise(dual.image_spec, CPU)(torch.from_numpy(pixels))), dim=-1)
        words = F.normalize(dual.texts(*padded(dual.tokenize(texts), dual.pad_id)), dim=-1)
    np.testing.assert_allclose(model.encode_images(pixels), images.numpy(), atol=2e-5)
    np.testing.assert_allclose(model.encode_texts(texts), words.numpy(), atol=2e-5)


def test_a_folder_of_transformers_trains_and_learns(tmp_path):
    model, _ = tiny.write_model(tmp_path / "clip", "hf_dual")
    data = tiny.recall(
        tmp_path, model=model, epochs=None, steps=30, train="full", hard_negatives="kind", images_per_item=2,
        optimiser={"learning_rate": 3e-3, "tower_factor": 1.0}, validation={"every_epochs": None, "every_steps": 30},
        log_every_steps=30, k=[1],
    )  # fmt: skip
    found = programs.train(tiny.parsed(data), Team(), print, "-").record
    assert found["state"] == "finished" and 0 < found["best"]["metrics"]["mrr"] <= 1


def test_info_nce_equals_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 8, generator=generator), dim=-1) for _ in range(2))
    items = torch.tensor([0, 1, 0, 2, 1])
    found = info_nce_losses(images, texts, torch.tensor(5.0), items)
    logits = 5 * images.double() @ texts.double().T
    for i in range(5):
        allowed = [j for j in range(5) if j == i or items[j] != items[i]]
        by_image = logits[i, allowed].logsumexp(0) - logits[i, i]
        by_text = logits[allowed, i].logsumexp(0) - logits[i, i]
        assert float(found[i]) == pytest.approx(float(by_image + by_text) / 2, abs=1e-6)


def test_no_text_and_one_item_are_refused(tmp_path):
    data = tiny.recall(tmp_path)
    manifest = Path(data["data"]["manifest"]["path"])
    header, *lines = manifest.read_text(encoding="utf-8").splitlines()
    place = header.split(",").index("text")
    blank = [",".join("" if i == place else field for i, field in enumerate(line.split(","))) for line in lines]
    manifest.write_text("\n".join([header, *blank]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no row with a text is left"):
        programs.set_up(tiny.parsed(data), Team(), CPU, print)
