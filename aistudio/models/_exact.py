"""Sums whose last bit depends on nothing but what is summed: not on the batch, the order or the number of threads.

The ranking head is too small and has too many rows to run row by row. Its products are made exact instead: numbers are
rounded to so few bits that float64 holds every product and every partial sum, in whatever order a library adds them.
"""

import numpy as np
import torch
from torch import nn

FLOAT64_BITS = 53
SMALLEST_EXPONENT = -400  # products of smaller numbers could leave float64's range; they count as zero


def on_grid(x: np.ndarray, bits: int) -> np.ndarray:
    """Each row of float64 `x` rounded to multiples of 2**-bits times the power of two above the row's largest number.

    Such a number is an integer of at most `bits` bits times a power of two that the row has in common.
    """
    _, exponent = np.frexp(np.abs(x).max(axis=-1, keepdims=True, initial=0))
    exponent = np.maximum(exponent, SMALLEST_EXPONENT)
    grid = np.multiply(x, np.ldexp(1.0, bits - exponent))  # by a power of two: exact
    np.rint(grid, out=grid)
    return np.multiply(grid, np.ldexp(1.0, exponent - bits), out=grid)


class ExactLinear:
    """A linear layer on rows of float64 numbers; its result differs from float32's by rounding."""

    def __init__(self, layer: nn.Linear) -> None:
        # Two numbers of `bits` bits make a product of twice as many, and a sum of K of them log2(K) more.
        self._bits = (FLOAT64_BITS - (layer.in_features - 1).bit_length()) // 2
        self._weight = torch.from_numpy(on_grid(_float64(layer.weight), self._bits)).T
        self._bias = _float64(layer.bias)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N,K) -> (N,D), both float64."""
        return torch.mm(torch.from_numpy(on_grid(x, self._bits)), self._weight).numpy() + self._bias


class ExactDice:
    """Dice with alpha 0 (sigmoid(BN(x)) * x) on float64 numbers."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        self._scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
        self._shift = _float64(norm.bias) - _float64(norm.running_mean) * self._scale

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N,D) -> (N,D); NumPy's exp, unlike torch's, does not compute the end of an array in another way."""
        with np.errstate(over="ignore"):  # exp is infinite, the quotient zero, as it should be
            return x / (1 + np.exp(-(x * self._scale + self._shift)))


def _float64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
