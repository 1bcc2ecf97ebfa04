"""The text tower (BERT, first token of the last layer) and its WordPiece tokeniser, from local files only."""

from pathlib import Path

import torch
from pydantic import Field
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel

from aistudio.config import Settings
from aistudio.errors import WeightsError

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


def build_text_tower(arch: TextArch) -> BertModel:
    """Freshly initialised BERT without pooler: erf GELU, LayerNorm eps 1e-12."""
    config = BertConfig(
        vocab_size=arch.vocab_size,
        hidden_size=arch.hidden,
        num_hidden_layers=arch.layers,
        num_attention_heads=arch.heads,
        intermediate_size=arch.intermediate,
        max_position_embeddings=arch.max_positions,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        hidden_dropout_prob=arch.dropout,
        attention_probs_dropout_prob=arch.dropout,
    )
    return BertModel(config, add_pooling_layer=False)


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


def first_token(tower: BertModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(N,L) ids and mask -> (N,hidden): the last layer's vector of [CLS]."""
    return tower(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
