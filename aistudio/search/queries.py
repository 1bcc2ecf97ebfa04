"""The queries of a search, whatever they were made from: vectors, and what is relevant to each."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aistudio.search.qrels import Relevance


@dataclass(frozen=True)
class Queries:
    """Q queries in manifest order."""

    frame: pd.DataFrame  # query_id, item_id, text, of images image_url; and what `slice_values` needs
    vectors: Callable[[slice], NDArray[np.float32]]  # of some queries, (n, D)
    relevance: Relevance
    left_out: tuple[Relevance, ...] = ()  # rows that are not in a query's gallery: its own picture, ignored ones
    num_all: int = 0  # of which these are a sample
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frame)
