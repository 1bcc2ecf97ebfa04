"""The WordPiece tokeniser of the published text tower, from local files only; no torch here."""

from pathlib import Path

from tokenizers import BertWordPieceTokenizer, Encoding

from aistudio.errors import WeightsError

_SPELLED = 4  # letters; shorter words may well be spelled in a good vocabulary
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


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
