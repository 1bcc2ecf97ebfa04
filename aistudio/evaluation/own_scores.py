"""The score that a run has stored of each row, and how another one agrees with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from aistudio.search.gallery import ID_STEP, File
from aistudio.search.given_lists import RowScores
from aistudio.store import Store

_COLUMNS = ("rank_score", "recall_score")  # the first that any row has, as for A/B pairs


def own_scores(store: Store, files: Sequence[File]) -> RowScores | None:
    """Return the run's rank_score of each row, its recall_score where no row has one; None where it has neither."""
    ids = [np.empty(0, np.int64)]
    found: dict[str, list[Any]] = {column: [np.empty(0)] for column in _COLUMNS}
    for number, key in files:
        table = store.read_table(key, ["row_id", *_COLUMNS])
        ids.append(number * ID_STEP + np.arange(table.num_rows))
        for column, parts in found.items():
            has = column in table.column_names
            none = np.full(table.num_rows, np.nan)
            parts.append(pc.cast(table[column], "float64").to_numpy() if has else none)
    for column in _COLUMNS:
        scores_N = np.concatenate(found[column]).astype(np.float64)
        if not np.isnan(scores_N).all():
            return RowScores(np.concatenate(ids), scores_N)
    return None


def spearman(a: RowScores, b: RowScores) -> dict[str, Any]:
    """Return Spearman's rank correlation over the rows that have both: {value, n}; null where it is not defined."""
    from scipy.stats import spearmanr

    both = ~(np.isnan(a.scores_N) | np.isnan(b.scores_N))
    first, second = a.scores_N[both], b.scores_N[both]
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return {"value": None, "n": len(first)}
    return {"value": float(spearmanr(first, second).statistic), "n": len(first)}
