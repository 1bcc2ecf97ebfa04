"""aistudio/training/vae_loss.py and pair_loss.py against torch.distributions, overflow and golden numbers."""

import json
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence

from aistudio.training import vae_loss as v
from aistudio.training.pair_loss import pair_losses

GOLDEN = Path(__file__).parents[3] / "shared" / "similar" / "golden" / "losses.json"


def example(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    logits, pixels = torch.randn(4, 3, 2, 2, generator=g, dtype=dtype), torch.rand(4, 3, 2, 2, generator=g, dtype=dtype)
    return logits, pixels, torch.randn(4, 5, generator=g, dtype=dtype), torch.randn(4, 5, generator=g, dtype=dtype)


def test_kl_is_the_librarys():
    _, _, mean, log_variance = example()
    want = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(v.kl_divergence(mean, log_variance), want)
    assert v.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["bce", "half_squared_error"])
def test_the_loss_is_a_sum_per_image_and_a_mean_over_the_batch(kind):
    logits, pixels, mean, log_variance = example()
    found = v.vae_loss(logits, pixels, mean, log_variance, 0.5, kind)
    seen = torch.sigmoid(logits)
    each = -(pixels * seen.log() + (1 - pixels) * (1 - seen).log()) if kind == "bce" else 0.5 * (pixels - seen) ** 2
    reconstruction = each.sum() / 4
    torch.testing.assert_close(found.reconstruction, reconstruction)
    torch.testing.assert_close(found.loss, reconstruction + 0.5 * v.kl_divergence(mean, log_variance).mean())
    assert v.vae_loss(logits, pixels, mean, log_variance, 0.0, kind).loss == found.reconstruction


def test_free_bits_do_not_push_below_themselves():
    mean, log_variance = torch.zeros(4, 3, requires_grad=True), torch.zeros(4, 3, requires_grad=True)
    kl = v.free_bits_kl(mean, log_variance + 0.01, 0.5)
    kl.backward()
    assert kl.item() == pytest.approx(1.5) and not log_variance.grad.any()
    _, _, mean, log_variance = example()
    torch.testing.assert_close(v.free_bits_kl(mean, log_variance, 0.0), v.kl_divergence(mean, log_variance).mean())


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[-1000.0, 1000.0]], requires_grad=True)
    loss = v.bce_of_logits(logits, torch.tensor([[1.0, 1.0]])).sum()
    loss.backward()
    assert loss.item() == 1000 and torch.isfinite(logits.grad).all()


def test_beta_warms_up():
    assert [v.beta_at(s, 100, 4.0) for s in (0, 5, 10, 20, 99)] == [0, 1, 2, 4, 4]
    assert v.beta_at(0, 100, 4.0, warm_up_share=0) == 4


def test_pair_losses_depend_on_the_difference_alone_and_do_not_overflow():
    a, b, better = torch.tensor([1.0, 900.0, -900.0]), torch.tensor([0.0, -900.0, 900.0]), torch.tensor([1, 0, 1])
    found = pair_losses(a, b, better)
    torch.testing.assert_close(found, pair_losses(a + 7, b + 7, better))
    assert found[1:].tolist() == [1800, 1800] and found[0].item() == pytest.approx(0.31326, abs=1e-5)


def test_golden_vae():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}")
    g, names = json.loads(GOLDEN.read_text())["vae"], ("x", "reconstruction", "mu", "logvar", "eps")
    x, seen, mu, logvar, eps = (torch.tensor(g[k], dtype=torch.float64) for k in names)
    want, logits = g["expected"], torch.logit(seen)
    cases = [
        (1.0, "bce", "-ELBO, bce"),
        (1.0, "half_squared_error", "-ELBO, half squared error"),
        (4.0, "bce", "beta 4, bce"),
        (0.1, "half_squared_error", "beta 0.1, half squared error"),
    ]
    for beta, kind, name in cases:
        assert v.vae_loss(logits, x, mu, logvar, beta, kind).loss.item() == pytest.approx(want[name])
    bits = next(k for k in want if k.startswith("free bits 0.5"))
    assert v.free_bits_kl(mu, logvar, 0.5).item() == pytest.approx(want[bits])
    z = want["z = mu + exp(logvar / 2) * eps"]
    from aistudio.models.vae import sample

    torch.testing.assert_close(sample(mu, logvar, eps), torch.tensor(z, dtype=torch.float64))
