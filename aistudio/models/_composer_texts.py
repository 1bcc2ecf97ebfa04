"""The text sides of a composer: texts -> vectors as they are, not normalised, and which texts have none.

`LstmSide` (in the weights file), `BertSide` (a transformers folder, pooled as bert-as-service does) and `TowerSide`
(any recall model). A text that cannot be read is refused by itself: the published LSTM takes a step of the longest text
of the batch for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import transformers
from torch import nn

from aistudio.models import ImageEncoder, RecallModel
from aistudio.models._composer_parts import LstmText, steady
from aistudio.models._device import exact_float32
from aistudio.models._encode import TEXT_CACHE, BoundedCache, LoadOptions, is_finite
from aistudio.models._hf_folder import explained, pretrained
from aistudio.models._optimise import ready_transformer
from aistudio.models._passes import in_passes
from aistudio.models._words import MAX_WORDS, Vocabulary

LSTM_ROWS = 32  # texts a pass: few are composed at a time, and those of a large file fill many passes
BERT_ROWS = 16
BERT_TOKENS = 25  # bert-as-service's max_seq_len, [CLS] and [SEP] included
BERT_EPS = 1e-10  # added to the number of tokens that the mean is divided by
PAIR_SEPARATOR = " ||| "


class TextSide(Protocol):
    """Texts -> vectors."""

    dim: int

    def refusals(self, texts: Sequence[str]) -> list[str | None]:
        """Why each text has no vector; None where it has one."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """N texts, none of them refused -> (N,dim) float32; N may be 0."""


class LstmSide:
    """The LSTM of the weights file; runs in float32 whatever the precision."""

    def __init__(self, text_model: LstmText, vocabulary: Vocabulary, options: LoadOptions) -> None:
        """Takes `text_model` over: it is no longer to be trained."""
        self._vocabulary, self._device = vocabulary, torch.device(options.device)
        self.dim = text_model.embedding_layer.embedding_dim
        stepped = _SteppedLstm(text_model)
        self._model = ready_transformer(stepped, self._device, torch.float32, options.optimize)
        self._cache: BoundedCache[tuple[int, ...], np.ndarray] = BoundedCache(TEXT_CACHE, keep=is_finite)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Word ids of each text, 0 where a word is not known."""
        return self._vocabulary.tokenize(texts)

    def refusals(self, texts: Sequence[str]) -> list[str | None]:
        return [word_problem(len(ids)) for ids in self.tokenize(texts)]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack(self._cache.get_many([tuple(ids) for ids in self.tokenize(texts)], self._encode))

    def _encode(self, tokens: list[tuple[int, ...]]) -> list[np.ndarray]:
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # texts of like length share their steps
        rows: list[np.ndarray] = [np.empty(0)] * len(tokens)
        for start in range(0, len(order), LSTM_ROWS):
            part = order[start : start + LSTM_ROWS]
            longest = len(tokens[part[-1]])
            ids = np.zeros((len(part), longest), np.int64)
            for row, i in zip(ids, part, strict=True):
                row[: len(tokens[i])] = tokens[i]
            lengths = np.array([len(tokens[i]) for i in part])
            for i, vector in zip(part, in_passes(LSTM_ROWS, self._forward, ids, lengths), strict=True):
                rows[i] = vector
        return rows

    def _forward(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), exact_float32(self._device):
            columns = (torch.from_numpy(c).to(self._device) for c in (ids, lengths))
            return self._model(*columns).cpu().numpy()


def word_problem(num_words: int) -> str | None:
    """Return why a text of this many words cannot be encoded by the LSTM; None where it can."""
    if num_words == 0:
        return "the text has no word (of ASCII letters or digits)"
    return f"the text has {num_words:,} words; at most {MAX_WORDS:,} are read" if num_words > MAX_WORDS else None


