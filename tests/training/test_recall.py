"""The click loss and the padding of the recall training."""

import pytest
import torch
import torch.nn.functional as F

from aistudio.training.recall import click_loss, padded


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


def test_padded_masks_the_padding():
    ids, mask = padded([[2, 5, 3], [2, 3]], pad_id=0)
    assert ids.tolist() == [[2, 5, 3], [2, 3, 0]] and mask.tolist() == [[1, 1, 1], [1, 1, 0]]
