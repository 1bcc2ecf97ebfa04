"""Batches, neighbours, repeats and precision do not change a row."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from aistudio.config import ImageSpec, ModelConfig
from aistudio.errors import ConfigError
from aistudio.models import load_model
from aistudio.models._encode import BoundedCache, ImageRunner, LoadOptions
from aistudio.models._lookup import lookup_in
from tests.models import tiny_golden


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    size = tiny_golden.SIZE
    return np.random.default_rng(0).integers(0, 256, (11, size, size, 3), dtype=np.uint8)


def test_batch_size_and_order_change_nothing(tiny: dict[str, ModelConfig], images: np.ndarray) -> None:
    whole = load_model(tiny["recall"]).encode_images(images)
    one_by_one = load_model(tiny["recall"])
    np.testing.assert_allclose(np.concatenate([one_by_one.encode_images(i[None]) for i in images]), whole, atol=2e-6)
    backwards = load_model(tiny["recall"]).encode_images(np.ascontiguousarray(images[::-1]))
    np.testing.assert_allclose(backwards[::-1], whole, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


def test_equal_pixels_get_the_very_same_vector(tiny: dict[str, ModelConfig], images: np.ndarray) -> None:
    model = load_model(tiny["recall"])
    rows = model.encode_images(images[[0, 1, 2, 0, 3, 4, 0]])
    assert (rows[0] == rows[3]).all()
    assert (rows[0] == rows[6]).all()
    assert (model.encode_images(images[[5, 0]])[1] == rows[0]).all()
    assert not (rows[1] == rows[0]).all()


def test_texts_do_not_notice_their_neighbours(tiny: dict[str, ModelConfig]) -> None:
    texts = ["海", "海边日落山城古寺", "", "山城的日落", "海"]
    together = load_model(tiny["recall"]).encode_texts(texts)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(load_model(tiny["recall"]).encode_texts([text])[0], row, atol=1e-6)
    assert (together[0] == together[4]).all()


def test_nothing_in_nothing_out(tiny: dict[str, ModelConfig], images: np.ndarray) -> None:
    recall, ranking = load_model(tiny["recall"]), load_model(tiny["ranking"])
    assert recall.encode_images(images[:0]).shape == (0, tiny_golden.DIM)
    assert recall.encode_texts([]).shape == (0, tiny_golden.DIM)
    assert recall.tokenize([]) == []
    assert ranking.rank(np.empty((0, tiny_golden.DIM), np.float32), [], []).shape == (0,)


def test_wrong_pixels_are_refused(tiny: dict[str, ModelConfig], images: np.ndarray) -> None:
    model = load_model(tiny["recall"])
    for wrong in (images.astype(np.float32), images[:, :-1], images[0]):
        with pytest.raises(ValueError, match="expected uint8"):
            model.encode_images(wrong)


def test_read_only_pixels_are_taken(tiny: dict[str, ModelConfig], images: np.ndarray) -> None:
    frozen = images.copy()
    frozen.setflags(write=False)
    model = load_model(tiny["recall"])
    np.testing.assert_array_equal(model.encode_images(frozen), model.encode_images(images))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_stays_near_and_gives_float32(
    tiny: dict[str, ModelConfig], images: np.ndarray, precision: str
) -> None:
    low, full = load_model(tiny["recall"], precision=precision), load_model(tiny["recall"])
    for got, want in (
        (low.encode_images(images), full.encode_images(images)),
        (low.encode_texts(tiny_golden.TEXTS), full.encode_texts(tiny_golden.TEXTS)),
    ):
        assert got.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        assert ((got * want).sum(1) > 0.995).all()
        assert (got != want).any()


def test_unknown_precision(tiny: dict[str, ModelConfig]) -> None:
    with pytest.raises(ConfigError, match="precision 'int3' is not known"):
        load_model(tiny["recall"], precision="int3")


def test_normalised_pixels_equal_the_reference_formula(images: np.ndarray) -> None:
    import torch

    spec = ImageSpec(size=tiny_golden.SIZE)
    encoder = ImageRunner(torch.nn.Flatten(), spec, 3, LoadOptions())
    want = ((images / 255 - np.array(spec.mean)) / np.array(spec.std)).transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(encoder.normalise(images).numpy(), want)


def test_cache_is_bounded_and_keeps_the_recently_used() -> None:
    asked: list[list[int]] = []

    def compute(keys: list[int]) -> list[int]:
        asked.append(keys)
        return [key * 10 for key in keys]

    cache: BoundedCache[int, int] = BoundedCache(2)
    assert cache.get_many([1, 2, 1], compute) == [10, 20, 10]
    assert cache.get_many([1, 3], compute) == [10, 30]  # 2 goes, 1 was used
    assert cache.get_many([1], compute) == [10]
    assert cache.get_many([2, 5, 6, 7], compute) == [20, 50, 60, 70]  # more at once than it keeps
    assert asked == [[1, 2], [3], [2, 5, 6, 7]]
    assert len(cache) == 2


def test_what_shows_how_others_were_computed_is_computed_again_with_or_after_them_and_not_for_nothing() -> None:
    asked: list[list[int]] = []

    def compute(keys: list[int]) -> list[int]:
        asked.append(keys)
        return [len(asked)] * len(keys)

    cache: BoundedCache[int, int] = BoundedCache(10, again={0, 9})
    assert cache.get_many([1, 0], compute) == [1, 1]
    assert cache.get_many([1, 0], compute) == [1, 1]  # nothing was computed, so there is nothing to show
    assert cache.get_many([0, 2, 1], compute) == [2, 2, 1]
    assert cache.get_many([3], compute) == [3]
    assert cache.get_many([0, 1], compute) == [4, 1]  # after others, without them
    assert cache.get_many([9], compute) == [5]  # a second one of the kind makes the first no older
    assert cache.get_many([9, 0], compute) == [5, 4]
    assert asked == [[1, 0], [0, 2], [3], [0], [9]]

    def fail(keys: list[int]) -> list[int]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        cache.get_many([4, 0], fail)
    assert cache.get_many([0], compute) == [6]  # who knows what was computed


def test_a_vector_that_is_not_finite_is_not_remembered() -> None:
    """Asked for again it shows whose fault it was: the picture's, or the worker's."""
    import torch

    calls = []

    class Flaky(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return x.flatten(1)[:, :3] * (float("nan") if len(calls) == 1 else 1.0)

    encoder = ImageRunner(Flaky(), ImageSpec(size=8), 3, LoadOptions(optimize=False))
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(1, 8, 8, 3)
    assert np.isnan(encoder(pixels)).all()
    assert np.isfinite(encoder(pixels)).all() and np.isfinite(encoder(pixels)).all()
    assert len(calls) == 2


def test_tower_and_pixels_are_channels_last() -> None:
    import torch

    seen = []
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    encoder = ImageRunner(tower, ImageSpec(size=8), 4, LoadOptions(optimize=False))
    encoder._tower.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    encoder(pixels)
    encoder._forward(encoder._normalised(torch.from_numpy(pixels)))  # as on a GPU
    for x in (*seen, tower[0].weight):
        assert x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    assert torch.equal(torch.cat(seen[:2]), seen[2])  # on a CPU one at a time


def test_compile_goes_through_torchs_compiler_and_changes_nothing(
    tiny: dict[str, ModelConfig], images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward  # inductor itself takes half a minute

    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_(module, backend=backend))
    plain = load_model(tiny["recall"]).encode_images(images)
    assert not graphs
    np.testing.assert_allclose(load_model(tiny["recall"], compile=True).encode_images(images), plain, atol=1e-6)
    assert graphs


def test_bytes_are_looked_up_exactly_with_and_without_opencv(monkeypatch):
    table = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    pixels.flags.writeable = False  # as Arrow gives them
    want = np.stack([table.numpy()[c][pixels[..., c]] for c in range(3)], axis=-1)
    assert (lookup_in(table)(pixels).numpy() == want).all()
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert (lookup_in(table)(pixels).numpy() == want).all()
