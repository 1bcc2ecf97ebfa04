"""Families, fingerprints and the ranking model's own ways."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aistudio.config import ImageSpec, ModelConfig, WeightsFile, load_model_config
from aistudio.errors import ConfigError
from aistudio.models import check_weights, families, load_model
from aistudio.models._checkpoint import save_weights
from aistudio.models.align import AlignArch, AlignModel, state_dict_published
from aistudio.models.siamese_poi import SiameseArch, SiamesePoiModel
from aistudio.models.siamese_poi import state_dict_published as ranking_state
from aistudio.poi_table import PoiTable
from tests.models import tiny_golden

CONFS = sorted((Path(__file__).parents[2] / "conf" / "models").glob("*.yaml"))


def test_families_are_files() -> None:
    composers = ["combiner", "compose_ae", "real_space_concat_ae", "tirg", "weighted_sum"]
    libraries = ["open_clip", "sentence_transformers", "timm"]
    ours = ["align", "embedder", "hf_dual", "siamese_poi", "vae", "vision"]
    assert families() == sorted([*ours, *composers, *libraries])


def test_unknown_family_lists_the_known(tiny: dict[str, ModelConfig]) -> None:
    for name in ("tirg2", "_bert", "poi_table", "../config"):
        with pytest.raises(ConfigError, match=r"found: align, .*hf_dual, .*siamese_poi"):
            load_model(tiny["recall"].model_copy(update={"family": name}))


@pytest.mark.parametrize("path", CONFS, ids=lambda p: p.stem)
def test_shipped_settings_are_valid_and_named_after_their_file(path: Path) -> None:
    cfg = load_model_config(path)
    assert cfg.name == path.stem  # messages point to conf/models/<name>.yaml
    assert cfg.family in families()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, aistudio.models; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("kind", ["recall", "ranking"])
def test_check_tells_what_loading_finds(tiny: dict[str, ModelConfig], kind: str) -> None:
    info, model = check_weights(tiny[kind]), load_model(tiny[kind])
    assert info.fingerprint == model.fingerprint
    assert info.image_tower_fingerprint == model.image_tower_fingerprint
    assert (info.dim, info.image_spec) == (model.dim, model.image_spec)


def test_tower_fingerprint_is_of_numbers_and_their_use(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    recall, ranking = check_weights(tiny["recall"]), check_weights(tiny["ranking"])
    assert recall.image_tower_fingerprint != ranking.image_tower_fingerprint
    state = tiny_golden.weights(tiny_golden.ranking_shapes())
    own = tiny_golden.weights(tiny_golden.shapes())
    shared = {k: own.get(k.removeprefix("align_model."), v) if "image_" in k else v for k, v in state.items()}
    save_weights(shared, tmp_path / "r.safetensors")
    cfg = tiny["ranking"].model_copy(update={"weights": WeightsFile(path=str(tmp_path / "r.safetensors"))})
    assert check_weights(cfg).image_tower_fingerprint == recall.image_tower_fingerprint
    other_pixels = cfg.model_copy(update={"image": ImageSpec(size=tiny_golden.SIZE, mean=(0.5, 0.5, 0.5))})
    assert check_weights(other_pixels).image_tower_fingerprint != recall.image_tower_fingerprint
    np.testing.assert_array_equal(
        load_model(cfg).encode_images(tiny_golden.pixels()),
        load_model(tiny["recall"]).encode_images(tiny_golden.pixels()),
    )


def test_wrong_size_setting_names_its_key(tiny: dict[str, ModelConfig]) -> None:
    arch = tiny_golden.ARCH | {"text": tiny_golden.ARCH["text"] | {"layer": 3}}
    with pytest.raises(ConfigError, match=r"arch\.text\.layer"):
        check_weights(tiny["recall"].model_copy(update={"arch": arch}))


def test_what_training_writes_is_what_loading_reads(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = SiamesePoiModel(SiameseArch.model_validate(tiny_golden.RANKING_ARCH)).eval()
    save_weights(ranking_state(model), tmp_path / "r.safetensors")
    save_weights(state_dict_published(model.align_model), tmp_path / "a.safetensors")
    pixels = tiny_golden.pixels()
    x = torch.from_numpy((pixels / 255 - tiny_golden.MEAN) / tiny_golden.STD).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        want = torch.nn.functional.normalize(model.align_model.image_features(x), dim=-1).numpy()
    for kind, file in (("recall", "a"), ("ranking", "r")):
        weights = WeightsFile(path=str(tmp_path / f"{file}.safetensors"))
        got = load_model(tiny[kind].model_copy(update={"weights": weights})).encode_images(pixels)
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_both_towers_learn() -> None:
    model = AlignModel(AlignArch.model_validate(tiny_golden.ARCH))
    images = model.image_features(torch.randn(2, 3, 40, 40))
    texts = model.text_features(torch.tensor([[2, 5, 3], [2, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    (images * texts).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in (model.image_model.features[0][0].weight, model.text_model.embeddings.word_embeddings.weight)
    )


def test_ranking_counts_unknown_pois_but_not_beyond(tiny: dict[str, ModelConfig]) -> None:
    model = load_model(tiny["ranking"])
    vector = model.encode_images(tiny_golden.pixels())[:1]
    one, same, none = (model.rank(vector, ["海边"], [names])[0] for names in ("甲乙", "丙丁", "海边"[:1]))
    assert one == pytest.approx(same, abs=1e-6)  # both unknown letters, both unknown POIs
    assert one != pytest.approx(none, abs=1e-6)
    assert model.rank(vector, ["海边"], [None])[0] == model.rank(vector, ["海边"], [" "])[0]


def test_with_poi_table_leaves_the_model_itself_alone(tiny: dict[str, ModelConfig]) -> None:
    model = load_model(tiny["ranking"])
    vector = model.encode_images(tiny_golden.pixels())[:1]
    before = model.rank(vector, ["海边"], ["山城"])
    table = PoiTable(tiny_golden.DIM, {}, {"山城": np.ones(tiny_golden.DIM, np.float32)}, {})
    other = model.with_poi_table(table)
    assert other.rank(vector, ["海边"], ["山城"]) != before
    assert model.rank(vector, ["海边"], ["山城"]) == before
    with pytest.raises(ConfigError, match="3 wide"):
        model.with_poi_table(PoiTable.empty(3))


def test_ranking_rows_do_not_depend_on_each_other(tiny: dict[str, ModelConfig]) -> None:
    model = load_model(tiny["ranking"])
    count = 600  # more than one pass of the head
    vectors = np.resize(model.encode_images(tiny_golden.pixels()), (count, tiny_golden.DIM))
    titles = [tiny_golden.TEXTS[i % 5] for i in range(count)]
    pois = ["湖,山城" if i % 2 else None for i in range(count)]
    whole = model.rank(vectors, titles, pois)
    for i in (0, 1, 255, 256, 599):
        assert model.rank(vectors[i : i + 1], titles[i : i + 1], pois[i : i + 1])[0] == pytest.approx(
            whole[i], abs=1e-6
        )
    with pytest.raises(ValueError, match="600 images, 5 texts"):
        model.rank(vectors, titles[:5], pois)
