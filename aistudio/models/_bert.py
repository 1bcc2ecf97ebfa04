"""The text tower (BERT, first token of the last layer) and its WordPiece tokeniser, from local files only.

The tower is written out, with the parameter names of transformers' BertModel, because importing that takes 2.6 s in
each process that loads a model, and because only the first token of the last layer is wanted: of the last layer, keys
and values of all tokens are computed, everything else of the first token alone. The tests compare it with BertModel.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from tokenizers import BertWordPieceTokenizer, Encoding
from torch import nn

from aistudio.config import Settings
from aistudio.errors import WeightsError

LAYER_NORM_EPS = 1e-12
INITIAL_STD = 0.02
_SPELLED = 4  # letters; shorter words may well be spelled in a good vocabulary
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class TextArch(Settings):
    """Sizes of the text tower; the defaults are the first 4 layers of bert-base-chinese, 50 tokens."""

    hidden: int = Field(768, ge=1)
    layers: int = Field(4, ge=1)
    heads: int = Field(12, ge=1)
    intermediate: int = Field(3072, ge=1)
    vocab_size: int = Field(21128, ge=5)
    max_tokens: int = Field(50, ge=3)  # [CLS] and [SEP] included
    max_positions: int = Field(512, ge=3)
    dropout: float = Field(0.1, ge=0, lt=1)  # training only


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


class BertTokenizer:
    """Lower-casing WordPiece: [CLS] ... [SEP], cut at `max_tokens` in all."""

    pad_id: int

    def __init__(self, folder: str | Path, max_tokens: int, vocab_size: int | None = None) -> None:
        """Read `folder`/vocab.txt.

        Raises:
            WeightsError: no such file, not a BERT vocabulary, or not of `vocab_size` entries.
        """
        path = Path(folder) / "vocab.txt"
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; the tokenizer folder must hold the model's vocab.txt")
        try:
            self._tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)
        except (UnicodeDecodeError, ValueError, TypeError, OSError) as e:
            raise WeightsError(f"{path}: not a WordPiece vocabulary: {e}") from None
        missing = [token for token in SPECIAL_TOKENS if self._tokenizer.token_to_id(token) is None]
        if missing:
            raise WeightsError(f"{path}: not a BERT vocabulary: {', '.join(missing)} missing")
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=False)
        if vocab_size is not None and self.vocab_size != vocab_size:
            raise WeightsError(f"{path}: {self.vocab_size} entries, but the model has {vocab_size} word embeddings")
        self._tokenizer.enable_truncation(max_tokens)
        self.pad_id = self._tokenizer.token_to_id("[PAD]")

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, unpadded."""
        return [e.ids for e in self._tokenizer.encode_batch(texts)] if texts else []

    def unknown_tokens(self, texts: list[str]) -> list[tuple[int, int]]:
        """(unknown tokens, tokens in all) of each text, [CLS] and [SEP] not counted.

        Unknown is [UNK], and every letter of a word that is spelled letter by letter: a vocabulary that has the
        alphabet and not one piece of the word says no more than [UNK] would.
        """
        unknown = self._tokenizer.token_to_id("[UNK]")
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False) if texts else []
        return [(e.ids.count(unknown) + _spelled(e, text), len(e.ids)) for e, text in zip(encoded, texts, strict=True)]


def _spelled(encoding: Encoding, text: str) -> int:
    """Tokens of words of at least _SPELLED letters, each of which is a token of its own."""
    words: dict[int, list[tuple[int, int]]] = {}
    for word, place in zip(encoding.word_ids, encoding.offsets, strict=True):
        if word is not None:
            words.setdefault(word, []).append(place)
    return sum(
        len(places)
        for places in words.values()
        if len(places) >= _SPELLED and all(b - a == 1 and text[a:b].isalpha() for a, b in places)
    )
