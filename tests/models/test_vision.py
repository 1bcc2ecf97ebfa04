"""Image-only encoders against torchvision and transformers themselves: from a picture to its vector."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
import transformers
from PIL import Image
from torch import nn
from torchvision.models._api import WeightsEnum
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from aistudio.config import ImageSpec, ModelConfig, WeightsFile, load_model_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.images.transform import resize
from aistudio.models import check_weights, load_model
from aistudio.models._classifiers import (
    Pooled,
    TorchvisionMap,
    TorchvisionTokens,
    torchvision_skeleton,
    used_tensors,
)

SHAPES = ((90, 60), (50, 70), (64, 64), (33, 200), (301, 300), (40, 41), (500, 333), (35, 35))  # widths and heights
SPEC = ImageSpec(size=64, resize="torchvision_bilinear_center_crop", resize_shortest=73)
VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT |= {"image_size": 32, "patch_size": 8}
STAGES = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "embedding_size": 8, "layer_type": "basic"}


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size)


PICTURES = [picture(i, size) for i, size in enumerate(SHAPES)]


def pixels(spec: ImageSpec) -> np.ndarray:
    return np.stack([resize(image, spec) for image in PICTURES])


def randomised(net: nn.Module) -> nn.Module:
    """Statistics and scales that are not one and zero, so that a layer left out shows."""
    torch.manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def conf(path: Path, spec: ImageSpec = SPEC, **arch: Any) -> ModelConfig:
    return ModelConfig(family="vision", name="tiny", weights=WeightsFile(path=str(path)), image=spec, arch=arch)


def torchvision_net(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomised(torchvision.models.get_model(name, weights=None))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "mnasnet0_5"])
def test_torchvision_networks_from_picture_to_vector(name: str, tmp_path: Path) -> None:
    net = torchvision_net(name)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    ours = load_model(conf(tmp_path / "w.pth", torchvision=name))
    preset = ImageClassification(crop_size=64, resize_size=73)
    with torch.inference_mode():
        x = torch.stack([preset(image) for image in PICTURES])
        last = net.layers(x) if name == "mnasnet0_5" else None
        if last is None:
            kept = nn.Sequential(*list(net.children())[:-2]) if name == "resnet18" else net.features
            last = kept(x)
        want = nn.functional.normalize(last.mean((2, 3))).numpy()
    got = ours.encode_images(pixels(ours.image_spec))
    assert got.shape == (len(PICTURES), ours.dim) and ours.normalised
    np.testing.assert_allclose(got, want, atol=1e-5)
    again = load_model(conf(tmp_path / "w.safetensors", torchvision=name))
    assert again.encode_images(pixels(ours.image_spec)).tobytes() == got.tobytes()
    info = check_weights(conf(tmp_path / "w.pth", torchvision=name))
    assert (info.dim, info.fingerprint, info.image_spec) == (ours.dim, ours.fingerprint, ours.image_spec)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("edge", [64, 65, 66, 67, 73, 146])
def test_torchvisions_resize_and_crop_bit_for_bit(kernel: str, edge: int) -> None:
    spec = ImageSpec(size=64, resize=f"torchvision_{kernel}_center_crop", resize_shortest=edge)
    preset = ImageClassification(crop_size=64, resize_size=edge, interpolation=InterpolationMode(kernel))
    mean, std = np.array(spec.mean), np.array(spec.std)
    for image in PICTURES:
        ours = (resize(image, spec) / 255 - mean) / std
        np.testing.assert_allclose(preset(image).permute(1, 2, 0).numpy(), ours, atol=1e-6)


KINDS = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"),
    "wide_resnet50_2",
)


def test_every_kind_of_network_of_torchvision_is_listed_here() -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    modules = [{torchvision.models.get_model_builder(name).__module__ for name in names} for names in (known, KINDS)]
    assert modules[0] == modules[1]


@pytest.mark.parametrize("name", KINDS)
def test_only_the_classifier_is_left_out(name: str) -> None:
    size = 299 if name == "inception_v3" else 224
    net, backbone = torchvision_skeleton(name, size)
    with torch.inference_mode():
        found = Pooled(backbone, None, 3.0).eval()(torch.zeros(1, 3, size, size, device="meta"))
    names = used_tensors(net, backbone)
    assert found.ndim == 2 and found.shape[1] >= 256
    left = {key.split(".")[0] for key, t in net.state_dict().items() if key not in names and t.is_floating_point()}
    assert left and left <= {"classifier", "fc", "head", "heads", "aux1", "aux2", "AuxLogits"}


def own_pooled(name: str, net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the network itself gives its last linear layer, caught on the way."""
    caught: list[torch.Tensor] = []
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    hook = last.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    with torch.inference_mode():
        net(x)
    hook.remove()
    return caught[0]


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "densenet121", "shufflenet_v2_x0_5", "regnet_y_400mf", "swin_t", "googlenet"]
)
def test_vectors_are_what_the_classifier_is_given(name: str) -> None:
    net = torchvision_net(name)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        got = Pooled(TorchvisionMap(net), None, 3.0).eval()(x)
    torch.testing.assert_close(got, own_pooled(name, net, x), atol=1e-5, rtol=1e-5)


