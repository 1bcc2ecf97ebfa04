"""The text tower against transformers' BertModel: the same names, the same vectors, the same gradients' reach."""

import pytest
import torch
import transformers

from aistudio.models._bert import INITIAL_STD, BertTower, TextArch, build_text_tower

ARCH = TextArch(hidden=24, layers=3, heads=4, intermediate=40, vocab_size=60, max_tokens=12, max_positions=16)


@pytest.fixture
def theirs() -> transformers.BertModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return model


@pytest.fixture
def ours(theirs: transformers.BertModel) -> BertTower:
    tower = build_text_tower(ARCH).eval()
    tower.load_state_dict(theirs.state_dict())  # strict: names and shapes are BertModel's
    return tower


def test_first_tokens_are_bert_models(theirs: transformers.BertModel, ours: BertTower) -> None:
    ids = torch.randint(1, 60, (5, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [1], [4], [8], [2]])).long()
    with torch.inference_mode():
        want = theirs(input_ids=ids * mask, attention_mask=mask).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(ids * mask, mask), want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            ours(ids, torch.ones_like(ids)), theirs(input_ids=ids).last_hidden_state[:, 0], rtol=1e-5, atol=1e-5
        )


def test_it_learns_through_all_layers(ours: BertTower) -> None:
    ours.train()
    ids = torch.randint(1, 60, (2, 7))
    ours(ids, torch.ones_like(ids)).sum().backward()
    without = {name for name, p in ours.named_parameters() if p.grad is None}
    assert without == set()


def test_dropout_only_in_training(ours: BertTower) -> None:
    ids, mask = torch.randint(1, 60, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    assert torch.equal(ours(ids, mask), ours(ids, mask))
    ours.train()
    assert not torch.equal(ours(ids, mask), ours(ids, mask))


def test_fresh_weights_are_berts() -> None:
    tower = build_text_tower(TextArch(hidden=64, layers=1, heads=4, intermediate=128, vocab_size=500))
    state = tower.state_dict()
    assert not state["embeddings.word_embeddings.weight"][0].any()
    for name, value in state.items():
        if "LayerNorm" in name:
            assert (value == float("weight" in name)).all()
        elif name.endswith("bias"):
            assert not value.any()
        else:
            assert abs(float(value.std()) - INITIAL_STD) < 0.003
