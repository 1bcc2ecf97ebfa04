"""Calling a model on many items so that one bad item, or a full device, costs as little as possible."""

from collections.abc import Callable
from typing import NamedTuple

from aistudio.storable import error_text

_MAX_ERROR = 500  # characters kept of a model's error


class DeviceLostError(Exception):
    """The accelerator cannot be used by this process any more; only a new process can."""


class Halving(NamedTuple):
    """`errors` by item; `out_of_memory`: a call had to be halved because the device was full."""

    errors: dict[int, str]
    out_of_memory: bool


def in_halves(call: Callable[[list[int]], dict[int, str]], items: list[int]) -> Halving:
    """Calls `call` on all items; when that fails, on halves, and so on down to the single items that fail alone.

    Args:
        call: does its work for the given items and returns errors of single ones, which are not tried again.
        items: what to call it on; empty: it is not called.

    Raises:
        DeviceLostError: no call can succeed in this process.
    """
    if not items:
        return Halving({}, False)
    try:
        return Halving(call(items), False)
    except BaseException as e:  # noqa: BLE001 - whatever a model raises belongs to rows, and must not end the run
        raise_if_stopped(e)
        error, full, lost = described(e), is_out_of_memory(e), is_lost(e)
    # Out here the exception is gone, and with it the frames that kept the failed call's tensors in memory.
    if lost:
        raise DeviceLostError(error)
    if len(items) == 1:
        return Halving({items[0]: error}, full)
    middle = len(items) // 2
    first, second = in_halves(call, items[:middle]), in_halves(call, items[middle:])
    return Halving(first.errors | second.errors, full or first.out_of_memory or second.out_of_memory)


def raise_if_stopped(e: BaseException) -> None:
    """Raise `e` again when it ends the process. Other BaseExceptions do not: a panic of a Rust library is one."""
    if isinstance(e, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise e


def described(e: BaseException) -> str:
    """Return an exception's type and text in one storable line, for a row's `error`."""
    name, text = type(e).__name__, error_text(e, _MAX_ERROR)
    return name if text == name else error_text(f"{name}: {text}", _MAX_ERROR)


def is_out_of_memory(e: BaseException) -> bool:
    """Return whether an error means out of memory, on host or device; cuBLAS and cuDNN have a status of their own."""
    text = error_text(e, _MAX_ERROR)
    return isinstance(e, MemoryError) or "out of memory" in text.lower() or "_STATUS_ALLOC_FAILED" in text


def is_lost(e: BaseException) -> bool:
    """Whether the accelerator cannot be used by this process any more."""
    # After a device-side assert or an illegal access every further call of the process fails the same way.
    return "CUDA error" in error_text(e, _MAX_ERROR) and not is_out_of_memory(e)