class _SteppedLstm(nn.Module):
    """The LSTM step by step, each a product of the same shape, so that a longer neighbour changes nothing."""

    def __init__(self, text: LstmText) -> None:
        super().__init__()
        dim = text.embedding_layer.embedding_dim
        by_input, by_state, input_bias, state_bias = (parameter.detach() for parameter in text.lstm.parameters())
        self.embedding = text.embedding_layer
        self.gates = nn.Linear(2 * dim, 4 * dim)
        with torch.no_grad():
            self.gates.weight.copy_(torch.cat([by_input, by_state], dim=1))
            self.gates.bias.copy_(input_bias.double() + state_bias.double())
        self.output = text.fc_output[1]

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(N,L) int64, (N,) int64 -> (N,dim). A length of 0 gives a row without meaning."""
        h = torch.zeros(len(ids), self.embedding.embedding_dim, device=ids.device)
        c, last = h, h
        for step in range(ids.shape[1]):
            x = torch.cat([self.embedding(ids[:, step]), h], dim=1)
            i, f, g, o = (part.contiguous() for part in self.gates(x).chunk(4, dim=1))  # torch's order
            c = steady(torch.sigmoid, f) * c + steady(torch.sigmoid, i) * steady(torch.tanh, g)
            h = steady(torch.sigmoid, o) * steady(torch.tanh, c)
            last = torch.where((lengths == step + 1)[:, None], h, last)
        return self.output(last)


class BertSide:
    """A BERT from a transformers folder: mean of the second-to-last layer over all real positions, not normalised.

    As bert-as-service 1.10 does it by default, [CLS] and [SEP] included; " ||| " makes a pair of sentences.
    """

    def __init__(self, folder: str | Path, options: LoadOptions) -> None:
        """Raises WeightsError when the folder holds no usable BERT and tokenizer."""
        folder = Path(folder)
        model = pretrained(transformers.AutoModel, folder, add_pooling_layer=False)
        with explained(folder):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.dim, self._device = int(model.config.hidden_size), torch.device(options.device)
        self._model = ready_transformer(model, self._device, torch.float32, options.optimize)
        self._cache: BoundedCache[str, np.ndarray] = BoundedCache(TEXT_CACHE, keep=is_finite)

    def refusals(self, texts: Sequence[str]) -> list[str | None]:
        return [None if text.strip() else "the text is empty" for text in texts]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.empty((0, self.dim), np.float32)
        return np.stack(self._cache.get_many([_encodable(text) for text in texts], self._encode))

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most BERT_TOKENS, unpadded."""
        return [self._tokens(text)["input_ids"] for text in texts]

    def _tokens(self, text: str, **options: Any) -> Any:
        first, _, second = text.strip().rpartition(PAIR_SEPARATOR)
        pair = (first, second) if first else (second,)
        return self._tokenizer(*pair, truncation=True, max_length=BERT_TOKENS, **options)

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        found = [self._tokens(text, padding="max_length", return_token_type_ids=True) for text in texts]
        names = ("input_ids", "attention_mask", "token_type_ids")
        columns = (np.array([tokens[name] for tokens in found], np.int64) for name in names)
        return list(in_passes(BERT_ROWS, self._forward, *columns))

    def _forward(self, ids: np.ndarray, mask: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        ids_t, mask_t, kinds_t = (torch.from_numpy(column).to(self._device) for column in (ids, mask, kinds))
        with torch.inference_mode(), exact_float32(self._device):
            out = self._model(input_ids=ids_t, attention_mask=mask_t, token_type_ids=kinds_t, output_hidden_states=True)
            weight = mask_t[:, :, None].float()
            pooled = (out.hidden_states[-2] * weight).sum(dim=1) / (weight.sum(dim=1) + BERT_EPS)
        return pooled.cpu().numpy()


class TowerSide:
    """The text tower of a recall model; its vectors are of length one, and any text has one."""

    def __init__(self, model: ImageEncoder) -> None:
        self._model, self.dim = cast(RecallModel, model), model.dim  # check_towers lets no other kind pass

    def refusals(self, texts: Sequence[str]) -> list[str | None]:
        return [None] * len(texts)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.tokenize([_encodable(text) for text in texts])

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.encode_texts([_encodable(text) for text in texts])


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced: tokenizers raise on them."""
    return text.encode("utf-8", "replace").decode("utf-8")
