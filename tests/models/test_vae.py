"""aistudio/models/vae.py: the mean, neighbours, decoding, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._checkpoint import save_weights
from aistudio.models.vae import VaeArch, VaeModel, sample, state_dict_published

ARCH = {"widths": [4, 8], "latent_dim": 5}
SPEC = ImageSpec(size=16, resize="pil_bicubic", mean=(0, 0, 0), std=(1, 1, 1))


def written(folder: Path, arch: dict, seed: int = 0) -> tuple[ModelConfig, VaeModel]:
    torch.manual_seed(seed)
    model = VaeModel(VaeArch.model_validate(arch), SPEC.size).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    path = folder / "vae.safetensors"
    save_weights(state_dict_published(model), path)
    return ModelConfig(family="vae", name="tiny", weights=WeightsFile(path=str(path)), image=SPEC, arch=arch), model


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_vector_is_the_mean_whatever_its_neighbours(tmp_path: Path, normalise: bool) -> None:
    cfg, model = written(tmp_path, ARCH | {"normalise": normalise})
    loaded, pixels = load_model(cfg), pictures(35)
    rows = loaded.encode_images(pixels)
    with torch.no_grad():
        mean = model.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)[0]
    want = F.normalize(mean, dim=-1) if normalise else mean
    np.testing.assert_allclose(rows, want, atol=1e-5)
    assert (loaded.encode_images(pixels) == rows).all() and loaded.normalised == normalise  # never a sample
    assert (load_model(cfg).encode_images(pixels[30:33]) == rows[30:33]).all()
    assert loaded.encode_images(pixels[:0]).shape == (0, 5)
    np.testing.assert_allclose(loaded.means(pixels), mean, atol=1e-5)


def test_forward_in_training_samples_and_a_plain_autoencoder_does_not() -> None:
    x, noise = torch.rand(3, 3, 16, 16), torch.randn(3, 5)
    for beta, same in ((1.0, False), (0.0, True)):
        model = VaeModel(VaeArch.model_validate(ARCH | {"beta": beta}), 16).eval()
        logits, mean, log_variance = model(x)
        noisy, *_ = model(x, noise)
        assert logits.shape == x.shape and torch.equal(logits, model.decode(mean))
        assert torch.equal(noisy, logits) == same
        if not same:
            assert torch.equal(noisy, model.decode(mean + torch.exp(log_variance / 2) * noise))


def test_sampling_at_zero_noise_is_the_mean() -> None:
    mean, log_variance = torch.randn(2, 4), torch.randn(2, 4)
    assert torch.equal(sample(mean, log_variance, torch.zeros(2, 4)), mean)


def test_reconstructions_samples_and_walks_are_pictures(tmp_path: Path) -> None:
    cfg, model = written(tmp_path, ARCH)
    loaded, pixels = load_model(cfg), pictures(70)
    again = loaded.reconstruct(pixels)
    assert again.shape == pixels.shape and again.dtype == np.uint8
    with torch.no_grad():
        want = torch.sigmoid(model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)[0])
    assert np.abs(again.astype(float) - want.permute(0, 2, 3, 1).numpy() * 255).max() <= 0.51
    assert (loaded.samples(4, seed=1) == loaded.samples(4, seed=1)).all()
    assert (loaded.samples(4, seed=1) != loaded.samples(4, seed=2)).any()
    walk = loaded.walk(pixels[0], pixels[1], 5)
    assert walk.shape == (5, 16, 16, 3)
    assert np.abs(walk[[0, -1]].astype(int) - again[:2]).max() <= 1
    assert loaded.decode(np.empty((0, 5))).shape == (0, 16, 16, 3)


def test_a_decoder_without_checkerboard_and_with_the_right_size() -> None:
    model = VaeModel(VaeArch(), 64)
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in model.modules())
    assert model.decode(torch.zeros(2, 64)).shape == (2, 3, 64, 64)
    one = VaeModel(VaeArch(widths=(6,), latent_dim=2), 10)
    assert one.decode(torch.zeros(1, 2)).shape == (1, 3, 10, 10)


def test_check_tells_what_loading_finds(tmp_path: Path) -> None:
    cfg, _ = written(tmp_path, ARCH)
    info, model = check_weights(cfg), load_model(cfg)
    assert (info.fingerprint, info.image_tower_fingerprint) == (model.fingerprint, model.image_tower_fingerprint)
    assert (info.dim, model.dim) == (5, 5)
    raw = check_weights(cfg.model_copy(update={"arch": ARCH | {"normalise": False}}))
    assert raw.fingerprint != info.fingerprint and raw.image_tower_fingerprint != info.image_tower_fingerprint


def test_wrong_settings_and_files(tmp_path: Path) -> None:
    cfg, _ = written(tmp_path, ARCH)
    for image, message in (
        (ImageSpec(size=18, mean=(0, 0, 0), std=(1, 1, 1)), "multiple of 4"),
        (ImageSpec(size=16), "0..1"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_model(cfg.model_copy(update={"image": image}))
    with pytest.raises(WeightsError, match="wrong shape"):
        load_model(cfg.model_copy(update={"arch": ARCH | {"latent_dim": 6}}))
    with pytest.raises(ConfigError, match="widths"):
        load_model(cfg.model_copy(update={"arch": {"widths": []}}))
