"""The ranking training against a float64 twin written from the published equations."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aistudio.store import open_store
from aistudio.training import layout, programs
from aistudio.training.checkpoints import Checkpoints
from aistudio.training.history import History
from aistudio.training.loop import Loop
from aistudio.training.pair_loss import pair_losses
from aistudio.training.team import Team
from tests.training import tiny_training as tiny

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "similar" / "golden" / "losses.json"
CPU = torch.device("cpu")


def test_pair_losses_are_the_golden_ones():
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN} is not here")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["pairs"]
    arguments = (torch.tensor(golden[k], dtype=torch.float64) for k in ("score_a", "score_b", "label_a_better"))
    np.testing.assert_allclose(pair_losses(*arguments).numpy(), golden["expected"]["per_pair"], rtol=1e-6, atol=1e-6)


class Twin:
    """The head in float64 NumPy-like torch, written from the equations: no module, no autocast, no optimiser class."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        names = [n for n in state if not n.startswith("align_model.") and "running" not in n and "num_b" not in n]
        self.p = {n: state[n].double().clone().requires_grad_(True) for n in names}
        self.moments = {n: (torch.zeros_like(v), torch.zeros_like(v)) for n, v in self.p.items()}
        self.step = 0

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.p[f"{name}.weight"].T + self.p[f"{name}.bias"]

    def score(self, image, text, pictures, names, count):
        keys = self.linear("linear1", torch.cat([pictures, names], -1))
        q = image[:, None].expand_as(keys)
        x = self.linear("attention_in", torch.cat([q, keys, q - keys, q * keys], -1))
        flat = x.reshape(-1, x.shape[-1])
        mean, variance = flat.mean(0), flat.var(0, unbiased=False)
        normed = (x - mean) / (variance + 1e-9).sqrt() * self.p["dice_bn.weight"] + self.p["dice_bn.bias"]
        x = x / (1 + (-normed).exp())
        weight = self.linear("attention_out", self.linear("attention_mid", x)).squeeze(-1)
        inside = (torch.arange(keys.shape[1])[None] < count[:, None]).double()
        attended = ((weight * inside)[..., None] * keys).sum(1)
        hidden = self.linear("linear3", torch.cat([image, text, attended], -1)).clamp(min=0)
        return self.linear("linear2", self.linear("linear4", hidden).clamp(min=0)).squeeze(-1)

    def update(self, batch, pois, rate: float, decay: float = 0.05, clip: float = 1.0, adam: bool = True) -> float:
        num = len(batch.label)
        pictures, names = (torch.from_numpy(x).double()[batch.poi] for x in (pois.pictures, pois.names))
        twice = [torch.cat([x, x]) for x in (batch.texts.double(), pictures, names, batch.num_pois)]
        both = self.score(batch.images.double(), *twice)
        difference = both[:num] - both[num:]
        label = batch.label.double()
        probability = 1 / (1 + (-difference).exp())
        loss = -(label * probability.log() + (1 - label) * (1 - probability).log()).mean()
        gradients = dict(zip(self.p, torch.autograd.grad(loss, list(self.p.values())), strict=True))
        norm = sum(g.square().sum() for g in gradients.values()) ** 0.5
        scale = min(1.0, float(clip / (norm + 1e-6)))
        self.step += 1
        for name, value in self.p.items():
            g, (m, v) = gradients[name] * scale, self.moments[name]
            with torch.no_grad():
                if not adam:
                    m.mul_(0.9).add_(g + decay * value)
                    value -= rate * m
                    continue
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                value *= 1 - rate * decay
                value -= rate * (m / (1 - 0.9**self.step)) / ((v / (1 - 0.999**self.step)).sqrt() + 1e-8)
        return float(loss.detach())


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_20_updates_equal_a_float64_twin(name, tmp_path):
    """Warm-up, cosine, optimiser, clipping, Dice, POI attention and the loss on score differences, all at once.

    AdamW divides a gradient by its own size, so that the rounding of a gradient that is nearly zero moves a weight as
    far as any other: its losses are compared, and the weights of SGD.
    """
    rate, steps, warm = {"adamw": 1e-3, "sgd": 1e-1}[name], 20, 4
    optimiser = {"name": name, "learning_rate": rate}
    conf = tiny.ranking(tmp_path, epochs=None, steps=steps, batch_size=16, optimiser=optimiser, log_every_steps=1)
    settings = tiny.parsed(conf | {"schedule": {"warmup_share": warm / steps}})
    setup = programs.set_up(settings, Team(), CPU, print)
    task = setup.task
    task.train_mode()
    twin = Twin(task.module.state_dict())
    task.validate = lambda: {"pairwise_accuracy": 0.5}  # of the loop's last update; not looked at here
    store = open_store(settings.output)
    history = History(store)
    Loop(task, settings, Checkpoints(store, 1, "f"), history, Team()).run()
    sampler, losses = task.batches(), []
    while len(losses) < steps:
        for rows in sampler:
            update = len(losses)
            if update == steps:
                break
            cosine = 0.5 * (1 + np.cos(np.pi * (update - warm) / (steps - 1 - warm)))
            factor = (update + 1) / warm if update < warm else cosine
            batch = task.load(rows, 0)
            losses.append(twin.update(batch, task.data.pois, rate * factor, adam=name == "adamw"))
    np.testing.assert_allclose([value for _, value in history.series("train/loss")], losses, rtol=0, atol=1e-6)
    assert max(losses) - min(losses) > 1e-3
    state = task.module.state_dict()
    for key, value in twin.p.items() if name == "sgd" else ():
        np.testing.assert_allclose(state[key].numpy(), value.detach().numpy(), rtol=0, atol=1e-6, err_msg=key)


