"""The images nearest to a few fixed texts of the validation data: the picture that shows whether a training works."""

import numpy as np
from numpy.typing import NDArray

from aistudio.models import RecallModel
from aistudio.training.dataset import Dataset

QUERIES, SHOWN = 8, 6
_LOOKED_AT = 1_024  # rows in which the texts are looked for


class Neighbours:
    """Collects the best images of each query while vectors come by."""

    def __init__(self, model: RecallModel, data: Dataset) -> None:
        """Take the first distinct texts; without any there is nothing to collect."""
        rows = np.arange(min(len(data), _LOOKED_AT))
        first: dict[str, int] = {}
        for row, text in zip(rows.tolist(), data.readable(rows, "text"), strict=True):
            if text.strip():
                first.setdefault(text, row)
        self.texts = list(first)[:QUERIES]
        self._own = data.column("image")[[first[text] for text in self.texts]] if self.texts else np.empty(0, np.int64)
        self._queries = model.encode_texts(self.texts) if self.texts else np.empty((0, model.dim), np.float32)
        self._images = np.empty((len(self.texts), 0), np.int64)
        self._scores = np.empty((len(self.texts), 0), np.float32)

    def add(self, images: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take numbers of images (N,) and their vectors (N, dim); an image may come again."""
        images, first = np.unique(images, return_index=True)
        scores = self._queries @ vectors[first].T
        scores = np.concatenate([self._scores, scores], axis=1)
        numbers = np.concatenate([self._images, np.broadcast_to(images, (len(self.texts), len(images)))], axis=1)
        kept = min(SHOWN, len(np.unique(numbers)))
        self._images = np.empty((len(self.texts), kept), np.int64)
        self._scores = np.empty((len(self.texts), kept), np.float32)
        for query in range(len(self.texts)):
            order = np.argsort(-scores[query], kind="stable")
            distinct = np.unique(numbers[query][order], return_index=True)[1]
            best = order[np.sort(distinct)[:kept]]
            self._images[query], self._scores[query] = numbers[query][best], scores[query][best]

    def rows(self) -> list[list[int]]:
        """For each query an image of its own item, then the nearest images, best first."""
        return [[int(own), *best.tolist()] for own, best in zip(self._own, self._images, strict=True)]
