"""What runs have stored, and where two of them differ."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from aistudio.config import StoreSettings
from aistudio.store import open_store


def stored(place: str, settings: StoreSettings | None = None) -> pd.DataFrame:
    """All rows by the place in the snapshot."""
    store = open_store(place, settings)
    rows = pd.concat([store.read_table(e.key).to_pandas() for e in store.list("scores/")], ignore_index=True)
    assert not rows["row_id"].duplicated().any()
    return rows


def text_vectors(place: str) -> dict[str, bytes]:
    table = pq.read_table(f"{place}/texts")
    return {t: np.array(v, np.float32).tobytes() for t, v in zip(*table.to_pydict().values(), strict=True)}


def bits(value: Any) -> Any:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return np.asarray(value).tobytes() if isinstance(value, np.ndarray | float) else value


def differing(a: pd.DataFrame, b: pd.DataFrame, but: tuple[str, ...] = ("reused",)) -> list[tuple[Any, str]]:
    """(row, column) where two runs differ in a bit."""
    assert list(a.index) == list(b.index) and list(a.columns) == list(b.columns)
    columns = [c for c in a.columns if c not in but]
    return [(r, c) for c in columns for r, x, y in zip(a.index, a[c], b[c], strict=True) if bits(x) != bits(y)]