def test_torchvisions_vit_gives_its_class_token() -> None:
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 48, num_classes=5)
    net = randomised(net)
    nn.init.normal_(net.class_token)
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        cls = Pooled(TorchvisionTokens(net), None, 3.0).eval()(x)
        mean = Pooled(TorchvisionTokens(net), "mean", 3.0).eval()(x)
        tokens = net.encoder(torch.cat([net.class_token.expand(3, -1, -1), net._process_input(x)], dim=1))
    torch.testing.assert_close(cls, own_pooled("vit", net, x))
    torch.testing.assert_close(mean, tokens[:, 1:].mean(1))


def save_vit(folder: Path) -> None:
    transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, num_labels=7)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def save_dinov2(folder: Path) -> None:
    transformers.Dinov2Model(transformers.Dinov2Config(**VIT)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}}
    transformers.BitImageProcessor(**size, do_center_crop=True).save_pretrained(folder)


def save_registers(folder: Path) -> None:
    config = transformers.Dinov2WithRegistersConfig(**VIT, num_register_tokens=3)
    transformers.Dinov2WithRegistersModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 2}
    transformers.BitImageProcessor(**size, do_center_crop=True).save_pretrained(folder)


def save_resnet(folder: Path) -> None:
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**STAGES))
    randomised(model).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 48}, crop_pct=0.875).save_pretrained(folder)


def save_convnext(folder: Path) -> None:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])
    randomised(transformers.ConvNextModel(config)).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 384}, resample=2).save_pretrained(folder)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "vit": save_vit,
    "dinov2": save_dinov2,
    "registers": save_registers,
    "resnet": save_resnet,
    "convnext": save_convnext,
}


