"""The composers' losses against formulas written out in NumPy, and one update: groups, schedule, halved gradient."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aistudio.config import ComposerLossSettings, ModelConfig, WeightsFile
from aistudio.errors import ConfigError
from aistudio.models._composer_parts import ComposerModel
from aistudio.models._words import Vocabulary
from aistudio.training.composer_losses import (
    Triplets,
    Vectors,
    batch_based_classification,
    composer_losses,
    draw_triplets,
    soft_triplet,
    triplets_for,
)
from aistudio.training.composer_model import BUILDERS, fresh_composer, open_trainable, word_tensors
from aistudio.training.composer_step import (
    ComposerBatch,
    ComposerRates,
    backward,
    composer_optimizer,
    gradient_norms,
    parameter_groups,
    without_dropout,
)

WORDS = ["<UNK>", "red", "blue"]


def composer(family: str, own_images: bool = False) -> ComposerModel:
    torch.manual_seed(1)
    cfg = ModelConfig(family=family, name="x", weights=WeightsFile(path="x"), arch={"dim": 12, "text_dim": 8})
    model = fresh_composer(cfg, WORDS)
    if not own_images:
        del model.img_model
    return model


def vectors(size: int = 5) -> Vectors:
    generator = torch.Generator().manual_seed(4)
    return Vectors(*(torch.randn(size, n, generator=generator) for n in (12, 8, 12)))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_triplets_pair_halves_and_never_take_the_own_label(size: int) -> None:
    rows = draw_triplets(size, np.random.RandomState(0)).tolist()
    assert len(rows) == 2 * size * min(3, 2 * (size - 1))
    assert len({tuple(row) for row in rows}) == len(rows)
    for anchor, positive, negative in rows:
        assert positive != anchor and positive % size == anchor % size != negative % size
    with pytest.raises(ValueError, match="at least 2 rows"):
        draw_triplets(1, np.random.RandomState(0))


def test_soft_triplet_is_the_mean_over_squared_distances() -> None:
    v = vectors()
    triplets = draw_triplets(5, np.random.RandomState(1))
    rows = torch.cat([v.source, v.target]).double().numpy()
    wanted = np.mean(
        [
            np.log1p(np.exp(((rows[a] - rows[p]) ** 2).sum() - ((rows[a] - rows[n]) ** 2).sum()))
            for a, p, n in triplets.tolist()
        ]
    )
    for as_published in (True, False):
        found = soft_triplet(v.source.double(), v.target.double(), triplets, as_published)
        assert found.item() == pytest.approx(wanted)


def test_soft_triplet_does_not_overflow() -> None:
    rows = 1e3 * torch.eye(4)
    found = soft_triplet(rows[:2], rows[2:], draw_triplets(2, np.random.RandomState(0)))
    assert torch.isfinite(found)


def test_as_published_halves_the_gradient_and_nothing_else() -> None:
    gradients = []
    for as_published in (True, False):
        source = vectors().source.requires_grad_()
        soft_triplet(source, vectors().target, draw_triplets(5, np.random.RandomState(2)), as_published).backward()
        gradients.append(source.grad)
    torch.testing.assert_close(2 * gradients[0], gradients[1])


def test_classification_is_cross_entropy_of_the_rows() -> None:
    v = vectors()
    logits = (v.source @ v.target.T).double().numpy()
    wanted = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert batch_based_classification(v.source, v.target).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("family", sorted(BUILDERS))
@pytest.mark.parametrize("base", ["soft_triplet", "batch_based_classification"])
def test_total_is_the_weighted_sum(family: str, base: str) -> None:
    model = composer(family).eval()
    settings = ComposerLossSettings(base=base, reconstruction_weight=0.3, rotation_weight=0.7)  # type: ignore[arg-type]
    triplets = triplets_for(model, settings, 5, np.random.RandomState(3))
    found = {name: value.item() for name, value in composer_losses(model, vectors(), settings, triplets).items()}
    names = {"tirg": [], "compose_ae": ["L2_loss", "L2_loss_text", "rot_sym_loss"]}
    assert list(found) == [base, *names.get(family, ["L2_loss", "L2_loss_text"]), "total training loss"]
    weights = {base: 1, "L2_loss": 0.3, "L2_loss_text": 0.3, "rot_sym_loss": 0.7}
    assert found.pop("total training loss") == pytest.approx(sum(weights[n] * v for n, v in found.items()), rel=1e-5)
    if base == "soft_triplet":
        with pytest.raises(ValueError, match="triplets_for"):
            composer_losses(model, vectors(), settings)


def test_rotation_draws_first() -> None:
    model, settings = composer("compose_ae"), ComposerLossSettings(base="soft_triplet")
    found = triplets_for(model, settings, 4, np.random.RandomState(9))
    rng = np.random.RandomState(9)
    assert isinstance(found, Triplets) and found.rot_sym is not None
    assert found.rot_sym.equal(draw_triplets(4, rng)) and found.base.equal(draw_triplets(4, rng))
    assert triplets_for(model, ComposerLossSettings(), 4, rng) is None


def test_targets_of_reconstructions_have_a_gradient() -> None:
    model, v = composer("real_space_concat_ae").eval(), vectors()
    settings = ComposerLossSettings(rotation_weight=0)
    text = v.text.requires_grad_()
    composer_losses(model, Vectors(v.source, text, v.target), settings)["L2_loss_text"].backward()
    decoded = model.mix(v.source, text).text
    assert decoded is not None and text.grad is not None
    assert not torch.allclose(text.grad, torch.zeros_like(text.grad))


def test_groups_are_disjoint_and_complete() -> None:
    model = composer("tirg", own_images=True)
    groups = {g["name"]: g for g in parameter_groups(model, ComposerRates())}
    assert [groups[n]["lr"] for n in ("fc", "image", "rest")] == pytest.approx([1e-2, 1e-3, 1e-2])
    ids = [id(p) for g in groups.values() for p in g["params"]]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids)) == len(list(model.parameters()))
    assert {id(model.a), id(model.normalization_layer.norm_s)} <= {id(p) for p in groups["rest"]["params"]}  # type: ignore[attr-defined]
    assert len(groups["fc"]["params"]) == 2  # type: ignore[arg-type]


def test_the_rate_falls_after_the_update() -> None:
    optimizer, schedule = composer_optimizer(composer("tirg"), ComposerRates(decay_every=2))
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_updates_on_stored_vectors_lower_the_loss(family: str) -> None:
    model = composer(family).train()
    without_dropout(model)
    optimizer, schedule = composer_optimizer(model, ComposerRates())
    v = vectors(8)
    ids, lengths = word_tensors(Vocabulary(WORDS, "x"), ["red", "blue red"] * 4)
    batch = ComposerBatch(v.source, v.target, ids, lengths)
    totals = []
    for _ in range(30):
        totals.append(backward(model, batch, optimizer, ComposerLossSettings())["total training loss"])
        assert gradient_norms(optimizer)["rest"] > 0 == gradient_norms(optimizer)["image"]
        optimizer.step()
        schedule.step()
    assert totals[-1] < 0.5 * totals[0]


def test_texts_without_words_are_named() -> None:
    with pytest.raises(ValueError, match=r"'\?!'"):
        word_tensors(Vocabulary(WORDS, "x"), ["red", "?!"])
    ids, lengths = word_tensors(Vocabulary(WORDS, "x"), ["red", "blue red new"])
    assert ids.tolist() == [[1, 0, 0], [2, 1, 0]] and lengths.tolist() == [1, 3]


def test_other_families_are_refused(tmp_path: Path) -> None:
    cfg = ModelConfig(family="align", name="x", weights=WeightsFile(path="x"))
    with pytest.raises(ConfigError, match="known: tirg, compose_ae, real_space_concat_ae"):
        open_trainable(cfg)
    with pytest.raises(ConfigError, match="vocabulary goes with"):
        fresh_composer(cfg.model_copy(update={"family": "tirg"}), None)
