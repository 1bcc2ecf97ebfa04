"""The published composers, loaded: files, vocabulary, text sides, towers; rows do not depend on their neighbours."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aistudio.config import ImageSpec, ModelConfig, WeightsFile
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._composer_open import save_composer
from aistudio.models._composer_stages import stage_width
from aistudio.models._words import MAX_WORDS
from aistudio.models.align import open_align
from aistudio.training.composer_model import BUILDERS, fresh_composer, open_trainable

FAMILIES = sorted(BUILDERS)
WORDS = ["<UNK>", *"red blue dress with stripes and a long collar".split()]  # noqa: SIM905
DIM, TEXT_DIM, SIZE = 24, 20, 32
RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (9, SIZE, SIZE, 3), dtype=np.uint8)
TEXTS = ["red dress", "with blue stripes and a long collar", "unseen words only", "a", "Red, DRESS!", "long long long"]


def config(folder: Path, family: str, **changes: Any) -> ModelConfig:
    values = {
        "family": family,
        "name": f"tiny_{family}",
        "weights": WeightsFile(path=str(folder / f"{family}.safetensors")),
        "image": ImageSpec(size=SIZE, resize="torchvision_bilinear_center_crop"),
        "arch": {"dim": DIM, "text_dim": TEXT_DIM},
    }
    return ModelConfig.model_validate(values | changes)


def saved(folder: Path, family: str, words: list[str] | None = WORDS, **changes: Any) -> ModelConfig:
    """Settings of a composer with random numbers whose file is written."""
    cfg = config(folder, family, **changes)
    torch.manual_seed(3)
    model = fresh_composer(cfg, words)
    for name, value in model.state_dict().items():  # norms that do something
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)  # small: a large mean leaves ReLU nothing, and every picture the same vector
    save_composer(model, cfg.weights.path, words)
    return cfg


@pytest.fixture(scope="module")
def composers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelConfig]:
    folder = tmp_path_factory.mktemp("composers")
    return {family: saved(folder, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def loaded(composers: dict[str, ModelConfig]) -> Any:
    return load_model(composers["compose_ae"])


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_equals_the_differentiable_model(composers: dict[str, ModelConfig], family: str) -> None:
    cfg = composers[family]
    model, opened = load_model(cfg), open_trainable(cfg)
    plain, vocabulary = opened.model(), opened.vocabulary
    assert vocabulary is not None and vocabulary.words == tuple(WORDS)
    z, q = model.encode_images(PIXELS[: len(TEXTS)]), model.text_vectors(TEXTS)
    ids = vocabulary.tokenize(TEXTS)
    for i, row in enumerate(ids):
        with torch.no_grad():
            one = plain.text_model(torch.tensor([row]), torch.tensor([len(row)]))
        np.testing.assert_allclose(q[i], one[0].numpy(), atol=2e-6)
    with torch.no_grad():
        x = (torch.from_numpy(PIXELS[: len(TEXTS)]).permute(0, 3, 1, 2).double() / 255).permute(0, 2, 3, 1)
        x = ((x - torch.tensor(cfg.image.mean)) / torch.tensor(cfg.image.std)).permute(0, 3, 1, 2).float()
        np.testing.assert_allclose(z, plain.img_model(x).numpy(), atol=1e-5)
        wanted = plain.mix(torch.from_numpy(z), torch.from_numpy(q))
    np.testing.assert_allclose(model.compose(z, TEXTS), wanted.vectors.numpy(), atol=2e-5)
    assert (model.dim, model.text_dim, model.normalised) == (DIM, TEXT_DIM, False)
    assert not np.allclose(np.linalg.norm(z, axis=1), 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_check_finds_what_loading_finds(composers: dict[str, ModelConfig], family: str) -> None:
    info, model = check_weights(composers[family]), load_model(composers[family])
    assert info.fingerprint == model.fingerprint
    assert info.image_tower_fingerprint == model.image_tower_fingerprint
    assert (info.dim, info.image_spec) == (model.dim, model.image_spec)


@pytest.mark.parametrize(("family", "threads"), [*((family, 1) for family in FAMILIES), ("tirg", 2), ("compose_ae", 3)])
def test_no_row_depends_on_its_neighbours(composers: dict[str, ModelConfig], family: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together, alone = load_model(composers[family]), load_model(composers[family])
        z = together.encode_images(PIXELS[:6])
        np.testing.assert_array_equal(alone.encode_images(PIXELS[5:6]), z[5:6])
        np.testing.assert_array_equal(alone.encode_images(PIXELS[4::-1]), z[4::-1])
        texts = [" ".join(RNG.choice(WORDS[1:], n % 9 + 1)) for n in range(300)]
        images = z[RNG.integers(0, len(z), 300)]
        whole = together.compose(images, texts)
        np.testing.assert_array_equal(alone.compose(images[[77]], [texts[77]]), whole[[77]])
        np.testing.assert_array_equal(alone.compose(images[::-1], texts[::-1])[::-1], whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("text", ["", "?!", "雪", " \n", "word " * (MAX_WORDS + 1)])
def test_a_text_that_cannot_be_read_costs_its_own_row(loaded: Any, text: str, position: int) -> None:
    model = loaded
    z, texts = model.encode_images(PIXELS[:3]), ["red dress", "blue dress", "a long collar"]
    whole = model.compose(z, texts)
    texts[position] = text
    found = model.compose(z, texts)
    rest = [i for i in range(3) if i != position]
    assert np.isnan(found[position]).all()
    np.testing.assert_array_equal(found[rest], whole[rest])
    reasons = model.refusals(texts)
    assert "word" in reasons[position] and [reasons[i] for i in rest] == [None, None]


def test_a_vector_that_is_not_finite_costs_its_own_row(composers: dict[str, ModelConfig]) -> None:
    model = load_model(composers["tirg"])
    z = model.encode_images(PIXELS[:3])
    whole = model.compose(z, TEXTS[:3])
    z[1, 4] = np.inf
    found = model.compose(z, TEXTS[:3])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])


def test_empty_batches_and_wrong_shapes(composers: dict[str, ModelConfig]) -> None:
    model = load_model(composers["tirg"])
    assert model.compose(np.empty((0, DIM), np.float32), []).shape == (0, DIM)
    assert model.encode_images(PIXELS[:0]).shape == (0, DIM)
    assert model.text_vectors([]).shape == (0, TEXT_DIM)
    assert np.isnan(model.compose(np.zeros((2, DIM), np.float32), ["", ""])).all()
    with pytest.raises(ValueError, match="2 image vectors and 1 texts"):
        model.compose(np.zeros((2, DIM), np.float32), ["red"])
    with pytest.raises(ValueError, match="expected"):
        model.compose(np.zeros((1, DIM + 1), np.float32), ["red"])


def test_a_checkpoint_of_the_reference_opens(composers: dict[str, ModelConfig], tmp_path: Path) -> None:
    """{it, opt, model_state_dict}, counters included, the words beside it: same numbers as our own file."""
    cfg = composers["compose_ae"]
    state = open_trainable(cfg).model().state_dict()
    options = argparse.Namespace(dataset="mitstates", learning_rate=0.01, nested=argparse.Namespace(a=[1, 2]))
    torch.save({"it": 7, "opt": options, "model_state_dict": state}, tmp_path / "latest_checkpoint.pth")
    (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    words = {"vocabulary": WeightsFile(path=str(tmp_path / "words.txt"))}
    weights = WeightsFile(path=str(tmp_path / "latest_checkpoint.pth"))
    theirs = load_model(cfg.model_copy(update={"weights": weights, "extra_files": words}))
    z = theirs.encode_images(PIXELS[:6])
    np.testing.assert_array_equal(theirs.compose(z, TEXTS), load_model(cfg).compose(z, TEXTS))


class _Foreign:
    def __reduce__(self) -> Any:
        return print, ("code",)


@pytest.mark.parametrize("extra", [{"opt": _Foreign()}, {"optimizer": 1}])
def test_a_checkpoint_with_foreign_code_or_entries_is_refused(
    composers: dict[str, ModelConfig], tmp_path: Path, extra: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    state = open_trainable(composers["tirg"]).model().state_dict()
    torch.save({"model_state_dict": state, "vocabulary": WORDS} | extra, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"refused|unknown entries"):
        load_model(composers["tirg"].model_copy(update={"weights": WeightsFile(path=str(tmp_path / "x.pth"))}))
    assert "code" not in capsys.readouterr().out


def beside(cfg: ModelConfig, folder: Path, words: list[str]) -> ModelConfig:
    (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    return cfg.model_copy(update={"extra_files": {"vocabulary": WeightsFile(path=str(folder / "words.json"))}})


def test_vocabularies_that_do_not_fit(composers: dict[str, ModelConfig], tmp_path: Path) -> None:
    cfg = composers["tirg"]
    with pytest.raises(WeightsError, match="another vocabulary"):
        check_weights(beside(cfg, tmp_path, [*WORDS[:-1], "other"]))
    bare = cfg.model_copy(update={"weights": WeightsFile(path=str(tmp_path / "bare.pth"))})
    torch.save(open_trainable(cfg).model().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(WeightsError, match="holds no vocabulary"):
        check_weights(bare)
    with pytest.raises(WeightsError, match=r"11 words, but .*bare.pth has 10 word embeddings"):
        check_weights(beside(bare, tmp_path, [*WORDS, "more"]))
    assert check_weights(beside(bare, tmp_path, WORDS)).dim == DIM


def test_another_order_of_words_is_another_fingerprint(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    one = check_weights(saved(first, "tirg"))
    other = check_weights(saved(second, "tirg", [WORDS[0], *reversed(WORDS[1:])]))
    assert one.fingerprint != other.fingerprint
    assert one.image_tower_fingerprint == other.image_tower_fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_of_another_model(tmp_path: Path, tiny: dict[str, ModelConfig], family: str) -> None:
    """Any image encoder as the gallery tower, any recall model's texts; the file holds the composer alone."""
    base = load_model(tiny["recall"])
    towers = {"image": tiny["recall"], "text": tiny["recall"]}
    arch = {"dim": base.dim, "text_dim": base.dim, "text": "tower"}
    cfg = saved(tmp_path, family, None, towers=towers, arch=arch)
    model = load_model(cfg)
    assert (model.image_tower_fingerprint, model.normalised) == (base.image_tower_fingerprint, True)
    assert check_weights(cfg).fingerprint == model.fingerprint
    size = model.image_spec.size
    pixels = RNG.integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(model.encode_images(pixels), base.encode_images(pixels))
    found = model.compose(model.encode_images(pixels), ["x", "", "\ud800", "y"])
    assert found.shape == (4, base.dim) and np.isfinite(found).all()
    with pytest.raises(ConfigError, match=r"arch.dim is 99"):
        check_weights(cfg.model_copy(update={"arch": arch | {"dim": 99}}))


