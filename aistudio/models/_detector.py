"""Cropping with a user's detector: torchvision's detection models with weights of one's own.

`fasterrcnn_*`, `maskrcnn_*`, `retinanet_*`, `ssd*` and `fcos_*` by torchvision's names. One box is kept: the largest or
the best of those above the score threshold, which is lowered step by step until something is found. A model with masks
may paint what lies outside the object. Not a model family: it turns pictures into crops, not into vectors.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from aistudio.config import DetectorSettings
from aistudio.errors import ConfigError
from aistudio.models._checkpoint import fit, load_into, read_state_dict
from aistudio.models._torchvision import torchvision
from aistudio.schema import Crop

MASK_THRESHOLD = 0.5  # torchvision gives soft masks


class Found(NamedTuple):
    """What a detector saw: boxes (M, 4) x0 y0 x1 y1, scores and labels (M,), masks (M, H, W) bool or None."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


class Detector:
    """A detector, loaded; pictures one by one, so that no result depends on another picture."""

    def __init__(self, settings: DetectorSettings, weights: str, device: str = "cpu") -> None:
        """Build the model and fill it with the tensors of the file `weights`.

        Raises:
            ConfigError: no such detection model, or a background to paint with a model without masks.
            WeightsError: the file is missing, damaged or of another model.
        """
        self.settings = settings
        if settings.mask_background and not settings.model.startswith("maskrcnn"):
            raise ConfigError(f"mask_background: {settings.model} has no masks; use a maskrcnn model or null")
        self._model = _built(settings, weights).to(device)
        self._device = torch.device(device)

    def cut(self, rgb: np.ndarray) -> tuple[np.ndarray, Crop]:
        """Crop a picture (H, W, 3) uint8 to the object, painted outside its mask where the settings say so.

        Returns:
            The pixels and where they were; the whole picture, unpainted, where nothing was found.
        """
        found = self.detect(rgb)
        best = choose(found, self.settings)
        height, width = rgb.shape[:2]
        if best is None:
            return rgb, Crop.whole(height, width)
        x0, y0, x1, y1 = _whole_pixels(found.boxes[best], height, width)
        crop = Crop(x0, y0, x1, y1, "model", float(found.scores[best]))
        pixels = rgb[y0:y1, x0:x1]
        if self.settings.mask_background is None or found.masks is None:
            return pixels, crop
        colour = np.frombuffer(bytes.fromhex(self.settings.mask_background[1:]), np.uint8)
        return np.where(found.masks[best, y0:y1, x0:x1, None], pixels, colour), crop

    def detect(self, rgb: np.ndarray) -> Found:
        """Find everything on a picture (H, W, 3) uint8, whatever its score."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ValueError(f"picture is {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3) of at least one pixel")
        x = torch.from_numpy(np.array(rgb, order="C")).permute(2, 0, 1).float().div(255).to(self._device)
        with torch.inference_mode():
            (seen,) = self._model([x])
        boxes, scores, labels = (seen[k].float().cpu().numpy() for k in ("boxes", "scores", "labels"))
        masks = seen["masks"][:, 0].cpu().numpy() >= MASK_THRESHOLD if "masks" in seen else None
        return Found(boxes, scores, labels.astype(np.int64), masks)


def choose(found: Found, settings: DetectorSettings) -> int | None:
    """Return the position of the box to keep, or None: the threshold is lowered until a box passes."""
    width, height = (found.boxes[:, 2:] - found.boxes[:, :2]).T
    usable = np.isfinite(found.scores) & (width >= 1) & (height >= 1)
    if settings.classes is not None:
        usable &= np.isin(found.labels, settings.classes)
    value = found.scores if settings.pick == "best_score" else width * height
    for threshold in _thresholds(settings):
        passing = np.flatnonzero(usable & (found.scores >= threshold))
        if len(passing):
            return int(passing[np.argmax(value[passing])])
    return None


def _thresholds(settings: DetectorSettings) -> list[float]:
    """From the threshold downwards; the lowest one is always tried last."""
    steps = [settings.score_threshold]
    while steps[-1] - settings.lower_by > settings.lowest_score:
        steps.append(steps[-1] - settings.lower_by)
    return [*steps, settings.lowest_score] if settings.lowest_score < steps[-1] else steps


def _built(settings: DetectorSettings, weights: str) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if settings.model not in known or settings.model.startswith("keypoint"):
        raise ConfigError(f"detector {settings.model!r} is not known; one of {', '.join(known)}")
    model = torchvision.models.get_model(
        settings.model, weights=None, weights_backbone=None, num_classes=settings.num_classes
    )
    names = {key: key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    shapes = {key: value.shape for key, value in model.state_dict().items() if key in names}
    load_into(model, fit(read_state_dict(weights), shapes, weights), names, weights)
    return model.eval().requires_grad_(False)


def _whole_pixels(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The box widened to whole pixels inside the picture; at least one pixel."""
    x0, y0 = (int(np.clip(np.floor(v), 0, most - 1)) for v, most in zip(box[:2], (width, height), strict=True))
    x1, y1 = (
        int(np.clip(np.ceil(v), low + 1, most)) for v, low, most in zip(box[2:], (x0, y0), (width, height), strict=True)
    )
    return x0, y0, x1, y1
