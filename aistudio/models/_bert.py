"""The text tower: BERT, the first token of the last layer. Its tokeniser is _wordpiece.py's.

The tower is written out, with the parameter names of transformers' BertModel, because importing that takes 2.6 s in
each process that loads a model, and because only the first token of the last layer is wanted: of the last layer, keys
and values of all tokens are computed, everything else of the first token alone. The tests compare it with BertModel.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from aistudio.models._tower_sizes import TextArch

LAYER_NORM_EPS = 1e-12
INITIAL_STD = 0.02


class _Embeddings(nn.Module):
    def __init__(self, arch: TextArch) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(arch.vocab_size, arch.hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(arch.max_positions, arch.hidden)
        self.token_type_embeddings = nn.Embedding(2, arch.hidden)  # only the first is used: there is one segment
        self.LayerNorm = nn.LayerNorm(arch.hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(arch.dropout)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        position = self.position_embeddings.weight[: ids.shape[1]]
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + position))


class _Residual(nn.Module):
    """Linear, dropout, added to what came before, LayerNorm."""

    def __init__(self, inputs: int, arch: TextArch) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, arch.hidden)
        self.LayerNorm = nn.LayerNorm(arch.hidden, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(arch.dropout)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + before)


class _Layer(nn.Module):
    def __init__(self, arch: TextArch) -> None:
        super().__init__()
        self._heads, self._dropout = arch.heads, arch.dropout
        names = ("query", "key", "value")
        project = nn.ModuleDict({name: nn.Linear(arch.hidden, arch.hidden) for name in names})
        self.attention = nn.ModuleDict({"self": project, "output": _Residual(arch.hidden, arch)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(arch.hidden, arch.intermediate)})
        self.output = _Residual(arch.intermediate, arch)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, wanted: int) -> torch.Tensor:
        """(N,L,hidden), (N,1,1,L) bool -> the first `wanted` tokens' vectors, (N,wanted,hidden)."""
        own = x[:, :wanted]
        project = cast("nn.ModuleDict", self.attention["self"])
        query, key, value = (
            project[name](y).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for name, y in (("query", own), ("key", x), ("value", x))
        )
        dropout = self._dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        own = self.attention["output"](found.transpose(1, 2).flatten(2), own)
        return self.output(F.gelu(self.intermediate["dense"](own)), own)


class BertTower(nn.Module):
    """Token ids and mask (N,L) -> (N,hidden), the last layer's vector of the first token."""

    def __init__(self, arch: TextArch) -> None:
        super().__init__()
        self.embeddings = _Embeddings(arch)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(arch) for _ in range(arch.layers))})

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x, attended = self.embeddings(ids), mask.bool()[:, None, None, :]
        layers = cast("nn.ModuleList", self.encoder["layer"])
        for number, layer in enumerate(layers, start=1):
            x = layer(x, attended, 1 if number == len(layers) else x.shape[1])
        return x[:, 0]


def build_text_tower(arch: TextArch) -> BertTower:
    """Freshly initialised as BERT is (normal, standard deviation 0.02): erf GELU, no pooler."""
    tower = BertTower(arch)
    for module in tower.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        tower.embeddings.word_embeddings.weight[0] = 0
    return tower
