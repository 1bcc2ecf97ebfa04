"""aistudio/training/triplets.py against loops, the library and golden numbers."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from aistudio.training.triplets import (
    RelevanceTriplets,
    TripletOptions,
    distances,
    triplet_counts,
    triplet_loss,
    wang_loss,
)

GOLDEN = Path(__file__).parents[3] / "shared" / "similar" / "golden" / "losses.json"


def batch(seed, n=14, d=4, classes=5):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(n, d))), torch.tensor(rng.integers(0, classes, n))


def naive(vectors, labels, options):
    """Every triplet in a loop; the losses of those that count."""
    x = vectors.numpy()
    if options.normalise:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)

    def d(i, j):
        return math.dist(x[i], x[j]) ** (2 if options.squared else 1)

    y, n = labels.tolist(), len(labels)
    triplets = [(a, p, q) for a, p, q in itertools.permutations(range(n), 3) if y[a] == y[p] != y[q]]
    if options.mining == "hard":
        anchors = sorted({a for a, _, _ in triplets})
        triplets = [
            (
                a,
                max((p for b, p, _ in triplets if b == a), key=lambda p: d(a, p)),
                min((q for b, _, q in triplets if b == a), key=lambda q: d(a, q)),
            )
            for a in anchors
        ]
    elif options.mining == "semihard":
        triplets = [(a, p, q) for a, p, q in triplets if d(a, p) < d(a, q) <= d(a, p) + options.margin]
    elif options.mining == "violating":
        triplets = [(a, p, q) for a, p, q in triplets if d(a, q) < d(a, p) + options.margin]
    gaps = [d(a, p) - d(a, q) for a, p, q in triplets]
    losses = [math.log1p(math.exp(g)) if options.margin is None else max(0.0, g + options.margin) for g in gaps]
    return [x for x in losses if x > 0] if options.nonzero_mean else losses


@pytest.mark.parametrize("mining", ["all", "hard", "semihard", "violating"])
@pytest.mark.parametrize("seed", range(6))
def test_loss_equals_a_loop(seed, mining):
    vectors, labels = batch(seed)
    for margin, normalise, squared, nonzero in itertools.product(
        (0.2, 1.0, None), (True, False), (True, False), (True, False)
    ):
        if margin is None and mining in ("semihard", "violating"):
            continue
        options = TripletOptions(mining, margin, normalise, squared, nonzero)
        want, found = naive(vectors, labels, options), triplet_loss(vectors, labels, options)
        assert found.loss.item() == pytest.approx(np.mean(want) if want else 0.0, abs=1e-10), options


def test_what_is_logged():
    vectors, labels = batch(3)
    found = triplet_loss(vectors, labels, TripletOptions("all", 0.2))
    losses = naive(vectors, labels, TripletOptions("all", 0.2))
    assert found.num_triplets == len(losses)
    assert found.active_share == pytest.approx(np.mean([x > 0 for x in losses]))
    assert 0 < found.positive_distance < 2 and 0 < found.negative_distance < 2


@pytest.mark.parametrize("mining", ["all", "hard", "semihard"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [1, 1, 1, 1]])
def test_a_batch_without_a_triplet_is_a_zero_with_a_gradient(mining, labels):
    vectors = torch.randn(4, 3, requires_grad=True)
    found = triplet_loss(vectors, torch.tensor(labels), TripletOptions(mining))
    found.loss.backward()
    assert (found.loss.item(), found.num_triplets) == (0.0, 0) and torch.isfinite(vectors.grad).all()


def test_equal_vectors_have_a_finite_gradient_and_the_margin_as_loss():
    vectors = torch.ones(6, 3, requires_grad=True)
    for options, want in ((TripletOptions("hard", 0.3), 0.3), (TripletOptions("all", None), math.log(2))):
        found = triplet_loss(vectors, torch.tensor([0, 0, 0, 1, 1, 1]), options)
        found.loss.backward()
        assert found.loss.item() == pytest.approx(want) and torch.isfinite(vectors.grad).all()


def test_half_precision_vectors_are_compared_in_float32():
    vectors, labels = batch(0)
    low = vectors.to(torch.bfloat16)
    assert distances(low, True, False).dtype == torch.float32
    want = triplet_loss(low.float(), labels, TripletOptions()).loss
    assert torch.equal(triplet_loss(low, labels, TripletOptions()).loss, want)


def test_counts_cover_all_triplets():
    vectors, labels = batch(5)
    counts = triplet_counts(vectors, labels, 0.3)
    assert sum(counts.values()) == triplet_loss(vectors, labels, TripletOptions("all")).num_triplets
    assert counts["num_semihard"] == triplet_loss(vectors, labels, TripletOptions("semihard", 0.3)).num_triplets


def test_golden_gradients_and_hard_indices():
    if not GOLDEN.is_file():
        pytest.skip(f"no golden numbers at {GOLDEN}")
    t = json.loads(GOLDEN.read_text())["triplet"]
    labels = torch.tensor(t["labels"])
    for key, normalise in (("raw", False), ("normalised", True)):
        want = t["expected"][key]["batch_hard"]
        for margin, name in ((0.2, "margin 0.2"), (None, "soft margin")):
            x = torch.tensor(t["embeddings"], dtype=torch.float64, requires_grad=True)
            found = triplet_loss(x, labels, TripletOptions("hard", margin, normalise))
            found.loss.backward()
            assert found.num_triplets == len(want["anchors"])
            assert x.grad.abs().sum().item() == pytest.approx(want[f"{name} gradient L1 norm"])


def test_options_that_cannot_be():
    for wrong in ({"mining": "semihard", "margin": None}, {"margin": -1.0}):
        with pytest.raises(ValueError, match="margin"):
            TripletOptions(**wrong)


def test_wangs_loss_of_cosines():
    q, p, n = torch.randn(3, 9, 5, dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity
    want = torch.relu(2 * (cosine(q, n) - cosine(q, p)) + 0.4)  # squared distances of unit vectors
    torch.testing.assert_close(wang_loss(q, p, n, 0.4), want)


def test_wangs_triplets_follow_relevance():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 6)
    relevance = rng.random((12, 12)) * (label[:, None] == label[None, :])
    np.fill_diagonal(relevance, 0)
    relevance[3] = 0  # relevant to nothing: never a query
    triplets = RelevanceTriplets(relevance, label, cap=0.5, threshold=0.2, out_of_class=0.5)
    drawn = triplets.draw(4000, np.random.default_rng(1))
    query, positive, negative = drawn.T
    assert 3 not in query and (label[query] == label[positive]).all() and (query != positive).all()
    outside = label[negative] != label[query]
    assert 0.4 < outside.mean() < 0.65
    inside = ~outside
    less = relevance[query, positive] - relevance[query, negative]
    assert inside.any() and (less[inside] >= 0.2).all()
    share = np.bincount(query, minlength=12) / len(query)
    np.testing.assert_allclose(share, relevance.sum(1) / relevance.sum(), atol=0.05)
    assert (drawn == triplets.draw(4000, np.random.default_rng(1))).all()
    for wrong, message in ((np.zeros((2, 2)), "no row"), (np.array([[0, 1], [1, 0]]), "negative")):
        with pytest.raises(ValueError, match=message):
            RelevanceTriplets(wrong, np.zeros(2), 1, 0.5).draw(2, rng)
