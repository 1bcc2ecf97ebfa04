"""Products of rows of bytes with a few queries of bytes, exact, by the quickest of torch's ways that is right here.

None of the ways is public, and some processors add pairs of products in 16 bits and cut what does not fit. So each is
tried once for every width on numbers that would show it, and what is missing or wrong is passed over; the last, by
float32, is slow and always right.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_WIDTH = 1_024  # sums of this many products of codes are exact in float32, and 128 times as much in 32 bits
NUM_TRIED = 70  # rows of the trial: whole blocks of every kernel and a rest

Product = Callable[[Any], Any]  # queries (S, P) int8 tensor -> (S, n) tensor of whole numbers, int32 or float32
Prepare = Callable[[Any], Product]  # rows (n, P) int8 tensor -> their product


def quickest(torch: Any, width: int) -> Prepare:
    """Return the quickest way that is right for rows of `width` codes."""
    return next(way for way in ways(torch, width) if _is_right(torch, way, width))


def ways(torch: Any, width: int) -> list[Prepare]:
    """Return the ways, quickest first. The first keeps a copy of the rows in oneDNN's order, in place of the rows."""

    def packed(rows_NP: Any) -> Product:
        num = len(rows_NP)
        weights = torch.ops.onednn.qlinear_prepack(rows_NP, None)
        scale, zero = torch.ones(num), torch.zeros(num, dtype=torch.int64)
        linear = torch.ops.onednn.qlinear_pointwise

        def product(queries_SP: Any) -> Any:
            shifted = (queries_SP.to(torch.int16) + 128).to(torch.uint8)
            return linear(shifted, 1.0, 128, weights, scale, zero, None, 1.0, 0, torch.float32, "none", [], "")

        return product

    def whole(rows_NP: Any) -> Product:
        return lambda queries_SP: torch._int_mm(queries_SP, rows_NP.T)

    def by_floats(rows_NP: Any) -> Product:
        return lambda queries_SP: float_product(torch, queries_SP, rows_NP)

    return [*([packed] if width <= EXACT_WIDTH else []), whole, by_floats]


def _is_right(torch: Any, way: Prepare, width: int) -> bool:
    rng = np.random.default_rng(0)
    queries, rows = (torch.from_numpy(_trial(rng, num, width)) for num in (4, NUM_TRIED))
    wanted = queries.int() @ rows.int().T
    try:
        found = way(rows)(queries)
    except (AttributeError, RuntimeError, TypeError):  # not in this torch, or not for this processor
        return False
    return found.shape == wanted.shape and bool(torch.equal(found.int(), wanted))


def _trial(rng: np.random.Generator, num: int, width: int) -> NDArray[np.int8]:
    codes = rng.integers(-127, 128, (num, width), dtype=np.int8)
    codes[0], codes[1] = 127, -127
    return codes


def float_product(torch: Any, queries_SP: Any, rows_NP: Any) -> Any:
    """Sums of products of codes (S, N) int32, over columns so few that float32 holds them exactly."""
    total = torch.zeros((len(queries_SP), len(rows_NP)), dtype=torch.int32)
    for start in range(0, queries_SP.shape[1], EXACT_WIDTH):
        part = slice(start, start + EXACT_WIDTH)
        total += (queries_SP[:, part].float() @ rows_NP[:, part].float().T).int()
    return total
