"""On a CPU in float32 no row feels its neighbours: the same bytes alone, in any batch, order and number of threads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from aistudio.config import ModelConfig, load_model_config
from aistudio.models import load_model, load_ranking
from aistudio.models._encode import BoundedCache, LoadOptions, Padding, TextEncoder
from aistudio.models._exact import FLOAT64_BITS, ExactDice, ExactLinear, on_grid
from aistudio.poi_table import PoiTable
from tests.models import test_hf_dual, tiny_golden

BATCHES = (1, 2, 7, 16, 33)
ROOT = Path(__file__).parents[2]
LETTERS = "海边日落山城古寺"


@pytest.fixture(scope="module")
def demo() -> dict[str, ModelConfig]:
    found = {kind: load_model_config(ROOT / f"conf/models/demo_{kind}.yaml") for kind in ("recall", "ranking")}
    here = {"tokenizer": str(ROOT / "weights/demo")}
    return {
        kind: cfg.model_copy(
            update=here | {"weights": cfg.weights.model_copy(update={"path": str(ROOT / cfg.weights.path)})}
        )
        for kind, cfg in found.items()
    }


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelConfig]:
    torch.manual_seed(2)
    made = {}
    for kind, (save, arch) in test_hf_dual.KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        save(folder)
        made[kind] = test_hf_dual.conf(folder, **arch)
    return made


@pytest.fixture(params=["tiny", "demo", "clip", "chinese_clip", "siglip"])
def recall(
    request: pytest.FixtureRequest,
    tiny: dict[str, ModelConfig],
    demo: dict[str, ModelConfig],
    hf: dict[str, ModelConfig],
) -> ModelConfig:
    return {"tiny": tiny["recall"], "demo": demo["recall"], **hf}[request.param]


def texts_of(count: int, seed: int = 0) -> list[str]:
    """Distinct texts of 0 to 40 characters, longer than some models take."""
    rng = np.random.default_rng(seed)
    texts = ["", "海", *("".join(rng.choice(list(LETTERS), rng.integers(1, 40))) for _ in range(count * 2))]
    return list(dict.fromkeys(texts))[:count]


def in_batches(call: Callable[[list[Any]], np.ndarray], rows: list[Any], size: int, seed: int) -> np.ndarray:
    """Results in the order of `rows`, asked for shuffled and `size` at a time."""
    order = np.random.default_rng(seed).permutation(len(rows))
    parts = [call([rows[i] for i in order[start : start + size]]) for start in range(0, len(rows), size)]
    return np.concatenate(parts)[np.argsort(order)]


def forget(model: Any) -> None:
    """Empty the model's caches, so that the next call computes."""
    for encoder in (model._texts, model._images):
        encoder._cache = BoundedCache(1000)


def test_texts_are_the_same_bytes_in_every_batch(recall: ModelConfig) -> None:
    texts, model = texts_of(34), load_model(recall)
    whole = model.encode_texts(texts)
    assert model.encode_texts(texts[::-1])[::-1].tobytes() == whole.tobytes()  # remembered
    for size in BATCHES:
        forget(model)
        assert in_batches(model.encode_texts, texts, size, seed=size).tobytes() == whole.tobytes(), size
    assert load_model(recall).encode_texts(texts[5:6]).tobytes() == whole[5:6].tobytes()  # the first of its process


def test_images_are_the_same_bytes_in_every_batch(recall: ModelConfig) -> None:
    model = load_model(recall)
    side = model.image_spec.size
    images = list(np.random.default_rng(1).integers(0, 256, (18, side, side, 3), dtype=np.uint8))
    whole = model.encode_images(np.stack(images))
    for size in BATCHES:
        forget(model)
        got = in_batches(lambda some: model.encode_images(np.stack(some)), images, size, seed=size)
        assert got.tobytes() == whole.tobytes(), size


def test_the_number_of_threads_changes_no_byte(recall: ModelConfig) -> None:
    texts, found = texts_of(9), []
    size = load_model(recall).image_spec.size
    pixels = np.random.default_rng(4).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    before = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        model = load_model(recall)
        found.append(model.encode_texts(texts).tobytes() + model.encode_images(pixels).tobytes())
        assert torch.get_num_threads() == count  # the caller's own setting is left alone
    torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.fixture(params=["tiny", "demo"])
def ranking(request: pytest.FixtureRequest, tiny: dict[str, ModelConfig], demo: dict[str, ModelConfig]) -> ModelConfig:
    return {"tiny": tiny, "demo": demo}[request.param]["ranking"]


def rank_rows(dim: int, count: int) -> list[tuple[np.ndarray, str, str | None]]:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pois = [None, "", "海", "海边", "山城,古寺", "山城,山城,没有", "日,落,山,城,古,寺,海边"]
    return [(v, texts_of(9)[i % 9], pois[rng.integers(len(pois))]) for i, v in enumerate(vectors)]


def table_of(dim: int) -> PoiTable:
    rng = np.random.default_rng(6)
    names = ["海边", "山城", "古寺", "日", "落"]
    vectors = [dict(zip(names, rng.normal(size=(5, dim)).astype(np.float32), strict=True)) for _ in range(2)]
    return PoiTable(dim, {name: (i, 1, 2) for i, name in enumerate(names)}, *vectors)