def test_towers_that_are_missing_or_not_used(composers: dict[str, ModelConfig], tiny: dict[str, ModelConfig]) -> None:
    cfg = composers["tirg"]
    with pytest.raises(ConfigError, match=r"towers.text is missing"):
        check_weights(cfg.model_copy(update={"arch": {**cfg.arch, "text": "tower"}}))
    with pytest.raises(ConfigError, match=r"towers.text is not used; known: image"):
        check_weights(cfg.model_copy(update={"towers": {"text": tiny["recall"]}}))


@pytest.mark.parametrize(("key", "arch"), [("text", {"text": "tower"}), ("base", {})])
def test_a_tower_whose_texts_count_is_a_recall_model(
    composers: dict[str, ModelConfig], tiny: dict[str, ModelConfig], key: str, arch: dict[str, str]
) -> None:
    cfg = composers["tirg"]
    family = cfg.family if key == "text" else "weighted_sum"
    wrong = cfg.model_copy(
        update={"family": family, "towers": {key: tiny["ranking"]}, "arch": ({**cfg.arch} if arch else {}) | arch}
    )
    with pytest.raises(ConfigError, match=rf"towers\.{key}: expected a recall model, .* found a ranking model"):
        check_weights(wrong)


@pytest.mark.parametrize(
    ("name", "family"),
    [(f"{n}-{d}", f) for n, f in zip(("composeae", "realspace", "tirg"), FAMILIES, strict=True) for d in (512, 768)],
)
def test_state_dict_is_the_published_one(name: str, family: str, tmp_path: Path) -> None:
    keys = Path(__file__).parents[2].parent / "shared" / "composed" / "keys" / f"{name}.json"
    if not keys.is_file():
        pytest.skip("the composed-retrieval cases are not on this machine")
    cfg = config(tmp_path, family, arch={"text_dim": int(name[-3:])})
    with torch.device("meta"):
        state = fresh_composer(cfg, WORDS).state_dict()
    found = [[key, list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in state.items()]
    wanted = json.loads(keys.read_text(encoding="utf-8"))
    assert found == [[key, [len(WORDS) if n == "V" else n for n in shape], dtype] for key, shape, dtype in wanted]


def test_stages_of_another_tower_are_encoded_row_by_row(tmp_path: Path) -> None:
    """A head on all stages of a recall model's tower: what the loaded encoder gives, and who may be the trunk."""
    from tests.models import tiny_families  # which imports this file

    (tmp_path / "trunk").mkdir()
    base = tiny_families.align(tmp_path / "trunk")
    width = stage_width(base)
    arch = {"dim": DIM, "text_dim": TEXT_DIM, "stages": width}
    cfg = saved(tmp_path, "tirg", towers={"trunk": base}, arch=arch, image=base.image)
    model, opened = load_model(cfg), open_trainable(cfg)
    pixels = RNG.integers(0, 256, (5, base.image.size, base.image.size, 3), dtype=np.uint8)
    found = model.encode_images(pixels)
    assert found.shape == (5, DIM) and not model.normalised and check_weights(cfg).fingerprint == model.fingerprint
    for i in range(5):
        assert np.array_equal(load_model(cfg).encode_images(pixels[i : i + 1])[0], found[i])
    maps, x = [], torch.from_numpy((pixels / 255 - np.array(base.image.mean)) / np.array(base.image.std)).float()
    x = x.permute(0, 3, 1, 2)
    with torch.no_grad():
        for stage in open_align(base).image_model.features:
            x = stage(x)
            maps += [x.mean(dim=(2, 3)), x.var(dim=(2, 3), correction=0).sqrt()]
        head = opened.model().img_model
        np.testing.assert_allclose(found, head(torch.cat(maps, dim=1)).numpy(), atol=2e-3)
    other = saved(tmp_path / "trunk", "tirg", towers={"trunk": base}, arch=arch | {"dim": DIM + 1}, image=base.image)
    assert check_weights(other).image_tower_fingerprint != model.image_tower_fingerprint
    with pytest.raises(ConfigError, match=f"arch.stages is {width + 1}, but the stages of towers.trunk are {width}"):
        check_weights(cfg.model_copy(update={"arch": arch | {"stages": width + 1}}))
    with pytest.raises(ConfigError, match=r"towers.trunk is missing"):
        check_weights(cfg.model_copy(update={"towers": {}}))
