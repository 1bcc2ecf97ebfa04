"""A model without numbers: its names and shapes, in no time and no memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_FILLING = frozenset(
    getattr(torch.Tensor, name)
    for name in ("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_", "copy_")
)


class _Unfilled(TorchFunctionMode):
    """What a module's constructor draws for a parameter on the meta device is not drawn."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        filled = args[0] if args else given.get("tensor")
        filling = func in _FILLING or getattr(func, "__module__", "") == "torch.nn.init"
        if filling and isinstance(filled, torch.Tensor) and filled.is_meta:
            return filled
        return func(*args, **given)


@contextmanager
def without_numbers() -> Iterator[None]:
    """Within the block modules are built on the meta device.

    Torch 2.14 draws numbers on that device, which has none, by way of its compiler, and importing that takes a second.
    """
    with torch.device("meta"), _Unfilled():
        yield
