"""Family `vae`: a convolutional variational autoencoder whose vector is the mean of the encoder's distribution.

Never a sample: the same image would get another vector each time. Its vectors know colour, background and layout, not
the kind of an item. The decoder is kept for reconstructions, samples and walks. `beta: 0` is the plain autoencoder.
(Kingma and Welling 2013, arXiv 1312.6114; beta: Higgins 2017.)
"""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from aistudio.config import ModelConfig, Settings
from aistudio.errors import ConfigError
from aistudio.models import Kind
from aistudio.models._device import torch_dtype
from aistudio.models._encode import ImageRunner, LoadOptions
from aistudio.models._opening import OpenedFile, file_info, read_published, tensors_fingerprint
from aistudio.models._optimise import Foldable, one_dnn_available
from aistudio.models._settings import parse_arch
from aistudio.weights.files import WeightsInfo, require_files

KIND = Kind.ENCODER
REMEMBERED = True

DECODED_AT_ONCE = 64  # images in one pass of the decoder


class VaeArch(Settings):
    """Sizes; each width halves the image's side."""

    widths: tuple[int, ...] = (32, 64, 128, 256)
    latent_dim: int = Field(64, ge=1)
    beta: float = Field(1.0, ge=0)  # weight of the KL term in training; 0: the plain autoencoder, without sampling
    normalise: bool = True  # unit rows; false: means as they are, to be searched by Euclidean distance

    @model_validator(mode="after")
    def _some_width(self) -> "VaeArch":
        if not self.widths or min(self.widths) < 1:
            raise ValueError("widths: expected numbers from 1 on, and one at least")
        return self


class VaeModel(nn.Module):
    """Encoder and decoder, differentiable. Pixels are RGB / 255, without mean and standard deviation."""

    def __init__(self, arch: VaeArch, size: int) -> None:
        super().__init__()
        self.arch, self.size = arch, size
        self.side = size // 2 ** len(arch.widths)
        flat = arch.widths[-1] * self.side**2
        self.encoder = _encoder(arch.widths)
        self.mean, self.log_variance = nn.Linear(flat, arch.latent_dim), nn.Linear(flat, arch.latent_dim)
        self.unflatten = nn.Linear(arch.latent_dim, flat)
        self.decoder = _decoder(arch.widths)

    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,3,S,S) pixels in 0..1 -> mean and log variance, (N, latent_dim) each."""
        hidden = self.encoder(pixels).flatten(1)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """(N, latent_dim) -> (N,3,S,S) logits; their sigmoid are pixels in 0..1."""
        hidden = self.unflatten(latent).view(-1, self.arch.widths[-1], self.side, self.side)
        return self.decoder(hidden)

    def forward(self, pixels: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """(N,3,S,S) pixels in 0..1 -> logits (N,3,S,S), mean and log variance (N, latent_dim).

        Args:
            noise: (N, latent_dim) standard normal, for training; None, or beta 0: the mean is decoded.
        """
        mean, log_variance = self.encode(pixels)
        latent = mean if noise is None or self.arch.beta == 0 else sample(mean, log_variance, noise)
        return self.decode(latent), mean, log_variance


def sample(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Draw from the encoder's distribution: mean + exp(log_variance / 2) * noise."""
    return mean + torch.exp(log_variance / 2) * noise


