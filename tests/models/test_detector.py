"""aistudio/models/detector.py: which box is kept, painting, and real torchvision models with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from aistudio.config import DetectorSettings
from aistudio.errors import ConfigError, WeightsError
from aistudio.models._checkpoint import save_weights
from aistudio.models._detector import Detector, Found, choose

BOXES = np.array([[0, 0, 10, 10], [5, 5, 40, 30], [2, 2, 4, 4], [1, 1, 1.2, 30]], np.float32)


def settings(**how) -> DetectorSettings:
    return DetectorSettings(**{"model": "fasterrcnn_mobilenet_v3_large_320_fpn", **how})


def found(scores, labels=(1, 1, 1, 1)) -> Found:
    return Found(BOXES, np.array(scores, np.float32), np.array(labels), None)


@pytest.mark.parametrize(
    ("scores", "how", "want"),
    [
        ((0.9, 0.85, 0.95, 0.99), {}, 2),  # the last box has no width
        ((0.9, 0.85, 0.95, 0.99), {"pick": "largest"}, 1),
        ((0.7, 0.5, 0.3, 0.1), {}, 0),  # lowered once
        ((0.5, 0.63, 0.3, 0.1), {"pick": "largest", "score_threshold": 0.82}, 1),
        ((0.45, 0.3, 0.21, 0.1), {"pick": "largest"}, 0),  # 0.42 passes one: no need to go to 0.22
        ((0.1, 0.2, 0.1, 0.1), {}, 1),  # the lowest threshold itself
        ((0.1, 0.19, 0.1, 0.9), {}, None),
        ((np.nan, 0.3, 0.1, 0.1), {}, 1),
        ((0.9, 0.85, 0.95, 0.99), {"classes": (3,)}, None),
    ],
)
def test_the_box_that_is_kept(scores, how, want) -> None:
    assert choose(found(scores), settings(**how)) == want


def test_classes_that_count() -> None:
    assert choose(found((0.9, 0.85, 0.95, 0.1), (1, 2, 3, 1)), settings(classes=(1, 2))) == 0


def test_nothing_seen() -> None:
    nothing = Found(np.empty((0, 4)), np.empty(0), np.empty(0), None)
    assert choose(nothing, settings()) is None


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> tuple[DetectorSettings, str]:
    torch.manual_seed(0)
    model = torchvision.models.get_model("maskrcnn_resnet50_fpn", weights=None, weights_backbone=None, num_classes=2)
    path = tmp_path_factory.mktemp("mask") / "w.safetensors"
    save_weights({k: v for k, v in model.state_dict().items() if "num_batches" not in k}, path)
    settings = DetectorSettings(
        model="maskrcnn_resnet50_fpn", lowest_score=0.01, score_threshold=0.9, mask_background="#F5F0EB"
    )
    return settings, str(path)


def test_a_real_model_cuts_and_paints(masked: tuple[DetectorSettings, str], monkeypatch) -> None:
    detector = Detector(*masked)
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    seen = detector.detect(picture)
    assert len(seen.boxes) == len(seen.scores) and seen.masks.shape[1:] == (60, 90)

    mask = np.zeros((1, 60, 90), bool)
    mask[0, 20:30, 20:40] = True
    box = np.array([[9.5, 14.2, 50.0, 99.0]])
    monkeypatch.setattr(detector, "detect", lambda _: Found(box, np.array([0.5]), np.array([1]), mask))
    pixels, crop = detector.cut(picture)
    assert crop == (9, 14, 50, 60, "model", 0.5) and pixels.shape == (46, 41, 3)
    assert (pixels[6:16, 11:31] == picture[20:30, 20:40]).all()
    assert (pixels[0, 0] == (0xF5, 0xF0, 0xEB)).all()
    monkeypatch.setattr(detector, "detect", lambda _: Found(box, np.array([0.001]), np.array([1]), mask))
    pixels, crop = detector.cut(picture)
    assert crop.method == "whole" and pixels is picture


def test_what_is_refused(masked: tuple[DetectorSettings, str], tmp_path: Path) -> None:
    for how, message in (({"model": "resnet18"}, "not known"), ({"mask_background": "#000000"}, "no masks")):
        with pytest.raises(ConfigError, match=message):
            Detector(settings(**how), "w")
    with pytest.raises(WeightsError, match="not weights of this model"):
        Detector(settings(), masked[1])
    with pytest.raises(WeightsError, match="cannot be read"):
        Detector(settings(), str(tmp_path / "none.pth"))
    for wrong in ({"classes": (0,)}, {"mask_background": "white"}, {"score_threshold": 0}):
        with pytest.raises(ValueError):
            settings(**wrong)
