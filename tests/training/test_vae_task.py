"""Task vae: reconstruction, KL, units, labels as a measure only, pictures, warnings."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from aistudio.config import load_model_config, load_train_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import load_model
from aistudio.models.vae import Vae
from aistudio.training import layout, monitors, programs, vae_task
from aistudio.training.team import Team
from tests.training import tiny_training as tiny
from tests.training.test_embedder_task import history


def train(data: dict[str, Any]) -> dict[str, Any]:
    return programs.train(tiny.parsed(data), Team(), print, "-").record


def test_it_learns_logs_and_exports(tmp_path):
    data = tiny.vae(tmp_path, {"beta": 0.1}, epochs=12, optimiser={"learning_rate": 0.02}, ema_decay=0.5)
    record = train(data | {"validation": {"every_epochs": 6}})
    found, best = history(data["output"]), record["best"]["metrics"]
    assert {"vae/reconstruction", "vae/kl", "vae/beta", "vae/active_units", "val/map_at_r", "val/cmc@1"} <= found.keys()
    assert found["vae/beta"][0] == 0 and found["vae/beta"][-1] == pytest.approx(0.1)
    assert best["loss"] == pytest.approx(best["reconstruction"] + 0.1 * best["kl"])
    assert best["loss"] == pytest.approx(min(found["val/loss"]), rel=1e-6), "lower is better"
    assert found["val/squared_error"][-1] < found["val/squared_error"][0]
    cfg = load_model_config(Path(data["output"], "export", f"{record['name']}.yaml"))
    model, pixels = cast(Vae, load_model(cfg)), np.full((2, 16, 16, 3), 90, np.uint8)
    assert model.encode_images(pixels).shape == (2, 3) and model.reconstruct(pixels).shape == pixels.shape
    body = b"".join(p.read_bytes() for p in Path(data["output"], layout.TENSORBOARD).rglob("events.*"))
    tags = ("vae/reconstructions", "vae/samples", "vae/walk", "val/neighbours")
    assert all(tag.encode() in body for tag in tags)
    assert list(Path(data["output"], "report/thumbs").glob("*-1.jpg")), "reconstructions of the worst images"


def test_without_labels_it_is_judged_by_its_reconstructions_alone(tmp_path):
    data = tiny.vae(tmp_path, {"beta": 0.0}, steps=2, epochs=None)
    data["data"]["label"] = None
    record = train(data)
    assert record["best"]["metrics"].keys() == {"loss", "squared_error", "reconstruction", "kl", "active_units"}
    best = record["best"]["metrics"]
    assert best["loss"] == best["reconstruction"], "the plain autoencoder has no KL in its loss"
    assert "labels" not in record["counts"]


def test_a_metric_of_labels_may_choose_and_higher_is_then_better(tmp_path):
    data = tiny.vae(tmp_path, steps=4, epochs=None, validation={"every_steps": 1, "metric": "map"})
    record = train(data)
    assert record["best"]["metrics"]["map"] == pytest.approx(max(history(data["output"])["val/map"]))


def test_posterior_collapse_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vae_task, "PosteriorWatch", lambda: monitors.PosteriorWatch(patience=4))
    monkeypatch.setattr(monitors, "KL_NEAR_ZERO", 1e9)
    monkeypatch.setattr(monitors, "FLAT", 1e9)
    data = tiny.vae(tmp_path, steps=8, epochs=None)
    record = train(data)
    assert record["warnings"] == [{"kind": "posterior", "step": 5}], "the first has beta 0 and does not count"
    assert "the latent vector is ignored (posterior collapse)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "image", "message"),
    [
        ({}, {"size": 18}, "2 widths need a multiple of 4"),
        ({}, {"size": 16, "mean": [0.5, 0, 0]}, "the decoder gives pixels in 0..1"),
        ({"data": {"label": None, "labels_left_out": ["kind0"]}}, {}, "data.labels_left_out needs data.label"),
        ({"data": {"label": "colour"}}, {}, "column colour is missing"),
        ({"init": "weights"}, {}, "no such weights file"),
    ],
)
def test_refusals(changes, image, message, tmp_path):
    data = tiny.vae(tmp_path, steps=1, epochs=None)
    if image:
        spec = {"resize": "pil_bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]} | image
        tiny.write_unfilled(tmp_path / "model", "vae", {"widths": [4, 8], "latent_dim": 3}, spec)
    changes = dict(changes)
    data["data"] |= changes.pop("data", {})
    with pytest.raises((ConfigError, WeightsError)) as e:
        train(data | changes)
    assert message in str(e.value)


def test_the_conf_is_one_of_the_task(request):
    root = request.config.rootpath
    settings: Any = load_train_config(root / "conf/train/clothing_vae.yaml")
    assert settings.task == "vae" and load_model_config(root / settings.model).family == "vae"
