"""Cutting units (queries, pairs) into groups by one of their values: by name, or numbers into quantiles.

Leaves out: the metrics of the groups (significance.py) and where the values come from (pipeline/).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISSING = "(missing)"
SMALL = "(small slices)"
QUANTILES = 4
MANY = 10  # distinct numbers from which on they are cut into quantiles


def groups(values: list[Any], min_size: int) -> dict[str, NDArray[np.int64]]:
    """Group name -> indices of its units; every unit is in exactly one group.

    Numbers of more than ten distinct values are cut into four quantiles named by their bounds; everything else is
    grouped by value. None and NaN form a group of their own. Groups smaller than `min_size` are pooled into
    "(small slices)", which is shown however small it is. Empty for no values.
    """
    present = [v for v in values if not _missing(v)]
    numeric = bool(present) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
    several = numeric and len({v for v in present if np.isfinite(float(v))}) > MANY
    names = _quantile_names(values) if several else [_name(v) for v in values]
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        found.setdefault(name, []).append(i)
    large = {name: rows for name, rows in found.items() if len(rows) >= min_size}
    small = sorted(i for name, rows in found.items() if name not in large for i in rows)
    if small:
        large[SMALL] = small
    return {name: np.array(rows, dtype=np.int64) for name, rows in large.items()}


def quantile_edges(value_N: ArrayLike, parts: int = QUANTILES) -> NDArray[np.floating[Any]]:
    """Distinct inner and outer bounds of equally filled parts of the finite values: at least two."""
    values = np.asarray(value_N, dtype=np.float64)
    finite = values[np.isfinite(values)]
    with np.errstate(all="ignore"):
        edges = np.quantile(finite, np.linspace(0, 1, parts + 1))
    if not np.isfinite(edges).all():  # values so far apart that what lies between them overflows
        edges = np.quantile(finite, np.linspace(0, 1, parts + 1), method="nearest")
    return np.unique(edges)


def _quantile_names(values: list[Any]) -> list[str]:
    numbers = np.array([np.nan if _missing(v) else float(v) for v in values])
    edges = quantile_edges(numbers)
    which = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    last = len(edges) - 2
    labels = [f"{edges[i]:g} to {'' if i == last else 'below '}{edges[i + 1]:g}" for i in range(last + 1)]
    return [MISSING if np.isnan(n) else labels[w] for n, w in zip(numbers, which, strict=True)]


def _name(value: Any) -> str:
    return MISSING if _missing(value) else str(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
