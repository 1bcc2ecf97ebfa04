"""Runs a function over groups of a run's files: `Mapper` is the contract, `InProcess` does it right here.

The pipeline has a second implementation, on Ray tasks (pipeline/tasks.py).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Mapper(Protocol):
    """Maps a function over groups of items."""

    device: str | None  # where the product of a search runs; None: on the CPU
    tells_steps: bool  # whether work can report its progress while it runs

    def groups(self, items: Sequence[T]) -> list[list[T]]:
        """Cut `items` into groups of consecutive ones, so that the order within a group is the manifest's."""

    def map(self, work: Callable[..., Any], groups: Sequence[Any], *shared: Any, gpu: bool = False) -> Iterator[Any]:
        """Yield `work(group, *shared)` for each group, in the order of the groups.

        Args:
            gpu: the work gains from a GPU, if the mapper has any.
        """


class InProcess:
    """Maps in this process, one group of everything: no start-up, no copies."""

    device: str | None = None
    tells_steps = True

    def groups(self, items: Sequence[T]) -> list[list[T]]:
        """Return one group; none for no items."""
        return [list(items)] if items else []

    def map(self, work: Callable[..., Any], groups: Sequence[Any], *shared: Any, gpu: bool = False) -> Iterator[Any]:
        """Yield `work(group, *shared)`, one after the other."""
        yield from (work(group, *shared) for group in groups)
