"""What each export format says of itself and can do."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aistudio.errors import ConfigError
from aistudio.exports import FORMATS
from aistudio.exports.source import Batch, Source


class Read(NamedTuple):
    """N rows as they were read back; vectors (N, D) of float32 or int8, any numbers where `valid_N` is false."""

    row_ids: list[str]
    vectors_ND: NDArray[Any]
    valid_N: NDArray[np.bool_]


@dataclass(frozen=True)
class Format:
    """A format. `write` fills an empty folder and returns more for export.json; `read` gives the rows back in order.

    `as_stored(source, folder)` returns a function that says what vectors (N, D) float32 become there, as `read` gives
    them, where the library stores them in a code of its own.
    """

    name: str
    write: Callable[[Source, Iterator[Batch], Path], dict[str, Any]]
    read: Callable[[Source, Path], Iterator[Read]]
    opened_by: str  # one line of Python; {out} is the folder
    package: str | None = None  # that it needs, its module and the extra that brings it
    module: str | None = None
    extra: str | None = None
    missing: bool = False  # holds rows that have no vector
    pictures: bool = False  # holds stored pictures
    unit: bool = False  # stores vectors at length one
    from_bucket: bool = False  # `opened_by` takes a place in a bucket, too
    int8: Literal["ours", "own"] | None = "ours"  # whose code: a step for each row, or the library's
    as_stored: Callable[[Source, Path], Callable[[NDArray[np.float32]], NDArray[Any]]] | None = None


def format_of(name: str) -> Format:
    """Return a format whose library is installed.

    Raises:
        ConfigError: no such format; its library is not installed; names the extra that brings it.
    """
    if name not in FORMATS:
        raise ConfigError(f"--to {name}: not a format; known: {', '.join(FORMATS)}")
    found: Format = importlib.import_module(f"aistudio.exports.{name}").FORMAT
    if found.module is not None:
        try:
            importlib.import_module(found.module)
        except ImportError as e:
            raise ConfigError(
                f"--to {name} needs the package {found.package}, which is not installed here ({e}): "
                f"pip install 'aistudio-catalogue[{found.extra}]'"
            ) from None
    return found