@pytest.fixture(params=list(FOLDERS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    FOLDERS[request.param](tmp_path)
    return tmp_path


def library_states(folder: Path) -> Any:
    """The library's own path: pictures, its processor, its model."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(pixel_values=processor(PICTURES, return_tensors="pt")["pixel_values"])


def test_hugging_face_folders_from_picture_to_vector(folder: Path) -> None:
    ours = load_model(conf(folder / "model.safetensors", normalised=False))
    found = library_states(folder)
    hidden = found.last_hidden_state
    want = hidden[:, 0] if hidden.ndim == 3 else found.pooler_output.flatten(1)
    got = ours.encode_images(pixels(ours.image_spec))
    assert not ours.normalised
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)
    unit = load_model(conf(folder / "model.safetensors"))
    want = nn.functional.normalize(want).numpy()
    np.testing.assert_allclose(unit.encode_images(pixels(unit.image_spec)), want, atol=1e-5)
    assert unit.fingerprint != ours.fingerprint and unit.image_tower_fingerprint != ours.image_tower_fingerprint
    info = check_weights(conf(folder / "model.safetensors"))
    assert (info.dim, info.fingerprint, info.image_spec) == (unit.dim, unit.fingerprint, unit.image_spec)


@pytest.mark.parametrize("pooling", ["mean", "gem"])
def test_pooling_leaves_out_what_is_no_part_of_the_image(folder: Path, pooling: str) -> None:
    hidden = library_states(folder).last_hidden_state
    prefix = {"dinov2": 1, "vit": 1, "dinov2_with_registers": 4}.get(
        transformers.AutoConfig.from_pretrained(folder).model_type, 0
    )
    places = hidden[:, prefix:] if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)
    want = places.mean(1) if pooling == "mean" else places.clamp(min=1e-6).pow(3).mean(1).pow(1 / 3)
    if transformers.AutoConfig.from_pretrained(folder).model_type == "convnext":
        want = transformers.AutoModel.from_pretrained(folder).layernorm(want).detach()
    ours = load_model(conf(folder / "model.safetensors", pooling=pooling, normalised=False))
    np.testing.assert_allclose(ours.encode_images(pixels(ours.image_spec)), want.numpy(), atol=1e-5)


def test_neighbours_change_no_byte(folder: Path) -> None:
    model = load_model(conf(folder / "model.safetensors"))
    rows = pixels(model.image_spec)
    whole = model.encode_images(rows)
    before = torch.get_num_threads()
    for threads, size in ((1, 1), (1, 3), (2, 7)):
        torch.set_num_threads(threads)
        fresh = load_model(conf(folder / "model.safetensors"))
        order = np.random.default_rng(size).permutation(len(rows))
        parts = [fresh.encode_images(rows[order[i : i + size]]) for i in range(0, len(rows), size)]
        assert np.concatenate(parts)[np.argsort(order)].tobytes() == whole.tobytes(), (threads, size)
    torch.set_num_threads(before)
    assert model.encode_images(rows[:0]).shape == (0, model.dim)


def test_neighbours_change_no_byte_of_a_torchvision_network(tmp_path: Path) -> None:
    safetensors.torch.save_file(torchvision_net("resnet18").state_dict(), tmp_path / "w.safetensors")
    model = load_model(conf(tmp_path / "w.safetensors", torchvision="resnet18"))
    rows = pixels(model.image_spec)
    whole = model.encode_images(rows)
    alone = load_model(conf(tmp_path / "w.safetensors", torchvision="resnet18"))
    assert np.concatenate([alone.encode_images(row[None]) for row in rows[::-1]])[::-1].tobytes() == whole.tobytes()


def test_a_classifier_of_any_size_is_left_out(tmp_path: Path) -> None:
    net = torchvision_net("resnet18")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "a.safetensors")
    net.fc = nn.Linear(512, 3)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "b.safetensors")
    bare = {name: t for name, t in net.state_dict().items() if not name.startswith("fc.")}
    safetensors.torch.save_file(bare, tmp_path / "c.safetensors")
    models = [load_model(conf(tmp_path / f"{x}.safetensors", torchvision="resnet18")) for x in "abc"]
    rows = [model.encode_images(pixels(SPEC)).tobytes() for model in models]
    assert rows[0] == rows[1] == rows[2]
    assert len({model.image_tower_fingerprint for model in models}) == 1
    assert len({model.fingerprint for model in models}) == 3


def test_refusals_say_what_would_be_right(tmp_path: Path) -> None:
    state = torchvision_net("resnet18").state_dict()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(ConfigError, match=r"'resnet19' is not known; perhaps resnet18"):
        check_weights(conf(path, torchvision="resnet19"))
    with pytest.raises(ConfigError, match="pooling: cls, but this model has no class token"):
        check_weights(conf(path, torchvision="resnet18", pooling="cls"))
    with pytest.raises(ConfigError, match=r"resize_shortest is 60, smaller than image\.size 64"):
        check_weights(conf(path, SPEC.model_copy(update={"resize_shortest": 60}), torchvision="resnet18"))
    with pytest.raises(ConfigError, match=r"arch\.pool"):
        check_weights(conf(path, torchvision="resnet18", pool="max"))
    with pytest.raises(WeightsError, match="tensors missing"):
        check_weights(conf(path, torchvision="resnet34"))
    safetensors.torch.save_file(state | {"extra.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"unknown: extra\.weight"):
        check_weights(conf(path, torchvision="resnet18"))
    safetensors.torch.save_file(state | {"conv1.weight": torch.full_like(state["conv1.weight"], torch.nan)}, path)
    with pytest.raises(WeightsError, match="not finite"):
        load_model(conf(path, torchvision="resnet18"))
    with pytest.raises(WeightsError, match="no such weights file"):
        check_weights(conf(tmp_path / "none.pth", torchvision="resnet18"))


def test_a_processor_with_steps_of_its_own_is_refused(tmp_path: Path) -> None:
    save_vit(tmp_path)
    transformers.LevitImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"Levit.* has steps that are not supported here"):
        check_weights(conf(tmp_path / "model.safetensors"))
    transformers.ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="40"):  # the model's own words: its positions are for 32
        check_weights(conf(tmp_path / "model.safetensors"))
    transformers.DeiTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="is not supported"):
        check_weights(conf(tmp_path / "model.safetensors"))


def test_missing_tensors_of_a_folder_are_named_but_a_pooler_may_miss(tmp_path: Path) -> None:
    save_vit(tmp_path)
    path = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(path)
    assert not any("pooler" in name for name in state)  # as published classifiers are
    name = "vit.embeddings.patch_embeddings.projection.weight"
    safetensors.torch.save_file({k: v for k, v in state.items() if k != name}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="patch_embeddings"):
        load_model(conf(path))
    safetensors.torch.save_file(
        state | {name: torch.full_like(state[name], torch.inf)}, path, metadata={"format": "pt"}
    )
    with pytest.raises(WeightsError, match="not finite"):
        load_model(conf(path))


@pytest.mark.parametrize("name", ["vision_resnet18", "vision_resnet50", "vision_vit_b_16"])
def test_shipped_settings_are_torchvisions_own_preprocessing(name: str) -> None:
    cfg = load_model_config(Path(__file__).parents[2] / f"conf/models/{name}.yaml")
    weights: WeightsEnum = torchvision.models.get_model_weights(cfg.arch["torchvision"]).DEFAULT
    url = str(cfg.weights.url)
    weights = next(w for w in type(weights) if w.url.rpartition("/")[2] == url.rpartition("/")[2])
    preset = weights.transforms()
    got = (cfg.image.size, cfg.image.resize_shortest, cfg.image.resize, list(cfg.image.mean), list(cfg.image.std))
    kernel = f"torchvision_{preset.interpolation.value}_center_crop"
    assert got == (preset.crop_size[0], preset.resize_size[0], kernel, preset.mean, preset.std)
