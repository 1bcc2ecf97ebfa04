"""How well an exported VAE does on images that it never saw: reconstruction, separation, KL, units that are alive."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aistudio.config import ModelConfig
from aistudio.models.vae import Vae, open_model
from aistudio.training.arrays import ArrayReader
from aistudio.training.monitors import active_units
from aistudio.training.vae_loss import Reconstruction, bce_of_logits, half_squared_error, kl_divergence

AT_ONCE = 64  # images
SHOWN, SAMPLES_SEED = 8, 0


class Kept(NamedTuple):
    """What an export makes of N images."""

    metrics: dict[str, float]
    squared_error: NDArray[np.float64]  # (N,) mean over an image's values


def check_vae(
    cfg: ModelConfig, pixels: ArrayReader, images: NDArray[np.int64], kind: Reconstruction, device: torch.device
) -> Kept:
    """Encode and decode the means of images (N,) by the exported file.

    `loss` is the negative evidence bound at the full beta, nats per image where `kind` is bce; `squared_error` the mean
    over values in 0 .. 1.
    """
    model = open_model(cfg).to(device)
    means, errors, reconstructions, kls = [], [], [], []
    with torch.inference_mode():
        for start in range(0, len(images), AT_ONCE):
            stored = torch.from_numpy(pixels[images[start : start + AT_ONCE]])
            x = stored.to(device).permute(0, 3, 1, 2).float() / 255
            mean, log_variance = model.encode(x)
            logits = model.decode(mean)
            decoded = torch.sigmoid(logits)
            each = bce_of_logits(logits, x) if kind == "bce" else half_squared_error(x, decoded)
            means.append(mean.cpu())
            errors.append((x - decoded).double().square().flatten(1).mean(dim=1).cpu())
            reconstructions.append(each.double().cpu())
            kls.append(kl_divergence(mean, log_variance).double().cpu())
    reconstruction, kl = float(torch.cat(reconstructions).mean()), float(torch.cat(kls).mean())
    squared = torch.cat(errors).numpy()
    metrics = {
        "loss": reconstruction + model.arch.beta * kl, "squared_error": float(squared.mean()),
        "reconstruction": reconstruction, "kl": kl, "active_units": float(active_units(torch.cat(means))),
    }  # fmt: skip
    return Kept(metrics, squared)


def vae_pictures(model: Vae, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return originals over reconstructions, samples from the prior and a walk between two images, by tag.

    Args:
        pixels: (N,S,S,3) a few images.
    """
    found = {
        "vae/reconstructions": _grid([pixels[:SHOWN], model.reconstruct(pixels[:SHOWN])]),
        "vae/samples": _grid(list(model.samples(2 * SHOWN, SAMPLES_SEED).reshape(2, SHOWN, *pixels.shape[1:]))),
    }
    if len(pixels) > 1:
        found["vae/walk"] = _grid([model.walk(pixels[0], pixels[-1], SHOWN)])
    return found


def _grid(rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay (W,S,S,3) rows out below each other: (len(rows) S, W S, 3)."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
