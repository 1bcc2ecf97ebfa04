"""Losses of the recall training against plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aistudio.config import ImageSpec
from aistudio.training.recall import click_loss, masked_info_nce, padded, to_tensor


def test_info_nce_leaves_true_texts_out_of_the_negatives():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(4, 8, generator=generator), dim=-1) for _ in range(2))
    compatible = torch.eye(4, dtype=torch.bool)
    compatible[0, 1] = compatible[2, 3] = True
    logits = (5.0 * images @ texts.T).exp()
    allowed = ~compatible | torch.eye(4, dtype=torch.bool)
    by_image = [-(logits[i, i] / logits[i][allowed[i]].sum()).log() for i in range(4)]
    by_text = [-(logits[j, j] / logits[:, j][allowed[:, j]].sum()).log() for j in range(4)]
    expected = (sum(by_image) / 4 + sum(by_text) / 4) / 2
    assert masked_info_nce(images, texts, torch.tensor(5.0), compatible).item() == pytest.approx(
        float(expected), rel=1e-5
    )


def test_click_loss_pairs_only_within_a_sight():
    scores = torch.tensor([1.0, 0.0, 5.0, -2.0], requires_grad=True)
    sight, clicks = torch.tensor([7, 7, 8, 8]), torch.tensor([3, 1, 2, 2])
    loss = click_loss(scores, sight, clicks)
    assert loss.item() == pytest.approx(float(F.softplus(torch.tensor(-1.0))))
    loss.backward()
    assert scores.grad[2:].abs().sum() == 0


def test_click_loss_without_pairs_is_zero_and_differentiable():
    scores = torch.ones(3, requires_grad=True)
    loss = click_loss(scores, torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3]))
    loss.backward()
    assert loss.item() == 0


def test_to_tensor_normalises_as_the_spec_says():
    spec = ImageSpec(size=8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    pixels = np.full((2, 8, 8, 3), 255, dtype=np.uint8)
    x = to_tensor(pixels, spec)
    assert x.shape == (2, 3, 8, 8) and x.dtype == torch.float32
    assert torch.allclose(x[:, :, 0, 0], torch.tensor([[1.0, 3.0, 1.0]] * 2))


def test_padded_masks_the_padding():
    ids, mask = padded([[2, 5, 3], [2, 3]], pad_id=0)
    assert ids.tolist() == [[2, 5, 3], [2, 3, 0]] and mask.tolist() == [[1, 1, 1], [1, 1, 0]]
