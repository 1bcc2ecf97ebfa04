"""Combiner and weighted sum on a dual encoder, and BERT texts as bert-as-service pools them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from aistudio.config import ModelConfig, WeightsFile, load_model_config
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import check_weights, load_model
from aistudio.models._checkpoint import save_weights
from aistudio.models._composer_texts import BERT_TOKENS, BertSide
from aistudio.models._encode import LoadOptions
from aistudio.models.combiner import CombinerArch, CombinerModel

ARCH = {"projection": 12, "hidden": 20}
TEXTS = ["one", "two", ""]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def combiner(tiny: dict[str, ModelConfig], path: Path, family: str = "combiner", **arch: float) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "family": family,
            "name": "c",
            "weights": {"path": str(path)},
            "towers": {"base": tiny["recall"]},
            "arch": arch,
        }
    )


def network(dim: int) -> CombinerModel:
    torch.manual_seed(8)
    return CombinerModel(dim, CombinerArch.model_validate(ARCH)).eval()


@pytest.mark.parametrize("published", [True, False])
def test_combiner_is_a_residual_mixture(tiny: dict[str, ModelConfig], tmp_path: Path, published: bool) -> None:
    base = load_model(tiny["recall"])
    net = network(base.dim)
    if published:  # as the paper's code saves it
        torch.save({"epoch": 3, "Combiner": net.state_dict()}, tmp_path / "c.pt")
    else:
        save_weights(net.state_dict(), tmp_path / "c.pt")
    cfg = combiner(tiny, tmp_path / "c.pt", **ARCH)
    model = load_model(cfg)
    assert check_weights(cfg).fingerprint == model.fingerprint and model.normalised
    assert model.image_tower_fingerprint == base.image_tower_fingerprint
    z = unit(np.random.default_rng(0).standard_normal((3, base.dim))).astype(np.float32)
    q = base.encode_texts(TEXTS)
    w = {name: value.double().numpy() for name, value in net.state_dict().items()}
    both = np.concatenate(
        [
            np.maximum(0, x @ w[f"{side}_projection_layer.weight"].T + w[f"{side}_projection_layer.bias"])
            for side, x in (("text", q), ("image", z))
        ],
        axis=1,
    )
    hidden = [np.maximum(0, both @ w[f"{n}.weight"].T + w[f"{n}.bias"]) for n in ("combiner_layer", "dynamic_scalar.0")]
    output = hidden[0] @ w["output_layer.weight"].T + w["output_layer.bias"]
    share = 1 / (1 + np.exp(-(hidden[1] @ w["dynamic_scalar.3.weight"].T + w["dynamic_scalar.3.bias"])))
    np.testing.assert_allclose(model.compose(z, TEXTS), unit(output + share * q + (1 - share) * z), atol=1e-5)


def test_combiner_refuses_other_sizes_and_needs_its_base(tiny: dict[str, ModelConfig], tmp_path: Path) -> None:
    save_weights(network(load_model(tiny["recall"]).dim).state_dict(), tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="wrong shape"):
        check_weights(combiner(tiny, tmp_path / "c.pt", projection=13, hidden=20))
    with pytest.raises(ConfigError, match=r"towers.base is missing"):
        check_weights(combiner(tiny, tmp_path / "c.pt", **ARCH).model_copy(update={"towers": {}}))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_weighted_sum(tiny: dict[str, ModelConfig], weight: float) -> None:
    cfg = ModelConfig.model_validate(
        {"family": "weighted_sum", "name": "w", "towers": {"base": tiny["recall"]}, "arch": {"text_weight": weight}}
    )
    assert cfg.weights == tiny["recall"].weights
    model, base = load_model(cfg), load_model(tiny["recall"])
    z = unit(np.random.default_rng(0).standard_normal((3, base.dim))).astype(np.float32)
    q = base.encode_texts(TEXTS)
    np.testing.assert_allclose(model.compose(z, TEXTS), unit((1 - weight) * z + weight * q), atol=1e-6)
    if weight in (0.0, 1.0):
        np.testing.assert_array_equal(model.compose(z, TEXTS), q if weight else z)
    other = cfg.model_copy(update={"arch": {"text_weight": 0.4}})
    assert check_weights(other).fingerprint != check_weights(cfg).fingerprint == model.fingerprint


def test_towers_in_yaml_are_conf_files(tmp_path: Path) -> None:
    conf = Path(__file__).parents[2] / "conf" / "models"
    text = "family: weighted_sum\nname: own\ntowers: {{base: {}}}\n"
    (tmp_path / "own.yaml").write_text(text.format(conf / "demo_recall.yaml"), encoding="utf-8")
    cfg = load_model_config(tmp_path / "own.yaml")
    assert cfg.towers["base"].name == "demo_recall"
    assert [file.path for file in cfg.files] == ["weights/demo/recall.safetensors"] * 2
    (tmp_path / "loop.yaml").write_text(text.format(tmp_path / "own.yaml"), encoding="utf-8")
    with pytest.raises(ConfigError, match="stands alone"):
        load_model_config(tmp_path / "loop.yaml")
    (tmp_path / "typo.yaml").write_text(text.format(conf / "demo_recal.yaml"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"did you mean .*demo_recall.yaml"):
        load_model_config(tmp_path / "typo.yaml")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "dress", "long", "|", "a"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.4)  # so that layers differ
    model.save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def pooled(folder: Path, ids: list[int], kinds: list[int]) -> np.ndarray:
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(torch.tensor([ids]), token_type_ids=torch.tensor([kinds]), output_hidden_states=True)
    return out.hidden_states[2][0].sum(dim=0).numpy() / (len(ids) + 1e-10)


def test_bert_is_the_mean_of_the_second_to_last_layer(bert: Path) -> None:
    side = BertSide(bert, LoadOptions())
    texts = ["Red DRESS", "long ||| a dress", "red " * 40]
    ids = [[2, 5, 6, 3], [2, 7, 3, 9, 6, 3], [2, *[5] * (BERT_TOKENS - 2), 3]]
    assert side.tokenize(texts) == ids
    kinds = [[0] * 4, [0, 0, 0, 1, 1, 1], [0] * BERT_TOKENS]
    wanted = [pooled(bert, own, kind) for own, kind in zip(ids, kinds, strict=True)]
    np.testing.assert_allclose(side(texts), wanted, atol=1e-5)
    assert side.refusals(["red", " \n", ""]) == [None, "the text is empty", "the text is empty"]
    assert side([]).shape == (0, 16)


def test_bert_rows_do_not_depend_on_neighbours(bert: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["red", "dress", "long", "a", "\ud800"], n)) for n in rng.integers(1, 20, 40)]
    together = BertSide(bert, LoadOptions())(texts)
    apart = np.concatenate([BertSide(bert, LoadOptions())(texts[i : i + 1]) for i in (0, 17, 39)])
    np.testing.assert_array_equal(together[[0, 17, 39]], apart)


def test_a_composer_with_bert(bert: Path, tmp_path: Path, tiny: dict[str, ModelConfig]) -> None:
    from aistudio.models._composer_open import save_composer
    from aistudio.training.composer_model import fresh_composer

    dim = load_model(tiny["recall"]).dim
    cfg = ModelConfig(
        family="tirg",
        name="with_bert",
        weights=WeightsFile(path=str(tmp_path / "t.safetensors")),
        tokenizer=str(bert),
        towers={"image": tiny["recall"]},
        arch={"dim": dim, "text_dim": 16, "text": "bert"},
    )
    save_composer(fresh_composer(cfg, None), tmp_path / "t.safetensors", None)
    z = np.ones((3, dim), np.float32)
    found = load_model(cfg).compose(z, ["red", "", "a dress"])
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False]
    assert any(path.endswith("vocab.txt") for path in check_weights(cfg).files)
    with pytest.raises(ConfigError, match="the folder of a BERT"):
        check_weights(cfg.model_copy(update={"tokenizer": None}))
