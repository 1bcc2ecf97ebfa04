"""Pixels as towers take them in training: normalised on the device, with gradients downstream."""

import torch

from aistudio.config import ImageSpec


class Normalise:
    """(N,S,S,3) uint8 -> (N,3,S,S) float32 after mean and std, in channels-last memory."""

    def __init__(self, spec: ImageSpec, device: torch.device) -> None:
        self._device = device
        mean, std = (torch.tensor(x, dtype=torch.float64, device=device).view(3, 1, 1) for x in (spec.mean, spec.std))
        self._scale, self._shift = (1 / (255 * std)).float(), (mean / std).float()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        return x.mul_(self._scale).sub_(self._shift)
