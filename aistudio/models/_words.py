"""The word vocabulary of the composers' LSTM text encoder, as the published code reads texts.

Source: TIRG's and ComposeAE's text model. Ids go by first occurrence; TIRG's repository sorted words later, which is
why its published weights no longer match its code. So the vocabulary belongs into the weights file.
"""

import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from aistudio.errors import WeightsError

UNKNOWN = "<UNK>"  # id 0
MAX_WORDS = 1000  # of a text; published ones have at most 31, and an LSTM reads them one after the other
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def split_words(text: str) -> list[str]:
    """Words of a text: non-ASCII characters dropped, lower case, punctuation deleted (no blank in its place).

    >>> split_words("Red,blue v-neck café")
    ['redblue', 'vneck', 'caf']
    """
    return text.encode("ascii", "ignore").decode("ascii").lower().translate(_NO_PUNCTUATION).split()


def build_vocabulary(texts: Iterable[str]) -> list[str]:
    """Words by id: `<UNK>`, then each word at its first occurrence in `texts`.

    >>> build_vocabulary(["red dress", "Red top!"])
    ['<UNK>', 'red', 'dress', 'top']
    """
    return list(dict.fromkeys([UNKNOWN, *(word for text in texts for word in split_words(text))]))


class Vocabulary:
    """Words and their ids."""

    def __init__(self, words: Sequence[str], source: str) -> None:
        """`words[i]` has id i; `source` is the file's name in messages.

        Raises:
            WeightsError: the first word is not `<UNK>`, or a word comes twice.
        """
        self.words = tuple(words)
        if not self.words or self.words[0] != UNKNOWN:
            raise WeightsError(f"{source}: not a vocabulary of this model: its first word must be {UNKNOWN}")
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for i, word in enumerate(self.words) if self._ids[word] != i)
            raise WeightsError(f"{source}: not a vocabulary: {twice!r} comes more than once")

    def __len__(self) -> int:
        return len(self.words)

    def tokenize(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text's words, 0 where a word is not known; empty for a text without words."""
        return [[self._ids.get(word, 0) for word in split_words(text)] for text in texts]


def read_vocabulary(path: str | Path) -> list[str]:
    """The words in a file beside the weights: a JSON list (`.json`), else one word per line.

    Raises:
        WeightsError: cannot be read, or is not such a list.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
        words = json.loads(content) if path.suffix == ".json" else content.removesuffix("\n").split("\n")
    except (OSError, ValueError, RecursionError) as e:
        raise WeightsError(f"{path}: not a readable vocabulary: {e}") from None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise WeightsError(f"{path}: not a vocabulary: expected a list of words")
    return words
