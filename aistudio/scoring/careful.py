"""Careful mode: after a worker died in a shard, each of its rows is announced before it is touched.

What is announced is remembered outside the process (coordinator.py), so that the next worker knows which row
was in hand at the death. Who died of what is not decided here.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from aistudio.schema import Status
from aistudio.scoring.image_source import ImageRow, refused

# One row at a time in the whole process: with two in progress, a death could not be blamed on either.
_ONE_AT_A_TIME = threading.Lock()


class Care:
    """`announce(number)` must return when the announcement is safe; `poison` are the rows to leave alone."""

    def __init__(self, poison: Iterable[int], announce: Callable[[int | None], None]) -> None:
        self.poison = frozenset(poison)
        self._announce = announce

    @contextmanager
    def row(self, number: int) -> Iterator[None]:
        """Process one row inside this block. A consumer must be done with a row before it asks for the next."""
        with _ONE_AT_A_TIME:
            self._announce(number)
            yield
            self._announce(None)

    def over(self, images: Iterable[ImageRow]) -> Iterator[ImageRow]:
        """Decoded images, announced one by one; poisonous ones come out refused."""
        for image in images:
            if image.status != Status.OK:
                yield image
            elif image.number in self.poison:
                yield refused(image)
            else:
                with self.row(image.number):
                    yield image
