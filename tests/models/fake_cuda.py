"""A GPU for tests without one: its streams do nothing until somebody waits, so a missing wait gives wrong bytes."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from aistudio.models import _upload as _pinned

_ONE_AT_A_TIME = threading.RLock()  # a driver's own lock


class FakeStream:
    """Queued work; it runs when an event behind it is waited for."""

    def __init__(self, device: Any = None, *, eager: bool = False) -> None:
        self.todo: list[Callable[[], object] | FakeEvent] = []
        self._eager = eager

    def wait_event(self, event: "FakeEvent") -> None:
        if self._eager:
            event.synchronize()
        else:
            self.todo.append(event.synchronize)

    def wait_stream(self, other: "FakeStream") -> None:
        marker = FakeEvent()
        marker.record(other)
        self.wait_event(marker)

    def run_until(self, marker: "FakeEvent") -> None:
        with _ONE_AT_A_TIME:
            while marker in self.todo:
                work = self.todo.pop(0)
                if not isinstance(work, FakeEvent):
                    work()


class FakeEvent:
    def __init__(self, blocking: bool = False) -> None:
        self._stream: FakeStream | None = None

    def record(self, stream: FakeStream) -> None:
        self._stream = stream
        stream.todo.append(self)

    def synchronize(self) -> None:
        assert self._stream is not None, "an event was waited for that nobody recorded"
        self._stream.run_until(self)


class FakeCuda:
    """`computing` is the current stream of every thread. `eager`: it waits at once, for towers that run on a CPU."""

    def __init__(self, eager: bool) -> None:
        self.computing = FakeStream(eager=eager)
        self.copies: list[int] = []  # bytes of each
        self.allocated: list[int] = []  # bytes of each page-locked buffer
        self._current = threading.local()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.cuda, "Stream", FakeStream)
        patch.setattr(torch.cuda, "Event", FakeEvent)
        patch.setattr(torch.cuda, "stream", self._inside)
        patch.setattr(torch.cuda, "current_stream", lambda device=None: self._stream())
        patch.setattr(_pinned, "pinned", self._pinned)
        patch.setattr(_pinned, "copy_async", self._copy)

    def _stream(self) -> FakeStream:
        return getattr(self._current, "stream", self.computing)

    @contextlib.contextmanager
    def _inside(self, stream: FakeStream) -> Iterator[None]:
        self._current.stream = stream
        yield
        del self._current.stream

    def _pinned(self, nbytes: int) -> torch.Tensor:
        self.allocated.append(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8)

    def _copy(self, device: torch.Tensor, host: torch.Tensor) -> None:
        assert self._stream() is not self.computing, "a copy on the computing stream overlaps nothing"
        self.copies.append(host.numel())
        self._stream().todo.append(functools.partial(_transfer, device, host, host.clone()))


def _transfer(device: torch.Tensor, host: torch.Tensor, as_it_was: torch.Tensor) -> None:
    assert torch.equal(host, as_it_was), "the page-locked buffer was refilled before its bytes were copied"
    device.copy_(host)
