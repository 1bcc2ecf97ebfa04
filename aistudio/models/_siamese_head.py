"""The ranking head on a CPU: SiamesePoiModel.score for inference, the same bits for a row wherever it stands."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aistudio.models._exact import ExactDice, ExactLinear
from aistudio.poi_table import ItemPois

if TYPE_CHECKING:
    from aistudio.models.siamese_poi import SiamesePoiModel


class ExactHead:
    """Scores of rows; equal to the module's by rounding."""

    def __init__(self, model: "SiamesePoiModel") -> None:
        self._keys, self._inner = ExactLinear(model.linear1), ExactLinear(model.attention_in)
        self._dice = ExactDice(model.dice_bn)
        self._middle, self._outer = ExactLinear(model.attention_mid), ExactLinear(model.attention_out)
        self._joined, self._hidden = ExactLinear(model.linear3), ExactLinear(model.linear4)
        self._last = ExactLinear(model.linear2)

    def score(self, images: np.ndarray, texts: np.ndarray, pois: Sequence[ItemPois]) -> np.ndarray:
        """(N,D) image and text vectors and N items' POIs -> (N,) float32, higher is better; no sigmoid."""
        queries = images.astype(np.float64)
        joined = np.concatenate([queries, texts.astype(np.float64), self._attend(queries, pois)], axis=1)
        hidden = np.maximum(self._joined(joined), 0)
        return self._last(np.maximum(self._hidden(hidden), 0))[:, 0].astype(np.float32)

    def _attend(self, queries: np.ndarray, pois: Sequence[ItemPois]) -> np.ndarray:
        """(N,D) queries -> (N,D) sums of their POIs' keys, each times its score; zeros where there are no POIs.

        Only POIs that count are computed: a row of the flat arrays is one POI of one row.
        """
        counts = np.array([p.count for p in pois])
        attended = np.zeros_like(queries)
        if not counts.any():
            return attended
        row = np.repeat(np.arange(len(pois)), counts)
        own, keys = queries[row], self._keys_of(pois)
        hidden = self._inner(np.concatenate([own, keys, own - keys, own * keys], axis=1))
        parts = self._outer(self._middle(self._dice(hidden))) * keys
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)  # of a POI among its row's
        for i in range(counts.max()):  # one after the other: the order of a sum
            attended[row[place == i]] += parts[place == i]
        return attended

    def _keys_of(self, pois: Sequence[ItemPois]) -> np.ndarray:
        """The keys of all rows' POIs, one below the other; those of an item with many rows are computed once."""
        distinct = list({id(p): p for p in pois if p.count}.values())
        joined = [np.concatenate([p.pictures[: p.count], p.names[: p.count]], axis=1) for p in distinct]
        keys = self._keys(np.concatenate(joined).astype(np.float64))
        ends = np.cumsum([p.count for p in distinct])
        of_item = {id(p): keys[end - p.count : end] for p, end in zip(distinct, ends, strict=True)}
        return np.concatenate([of_item[id(p)] for p in pois if p.count])