def _encoder(widths: tuple[int, ...]) -> Foldable:
    layers: list[nn.Module] = []
    for channels_in, channels_out in zip((3, *widths), widths, strict=False):
        conv = nn.Conv2d(channels_in, channels_out, 3, 2, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return Foldable(*layers)


def _decoder(widths: tuple[int, ...]) -> nn.Sequential:
    """Nearest up-sampling and convolution: transposed convolutions leave a checkerboard."""
    layers: list[nn.Module] = []
    steps = list(zip(widths[::-1], widths[-2::-1], strict=False))
    for channels_in, channels_out in steps:
        conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        layers += [nn.Upsample(scale_factor=2), conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Upsample(scale_factor=2), nn.Conv2d(widths[0], 3, 3, padding=1))


def published_names(model: VaeModel) -> dict[str, str]:
    """Map the model's own keys to the keys in a file: the same, without the counters of BatchNorm."""
    return {key: key for key in model.state_dict() if not key.endswith("num_batches_tracked")}


def state_dict_published(model: VaeModel) -> dict[str, torch.Tensor]:
    """The model's tensors under the names of a file, ready for `save_weights`."""
    state = model.state_dict()
    return {name: state[key] for key, name in published_names(model).items()}


def fresh_model(cfg: ModelConfig) -> VaeModel:
    """Build a model with random numbers, by torch's global generator; no file is read. Raises ConfigError."""
    return VaeModel(_arch(cfg), cfg.image.size)


def open_model(cfg: ModelConfig) -> VaeModel:
    """Return the differentiable model of a file, in eval mode on the CPU. Raises WeightsError or ConfigError."""
    return _open(cfg).load()


class Vae:
    """A VAE, loaded; attributes and `encode_images` as in Embedder, and what the decoder is for."""

    def __init__(self, opened: OpenedFile[VaeModel], options: LoadOptions) -> None:
        model, whole = opened.load(), opened.load()
        self.beta = model.arch.beta  # 0: the plain autoencoder
        self.image_spec, self.dim = opened.cfg.image, opened.info.dim
        self.normalised = model.arch.normalise
        self.fingerprint = opened.info.fingerprint
        self.image_tower_fingerprint = opened.info.image_tower_fingerprint
        self._model = whole.requires_grad_(False)  # decoding is for pictures of a few images: on the CPU, float32
        tower = nn.Sequential(model.encoder, nn.Flatten(), model.mean)
        fused = options.optimize and one_dnn_available(torch_dtype(options.precision))
        self._images = ImageRunner(
            tower, self.image_spec, self.dim, options, normalised=self.normalised, one_by_one=not fused
        )

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N,dim) float32 means, unit rows where `normalised`; N may be 0."""
        return self._images(pixels)

    def means(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> (N, latent_dim) float32 means as they are: what `decode` takes."""
        return self._in_parts(lambda x: self._model.encode(x)[0], _as_tensor(pixels), (self.dim,))

    def kl_by_dimension(self, pixels: np.ndarray) -> list[float]:
        """(N,S,S,3) uint8 RGB -> mean KL from the standard normal of each dimension, in nats; 0 for no image."""

        def divergence(x: torch.Tensor) -> torch.Tensor:
            mean, log_variance = self._model.encode(x)
            return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)

        each = self._in_parts(divergence, _as_tensor(pixels), (self.dim,))
        return [round(float(kl), 6) for kl in each.sum(axis=0, dtype=np.float64) / max(1, len(each))]

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """(N, latent_dim) float -> (N,S,S,3) uint8 RGB; N may be 0."""
        size = self.image_spec.size
        rows = torch.from_numpy(np.ascontiguousarray(latent, dtype=np.float32))
        decoded = self._in_parts(lambda z: torch.sigmoid(self._model.decode(z)), rows, (3, size, size))
        return np.rint(decoded.transpose(0, 2, 3, 1) * 255).astype(np.uint8)

    def reconstruct(self, pixels: np.ndarray) -> np.ndarray:
        """(N,S,S,3) uint8 RGB -> what the decoder makes of their means, the same shape."""
        return self.decode(self.means(pixels))

    def samples(self, count: int, seed: int) -> np.ndarray:
        """Draw `count` images from the prior: (count,S,S,3) uint8 RGB."""
        return self.decode(np.random.default_rng(seed).standard_normal((count, self.dim)))

    def walk(self, first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
        """Decode evenly spaced points between the means of two images (S,S,3): (steps,S,S,3) uint8 RGB."""
        a, b = self.means(np.stack([first, last]))
        share = np.linspace(0, 1, steps)[:, None]
        return self.decode((1 - share) * a + share * b)

    def _in_parts(
        self, function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor, shape: tuple[int, ...]
    ) -> np.ndarray:
        with torch.inference_mode():
            parts = [function(part).numpy() for part in rows.split(DECODED_AT_ONCE)] if len(rows) else []
        return np.concatenate(parts) if parts else np.empty((0, *shape), np.float32)


def _as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def _arch(cfg: ModelConfig) -> VaeArch:
    """Return the sizes. Raises ConfigError where size or pixels of the images do not fit."""
    arch = parse_arch(VaeArch, cfg)
    factor = 2 ** len(arch.widths)
    if cfg.image.size % factor:
        raise ConfigError(
            f"{cfg.name}: image.size {cfg.image.size}: {len(arch.widths)} widths need a multiple of {factor}"
        )
    if cfg.image.mean != (0.0, 0.0, 0.0) or cfg.image.std != (1.0, 1.0, 1.0):
        raise ConfigError(f"{cfg.name}: the decoder gives pixels in 0..1; set image.mean: [0, 0, 0] and std: [1, 1, 1]")
    return arch


def _open(cfg: ModelConfig) -> OpenedFile[VaeModel]:
    arch = _arch(cfg)
    files = require_files(cfg)

    def build() -> VaeModel:
        return VaeModel(arch, cfg.image.size)

    _, names, tensors = read_published(cfg, build, published_names)
    settings = arch.model_dump(mode="json")
    tower = {name: t for name, t in tensors.items() if name.startswith(("encoder.", "mean."))}
    use = {"widths": settings["widths"], "normalise": arch.normalise, "image": cfg.image.identity()}
    info = file_info(cfg, files, settings, tensors, tensors_fingerprint(tower, use), arch.latent_dim, arch.normalise)
    return OpenedFile(cfg, info, tensors, names, build)


def check(cfg: ModelConfig) -> WeightsInfo:
    """Check files, keys and shapes. Raises WeightsError or ConfigError."""
    return _open(cfg).info


def load(cfg: ModelConfig, options: LoadOptions) -> Vae:
    """Load the VAE, ready to encode and decode. Raises WeightsError or ConfigError."""
    return Vae(_open(cfg), options)
