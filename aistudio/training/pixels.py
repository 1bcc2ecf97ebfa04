"""Pixels as towers take them in training: normalised on the device, with gradients downstream."""

import torch

from aistudio.config import ImageSpec


class Normalise:
    """(N,S,S,3) uint8 -> (N,3,S,S) float32 after mean and std, in channels-last memory.

    In torchvision's order of rounding: what follows a training amplifies the last bit (docs/composed.md).
    """

    def __init__(self, spec: ImageSpec, device: torch.device) -> None:
        self._device = device
        self._mean, self._std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (spec.mean, spec.std))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float()
        return x.div_(255).sub_(self._mean).div_(self._std)
