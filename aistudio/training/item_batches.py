"""Batches of rows grouped by item: K images of an item side by side, and hard negatives from the item's own group."""

import numpy as np
from numpy.typing import NDArray

from aistudio.training.shuffled import ShuffledBatches


class ItemBatches(ShuffledBatches):
    """As ShuffledBatches, but up to `per_item` rows of an item come together.

    With groups (categories) neighbouring items are of one group, so that a batch's negatives are hard ones; batches
    of different groups come in random order.
    """

    def __init__(
        self, items: NDArray[np.int64], per_item: int, groups: NDArray[np.int64] | None, batch: ShuffledBatches
    ) -> None:
        """Take the batch size, seed and workers of `batch`; items and groups (N,) are numbered from 0."""
        self.__dict__.update(batch.__dict__)
        self._items, self._per_item, self._groups = items, per_item, groups

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's order of all rows."""
        rng = np.random.default_rng([self._seed, epoch])
        rows = rng.permutation(self._num_rows)
        rows = rows[np.argsort(self._items[rows], kind="stable")]
        starts = np.flatnonzero(np.r_[True, np.diff(self._items[rows]) != 0])
        within = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
        new_chunk = within % self._per_item == 0
        chunk = np.cumsum(new_chunk) - 1
        turn = rng.permutation(chunk[-1] + 1)[chunk]
        if self._groups is None:
            return rows[np.argsort(turn, kind="stable")]
        group_turn = rng.permutation(self._groups.max() + 1)[self._groups[rows]]
        rows = rows[np.lexsort((turn, group_turn))]
        whole = len(self) * self._size
        batches = rows[:whole].reshape(len(self), self._size)[rng.permutation(len(self))]
        return np.concatenate([batches.reshape(-1), rows[whole:]])
