"""Pixels on their way to a GPU: through page-locked buffers, copied while the GPU computes on the batch before.

Only CUDA: a copy from ordinary memory blocks its thread, and the driver makes a page-locked copy of its own anyway.
"""

import contextlib
import queue
from collections.abc import Iterator

import numpy as np
import torch

_SLOTS = 2  # one is filled and sent while the other is computed on; more would only hold memory


class Upload:
    """A batch of pixels on its way; `arrived()` hands it over to the stream that computes."""

    def __init__(self, pixels: torch.Tensor, copied: torch.cuda.Event) -> None:
        self._pixels, self._copied = pixels, copied

    def arrived(self) -> torch.Tensor:
        """(N,...) uint8 on the device; work given to the current stream from here on waits for the copy."""
        torch.cuda.current_stream(self._pixels.device).wait_event(self._copied)
        return self._pixels


class _Slot:
    """A page-locked buffer and its twin on the device; both are free again once `done` has happened."""

    def __init__(self) -> None:
        self.host = self.device = torch.empty(0, dtype=torch.uint8)
        self.done: torch.cuda.Event | None = None


class PinnedFeed:
    """Two slots for batches on their way; several threads may send at once, a third one waits for its turn."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(_SLOTS):
            self._free.put(_Slot())

    @contextlib.contextmanager
    def upload(self, pixels: np.ndarray) -> Iterator[Upload]:
        """Starts copying (N,...) uint8 and returns at once; the tensor must not be used after the `with` block.

        Work that was given to the current stream inside the block may still be under way at its end: the slot's next
        user waits for it.
        """
        slot = self._free.get()
        try:
            if slot.done is not None:
                slot.done.synchronize()  # the GPU has finished with what was here before
            self._grow(slot, pixels.nbytes)
            host, device = (buffer[: pixels.nbytes].view(pixels.shape) for buffer in (slot.host, slot.device))
            np.copyto(host.numpy(), pixels)
            copied = torch.cuda.Event()
            with torch.cuda.stream(self._copies):
                copy_async(device, host)
                copied.record(self._copies)
            upload = Upload(device, copied)
            try:
                yield upload
            finally:
                upload.arrived()  # also where nobody asked for it: `done` must come after the copy
                slot.done = self._event()
        finally:
            self._free.put(slot)

    def fetch(self, rows: torch.Tensor) -> np.ndarray:
        """Wait for the current stream, then copy its result to the host."""
        self._event().synchronize()
        return rows.cpu().numpy()

    def _event(self) -> torch.cuda.Event:
        """Happens when the current stream has done all that it was given so far."""
        # Blocking: without it the waiting thread spins, and the cores beside a GPU are there to decode images.
        event = torch.cuda.Event(blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _grow(self, slot: _Slot, nbytes: int) -> None:
        if slot.host.numel() >= nbytes:
            return
        with torch.inference_mode(False):  # a tensor that is born in inference mode cannot be written to outside it
            slot.host = slot.device = torch.empty(0, dtype=torch.uint8)  # given back before the larger ones are taken
            host = pinned(nbytes)
            slot.device = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
            slot.host = host
        # The block may have belonged to something that the computing stream has not finished with.
        self._copies.wait_stream(torch.cuda.current_stream(self._device))


def pinned(nbytes: int) -> torch.Tensor:
    """Page-locked host memory, uint8."""
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)


def copy_async(device: torch.Tensor, host: torch.Tensor) -> None:
    """On the current stream; returns before the bytes are there."""
    device.copy_(host, non_blocking=True)
