"""Batches of shuffled rows: an epoch's order is a function of the seed and the epoch, so two numbers say where it is.

With several workers each takes its slice of every batch; what is left over at an epoch's end is left out of it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.errors import ConfigError


class ShuffledBatches:
    """Yields batches of row numbers 0 .. num_rows - 1, each row at most once in an epoch."""

    def __init__(self, num_rows: int, batch_size: int, seed: int, rank: int = 0, num_workers: int = 1) -> None:
        """Cut epochs into batches of `batch_size` rows, on all workers together.

        Raises:
            ConfigError: fewer rows than one for each worker, or a batch that workers cannot share evenly.
        """
        size = min(batch_size, num_rows - num_rows % num_workers)
        if size < num_workers:
            raise ConfigError(f"{num_rows} rows to train on are too few for {num_workers} worker(s)")
        if size % num_workers:
            raise ConfigError(f"batch_size {batch_size} cannot be shared evenly by {num_workers} workers")
        self._num_rows, self._size, self._seed = num_rows, size, seed
        self._rank, self._workers, self._epoch, self._position = rank, num_workers, 0, 0

    def __len__(self) -> int:
        return self._num_rows // self._size

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(self._epoch)
        share = self._size // self._workers
        for number in range(self._position, len(self)):
            start = number * self._size + self._rank * share
            yield order[start : start + share].tolist()
        self._epoch, self._position = self._epoch + 1, 0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the epoch's order of all rows; 8 bytes a row."""
        return np.random.default_rng([self._seed, epoch]).permutation(self._num_rows)

    def state_dict(self) -> dict[str, int]:
        """Return where the sampler stands."""
        return {
            "seed": self._seed, "num_rows": self._num_rows, "batch_size": self._size,
            "epoch": self._epoch, "position": self._position,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` says. Raises ConfigError for a state of other rows."""
        for name, mine in self.state_dict().items():
            if name not in ("epoch", "position") and state[name] != mine:
                raise ConfigError(f"the stored training has {name} {state[name]}, this one {mine}")
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
