"""A/B pairs among prepared rows: which row is a, which is b, who was clicked more, and which pairs are left out.

The rules are those of evaluation/pairs.py; here they work on 17 bytes a row, so that a million pairs need no strings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aistudio.training.dataset import NO_SIDE, Dataset

NO_PAIR = 0  # hash of rows without pair_id
OVERLAPS = "an item or image is also in the validation data"


@dataclass(frozen=True)
class PairRows:
    """P pairs: row numbers of both sides and their click rates."""

    row_a: NDArray[np.int64]
    row_b: NDArray[np.int64]
    ctr_a: NDArray[np.float64]
    ctr_b: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row_a)

    def select(self, chosen: NDArray[Any]) -> "PairRows":
        """Return some pairs, by number or mask."""
        return PairRows(self.row_a[chosen], self.row_b[chosen], self.ctr_a[chosen], self.ctr_b[chosen])


def find_pairs(data: Dataset, usable: NDArray[np.bool_]) -> tuple[PairRows, dict[str, int]]:
    """Join the sides of each pair, in the order of their a sides; and count what is left out by reason.

    Args:
        usable: (N,) rows that may be used; pairs with another row are left out.
    """
    pair, side, ctr = data.column("pair"), data.column("side"), data.column("ctr")
    belongs = pair != NO_PAIR
    left_out = {"the row belongs to no pair": int((~belongs).sum())}
    rows = np.flatnonzero(belongs & (side != NO_SIDE))
    order = rows[np.lexsort((side[rows], pair[rows]))]
    _, starts, counts = np.unique(pair[order], return_index=True, return_counts=True)
    whole = starts[counts == 2]
    a, b = order[whole], order[whole + 1] if len(whole) else order[whole]
    good = (side[a] == 0) & (side[b] == 1)
    in_order = np.argsort(a[good], kind="stable")
    found = PairRows(*(x[good][in_order] for x in (a, b, ctr[a], ctr[b])))
    num_pairs = len(np.unique(pair[belongs]))
    left_out["a side is missing, double, failed or neither a nor b"] = num_pairs - len(found)
    finite = np.isfinite(found.ctr_a) & np.isfinite(found.ctr_b)
    left_out["the CTR is not a number"] = int((~finite).sum())
    found = found.select(finite)
    allowed = usable[found.row_a] & usable[found.row_b]
    left_out[OVERLAPS] = int((~allowed).sum())
    found = found.select(allowed)
    return found, {reason: n for reason, n in left_out.items() if n}


def without_ties(found: PairRows) -> tuple[PairRows, int]:
    """Return the pairs with different click rates, and how many have equal ones: those say nothing to train on."""
    different = found.ctr_a != found.ctr_b
    return found.select(different), int((~different).sum())