def test_frozen_towers_stay_as_they_are_and_in_eval_mode(tmp_path):
    settings = tiny.parsed(tiny.ranking(tmp_path, epochs=1))
    setup = programs.set_up(settings, Team(), CPU, print)
    before = {n: t.clone() for n, t in setup.task.module.align_model.state_dict().items()}
    setup.task.train_mode()
    assert setup.task.module.dice_bn.training and not setup.task.module.align_model.image_model.training
    programs.train(settings, Team(), print, "-")
    trained = programs.set_up(settings, Team(), CPU, print).task.module.align_model.state_dict()
    assert all(torch.equal(trained[n], t) for n, t in before.items())


def test_equal_rates_are_judged_but_not_trained_on(tmp_path):
    ties = {"ctr": lambda pair, side: 0.5 if pair % 3 == 0 else (0.4 if (side == "a") == (pair % 2 == 0) else 0.6)}
    tiny.write_model(tmp_path / "model", "siamese_poi")
    tiny.write_pairs_run(tmp_path / "train_run", 12, 60, seed=1, **ties)
    tiny.write_pairs_run(tmp_path / "val_run", 12, 30, seed=2, **ties)
    setup = programs.set_up(tiny.parsed(tiny.ranking(tmp_path)), Team(), CPU, print)
    assert setup.counts["pairs"]["train"] == 40 and setup.counts["pairs"]["validation"] == 30
    assert setup.counts["pairs"]["left_out"]["train"] == {"both click rates are equal": 20}


def test_a_liked_direction_is_learned_and_the_training_says_so(tmp_path):
    tiny.write_model(tmp_path / "model", "siamese_poi")
    tiny.write_pairs_run(tmp_path / "train_run", 12, 400, seed=1)
    tiny.write_pairs_run(tmp_path / "val_run", 12, 100, seed=2)
    data = tiny.ranking(
        tmp_path, epochs=30, batch_size=32, optimiser={"learning_rate": 1e-2}, log_every_steps=50,
        validation={"every_epochs": 30}, init_head="random",
    )  # fmt: skip
    found = programs.train(tiny.parsed(data), Team(), print, "-").record
    assert found["best"]["metrics"]["pairwise_accuracy"] > 0.8
    store = open_store(data["output"])
    card = store.read_bytes(layout.export_key("card.md")).decode()
    assert f"{found['best']['metrics']['pairwise_accuracy']:.6f}" in card and "400" in card
    page = store.read_bytes(layout.report_key("index.html")).decode()
    assert "Worst validation cases" in page and "pairwise_accuracy" in page
