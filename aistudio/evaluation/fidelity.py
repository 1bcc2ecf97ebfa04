"""How far the scores of fast settings are from exact ones, on the same rows: drift of numbers, flips of order."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from aistudio.schema import Status

_SHARE = 0.99  # the drift that is printed is one that this share of the rows stays below
_PAIRED = 2_000  # rows whose order is compared with each other's
SCORES = ("recall_score", "rank_score")


class Change(NamedTuple):
    """How one column of scores, or of vectors, changed."""

    column: str
    num_rows: int
    mean: float  # of the absolute difference of a score; of a vector: of its distance, as a part of its length
    p99: float  # that 99 % of the rows stay below
    largest: float
    drift: float  # p99 of a score in standard deviations of the exact scores; of a vector: p99
    pairs: int = 0  # of rows whose exact scores differ
    flipped: int = 0  # of these, those whose order is another, or that tie
    items: int = 0  # with at least two images among the rows
    best_changed: int = 0  # of these, those whose best image is another


class Fidelity(NamedTuple):
    """Settings beside exact ones."""

    changes: tuple[Change, ...]
    num_rows: int  # scored both ways
    only_exact: int  # rows that are ok with exact settings alone
    only_fast: int

    @property
    def drift(self) -> float:
        """The largest drift of a column; 0 when nothing could be compared."""
        return max((c.drift for c in self.changes), default=0.0)


def compare_scores(fast: pd.DataFrame, exact: pd.DataFrame) -> Fidelity:
    """Compare the rows of two runs over the same rows of a manifest.

    Args:
        fast, exact: `row_id`, `item_id`, `status`, the columns of SCORES, and vector columns `embedding*` and
            `rank_embedding*` of equal width; null where a row has none.
    """
    both = fast.merge(exact, on="row_id", suffixes=("", "_exact"), validate="one_to_one")
    ok, ok_exact = both["status"] == Status.OK, both["status_exact"] == Status.OK
    rows = both[ok & ok_exact]
    changes = [_scores_changed(rows, c) for c in SCORES if c in fast and c in exact]
    vectors = [c for c in fast.columns if c.startswith(("embedding", "rank_embedding")) and c in exact]
    changes += [_vectors_changed(rows, c) for c in vectors]
    found = tuple(c for c in changes if c is not None)
    return Fidelity(found, len(rows), int((ok_exact & ~ok).sum()), int((ok & ~ok_exact).sum()))


def _scores_changed(rows: pd.DataFrame, column: str) -> Change | None:
    rows = rows[rows[column].notna() & rows[f"{column}_exact"].notna()]
    if rows.empty:
        return None
    new, old = (rows[c].to_numpy(np.float64) for c in (column, f"{column}_exact"))
    change, spread = np.abs(new - old), float(old.std())
    p99 = float(np.quantile(change, _SHARE))
    drift = 0.0 if p99 == 0 else p99 / spread if spread > 0 else np.inf
    pairs, flipped = _flips(new[:_PAIRED], old[:_PAIRED])
    items = best_changed = 0
    for _, item in pd.DataFrame({"item": rows["item_id"].to_numpy(), "new": new, "old": old}).groupby("item"):
        items += len(item) > 1
        best_changed += int(item["new"].to_numpy().argmax() != item["old"].to_numpy().argmax())
    return Change(
        column, len(rows), float(change.mean()), p99, float(change.max()), float(drift), pairs, flipped, items,
        best_changed,
    )  # fmt: skip


def _flips(new: np.ndarray, old: np.ndarray) -> tuple[int, int]:
    """Count the pairs that `old` puts in an order, and those of them that `new` does not put in the same."""
    first, second = np.triu_indices(len(old), 1)
    before, after = np.sign(old[first] - old[second]), np.sign(new[first] - new[second])
    return int((before != 0).sum()), int(((before != 0) & (after != before)).sum())


def _vectors_changed(rows: pd.DataFrame, column: str) -> Change | None:
    rows = rows[rows[column].notna() & rows[f"{column}_exact"].notna()]
    if rows.empty:
        return None
    new, old = (np.stack(list(rows[c])).astype(np.float64) for c in (column, f"{column}_exact"))
    change = np.linalg.norm(new - old, axis=1) / np.maximum(np.linalg.norm(old, axis=1), 1e-12)
    p99 = float(np.quantile(change, _SHARE))
    return Change(column, len(rows), float(change.mean()), p99, float(change.max()), p99)
