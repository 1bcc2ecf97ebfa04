"""Every family keeps its contract: shapes, types, unit rows, no images at all, a batch equal to its rows one by one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from aistudio.config import ModelConfig
from aistudio.errors import ConfigError
from aistudio.models import (
    Kind,
    check_weights,
    families,
    kind,
    load_composer,
    load_model,
    load_ranking,
    load_recall,
    require_kind,
)
from tests.models.tiny_families import BUILDERS

TEXTS = ["西湖 sunset", "a", "the wall in the snow, seen from far away", "a"]
LOADERS = {Kind.RECALL: load_recall, Kind.RANKING: load_ranking, Kind.COMPOSER: load_composer}


@dataclass
class Tiny:
    cfg: ModelConfig
    kind: Kind
    model: Any


@pytest.fixture(scope="module", params=families())
def tiny(request, tmp_path_factory) -> Tiny:
    assert request.param in BUILDERS, f"tests/models/tiny_families.py has no builder for family {request.param}"
    cfg = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return Tiny(cfg, kind(cfg), load_model(cfg))


def only(tiny: Tiny, *kinds: Kind) -> Any:
    if tiny.kind not in kinds:
        pytest.skip(f"{tiny.cfg.family} is of the kind {tiny.kind}")
    return tiny.model


def pictures(num: int, size: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def same_rows(call, num: int) -> np.ndarray:
    """The result for all rows at once, which must equal that of its rows in any company, bit for bit."""
    whole = call(np.arange(num))
    for part in ([0], [num - 1, 0], list(range(num))[::-1], [1, 1, 1]):
        assert call(np.array(part)).tobytes() == whole[part].tobytes(), part
    return whole


def vectors_of(model: Any, num: int = 5) -> np.ndarray:
    return model.encode_images(pictures(num, model.image_spec.size))


def check_vectors(vectors: np.ndarray, num: int, dim: int, normalised: bool) -> None:
    assert vectors.shape == (num, dim) and vectors.dtype == np.float32 and np.isfinite(vectors).all()
    if normalised:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_images(tiny: Tiny) -> None:
    model = tiny.model
    pixels = pictures(5, model.image_spec.size)
    vectors = same_rows(lambda rows: model.encode_images(pixels[rows]), 5)
    check_vectors(vectors, 5, model.dim, model.normalised)
    check_vectors(model.encode_images(pixels[:0]), 0, model.dim, model.normalised)
    assert not np.array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("wrong", ["float", "size", "grey"])
def test_other_pixels_are_refused(tiny: Tiny, wrong: str) -> None:
    pixels = pictures(2, tiny.model.image_spec.size)
    pixels = {"float": pixels.astype(np.float32), "size": pixels[:, 1:], "grey": pixels[..., :1]}[wrong]
    with pytest.raises(ValueError, match="expected uint8"):
        tiny.model.encode_images(pixels)


def test_what_a_check_says_is_what_the_model_is(tiny: Tiny) -> None:
    info, model = check_weights(tiny.cfg), tiny.model
    assert (info.fingerprint, info.dim, info.image_spec) == (model.fingerprint, model.dim, model.image_spec)
    assert info.normalised == model.normalised and info.files
    assert info.num_parameters > 0 or tiny.cfg.towers  # its numbers may all be its towers'
    assert info.image_tower_fingerprint in (None, model.image_tower_fingerprint)
    assert load_model(tiny.cfg).fingerprint == model.fingerprint


def test_texts(tiny: Tiny) -> None:
    model = only(tiny, Kind.RECALL, Kind.RANKING)
    vectors = same_rows(lambda rows: model.encode_texts([TEXTS[i] for i in rows]), len(TEXTS))
    check_vectors(vectors, len(TEXTS), model.dim, True)
    check_vectors(model.encode_texts([]), 0, model.dim, True)
    check_vectors(model.encode_texts([""]), 1, model.dim, True)


def test_ranking(tiny: Tiny) -> None:
    model = only(tiny, Kind.RANKING)
    vectors, names = vectors_of(model, len(TEXTS)), [None, "西湖", "", "a,b"]

    def rank(rows: np.ndarray) -> np.ndarray:
        return model.rank(vectors[rows], [TEXTS[i] for i in rows], [names[i] for i in rows])

    scores = same_rows(rank, len(TEXTS))
    assert scores.shape == (len(TEXTS),) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert rank(np.arange(0)).shape == (0,)


def test_composing(tiny: Tiny) -> None:
    model = only(tiny, Kind.COMPOSER)
    vectors = vectors_of(model, len(TEXTS))
    composed = same_rows(lambda rows: model.compose(vectors[rows], [TEXTS[i] for i in rows]), len(TEXTS))
    check_vectors(composed, len(TEXTS), model.dim, False)
    check_vectors(model.compose(vectors[:0], []), 0, model.dim, False)
    assert not np.array_equal(composed[0], model.compose(vectors[:1], ["another text"])[0])


def test_the_typed_loaders_refuse_other_kinds(tiny: Tiny) -> None:
    for wanted, load in LOADERS.items():
        if wanted is tiny.kind:
            assert load(tiny.cfg).fingerprint == tiny.model.fingerprint
        else:
            with pytest.raises(ConfigError, match=f"is of the kind {tiny.kind}, not a {wanted}"):
                load(tiny.cfg)


def test_a_setting_that_wants_another_kind_says_so(tiny: Tiny) -> None:
    require_kind(tiny.cfg, "models.encoders.look")  # every family is an image encoder
    for setting, wanted in (("models.recall", Kind.RECALL), ("models.ranking", Kind.RANKING)):
        if wanted is not tiny.kind:
            with pytest.raises(ConfigError, match=rf"{setting}: tiny.* is a model of the kind {tiny.kind}, expected a"):
                require_kind(tiny.cfg, setting)
