"""Keeping training and validation apart: by item, never by pair or image; and no picture on both sides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aistudio.config.train_data import DataSettings
from aistudio.errors import ConfigError
from aistudio.training.dataset import Dataset, hashes

_SHOWN = 3


@dataclass(frozen=True)
class Overlap:
    """What training and validation data have in common."""

    usable: NDArray[np.bool_]  # (N,) training rows that have nothing in common with the validation data
    num_items: int
    num_contents: int
    num_rows: int  # training rows that are not usable

    def numbers(self) -> dict[str, int]:
        """Return the counts, for people."""
        return {"items": self.num_items, "images": self.num_contents, "rows_removed": self.num_rows}


def separate(train: Dataset, validation: Dataset, settings: DataSettings) -> Overlap:
    """Find training rows whose item or image bytes are also in the validation data.

    Raises:
        ConfigError: there are such rows, and data.overlap says to refuse them.
    """
    items = np.isin(train.column("item"), validation.column("item"))
    if settings.overlap == "same_items":
        items[:] = False
    content = train.column("content")
    contents = known_contents(content) & np.isin(content, validation.column("content"))
    bad = items | contents
    found = Overlap(
        ~bad, len(np.unique(train.column("item")[items])), len(np.unique(content[contents])), int(bad.sum())
    )
    own_source = settings.validation.num_named > 0
    if bad.any() and (settings.overlap == "refuse" or (settings.overlap == "auto" and own_source)):
        rows = np.flatnonzero(bad)[:_SHOWN]
        names = ", ".join(map(str, train.readable(rows, "row_id")))
        raise ConfigError(
            f"data.validation: {found.num_items} items and {found.num_contents} images are in the training data too "
            f"(training rows {names}{', …' if bad.sum() > _SHOWN else ''}), so the validation would flatter; "
            "set data.overlap: remove to leave them out of the training, or same_items where the model is meant for "
            "new images of known items"
        )
    return found


def known_contents(content: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(N,) hashes of image bytes: which are known; those of images that were never fetched are not."""
    nothing = int(hashes(pa.array([None], pa.string()))[0])
    return ~np.isin(content, np.array(sorted({nothing, 0}), np.uint64))


def counts_of(data: Dataset) -> dict[str, Any]:
    """Return how many rows, items and images there are and what was left out, for people."""
    return {
        "source": data.index.source, "read": data.index.num_read, "rows": len(data),
        "items": len(np.unique(data.column("item"))), "images": len(np.unique(data.column("image"))),
        "left_out": data.index.left_out,
    }  # fmt: skip