def test_rank_scores_are_the_same_bytes_in_every_batch(ranking: ModelConfig) -> None:
    model = load_model(ranking)
    table = table_of(model.dim)
    model = model.with_poi_table(table)
    rows = rank_rows(table.dim, 400)  # more than one pass of the head

    def score(some: list[tuple[np.ndarray, str, str | None]]) -> np.ndarray:
        vectors, texts, pois = zip(*some, strict=True)
        return model.rank(np.stack(vectors), texts, pois)

    whole = score(rows)
    assert len(np.unique(whole)) == 400
    some = list(range(0, 400, 12))
    for size in BATCHES:
        forget(model)
        model = model.with_poi_table(table)  # which forgets the items' POIs
        got = in_batches(score, [rows[i] for i in some], size, seed=size)
        assert got.tobytes() == whole[some].tobytes(), size


def test_exact_head_is_the_modules_score(ranking: ModelConfig) -> None:
    """Against the module that training uses, in float64: closer than float32 itself comes."""
    model = load_ranking(ranking, table_of(load_model(ranking).dim))
    rows = rank_rows(model.dim, 120)
    vectors, texts, pois = zip(*rows, strict=True)
    got = model.rank(np.stack(vectors), texts, pois)
    model._exact, single = None, model._head
    float32 = model.rank(np.stack(vectors), texts, pois)
    model._head = single.double()
    model._score = lambda images, features, items: (
        model._head.score(
            torch.from_numpy(images).double(),
            torch.from_numpy(features).double(),
            torch.from_numpy(np.stack([p.pictures for p in items])).double(),
            torch.from_numpy(np.stack([p.names for p in items])).double(),
            torch.tensor([p.count for p in items]),
        )
    ).numpy()
    want = model.rank(np.stack(vectors), texts, pois)
    scale = np.abs(want).max()
    np.testing.assert_allclose(got, want, atol=2e-6 * max(scale, 1))
    np.testing.assert_allclose(float32, want, atol=2e-5 * max(scale, 1))


NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (7, 33), elements=NUMBERS), st.permutations(range(7)), st.permutations(range(33)))
def test_exact_sums_do_not_depend_on_order(x: np.ndarray, rows: list[int], terms: list[int]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(33, 5)
    exact = ExactLinear(layer)
    whole = exact(x.astype(np.float64))
    again = np.stack([exact(x[i : i + 1].astype(np.float64))[0] for i in rows])
    assert whole[rows].tobytes() == again.tobytes()
    turned = nn.Linear(33, 5)
    turned.weight.data, turned.bias.data = layer.weight.data[:, terms], layer.bias.data
    assert ExactLinear(turned)(x[:, terms].astype(np.float64)).tobytes() == whole.tobytes()
    size = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    want = x.astype(np.float64) @ layer.weight.detach().numpy().T.astype(np.float64) + layer.bias.detach().numpy()
    assert (np.abs(whole - want) <= 33 * size * 2.0**-21 + 1e-300).all()


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, (4, 9), elements=NUMBERS), st.integers(4, 26))
def test_numbers_on_a_grid_are_integers_of_that_many_bits(x: np.ndarray, bits: int) -> None:
    got = on_grid(x, bits)
    step = np.ldexp(1.0, np.frexp(np.abs(x).max(axis=1, keepdims=True))[1] - bits)
    assert (got / step == np.rint(got / step)).all()
    assert (np.abs(got / step) <= 2**bits).all()
    assert (np.abs(got - x) <= step / 2).all()


def test_a_sum_fits_into_float64_whatever_the_width() -> None:
    for width in (1, 2, 3, 64, 384, 1536, 2048, 2049):
        bits = ExactLinear(nn.Linear(width, 1))._bits
        assert width * 2 ** (2 * bits) <= 2**FLOAT64_BITS
        assert bits >= 20


def test_dice_is_the_modules_and_does_not_overflow() -> None:
    norm = nn.BatchNorm1d(3).eval()
    norm.running_mean, norm.running_var = torch.tensor([1.0, -2.0, 0.0]), torch.tensor([4.0, 0.25, 1.0])
    x = np.array([[0.5, -1.0, -1e4], [3.0, 2.0, 1e4], [0, 0, 0]])
    want = torch.sigmoid(norm.double()(torch.from_numpy(x))) * torch.from_numpy(x)
    np.testing.assert_allclose(ExactDice(norm)(x), want.detach().numpy(), atol=1e-12)


def test_a_row_that_is_not_a_number_stays_alone() -> None:
    x = np.ones((3, 8))
    x[1, 2] = np.nan
    got = ExactLinear(nn.Linear(8, 4))(x)
    assert np.isfinite(got[[0, 2]]).all() and np.isnan(got[1]).all()


def test_a_text_that_breaks_the_tower_is_an_exception_here() -> None:
    class Picky(nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            if (ids == 3).any():
                raise RuntimeError("three characters")
            return ids.float()[:, :1] + 1

    encoder = TextEncoder(lambda texts: [[len(t)] * len(t) for t in texts], Picky(), 1, LoadOptions(), Padding(0, 9))
    assert encoder(["ab", "abcd"]).shape == (2, 1)
    with pytest.raises(RuntimeError, match="three characters"):
        encoder(["ab", "abc", "x"])
    assert encoder(["x"]).shape == (1, 1)


def test_tiny_texts_have_the_lengths_that_matter(tiny: dict[str, ModelConfig]) -> None:
    lengths = {len(ids) for ids in load_model(tiny["recall"]).tokenize(texts_of(34))}
    assert len(lengths) > 3 and tiny_golden.ARCH["text"]["max_tokens"] in lengths
