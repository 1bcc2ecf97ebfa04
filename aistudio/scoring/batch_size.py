"""`engine.batch_size: auto` on a GPU: how many images to give it at once, found by trying.

Growing batches run through the loaded models. What each takes and how fast it is decides on the next one, so that a
full device is foreseen and not run into. Imports no ray, and torch only where a GPU is asked.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from aistudio.runs.shard_writer import most_rows
from aistudio.scoring.isolate import is_out_of_memory

SMALLEST, LARGEST = 8, 1024  # images; nothing was seen to gain beyond some hundred
_USABLE = 0.8  # of the memory there is: the rest is for fragmentation, libraries' workspaces and texts
_GAIN = 1.05  # a larger batch is taken if it is so much faster: smaller ones keep more copies under way
_TRIALS_S = 20.0  # of all trials together; a model so slow that this runs out gains nothing from larger batches
_TIMED = 2  # passes of each size, after one to warm up


class DeviceMemory(Protocol):
    """What find_batch_size asks a device; all in bytes."""

    def name(self) -> str:
        """Return the device's name, for people."""

    def budget(self) -> int:
        """Return the bytes that this process may still take."""

    def peak_of(self, call: Callable[[], object]) -> int:
        """The most that `call` held at once, beyond what was held before."""

    def release(self) -> None:
        """Give back what is cached and not in use."""


class Trial(NamedTuple):
    """One batch size that was run."""

    size: int
    peak_bytes: int
    images_per_s: float


class Found(NamedTuple):
    """The size to use, and why."""

    batch_size: int
    budget: int  # bytes
    trials: tuple[Trial, ...]

    def text(self) -> str:
        """For run.json and the summary."""
        if not self.trials:
            return f"{self.batch_size} (no larger one fits into {self.budget / 1e9:.1f} GB)"
        first, last = self.trials[0], self.trials[-1]
        chosen = next(t for t in self.trials if t.size == self.batch_size)
        memory = f"{last.peak_bytes / last.size / 1e6:.1f} MB an image of {self.budget / 1e9:.1f} GB"
        return f"{self.batch_size} (tried {first.size} to {last.size}: {memory}, {chosen.images_per_s:,.0f} images/s)"


def largest_useful(shard_rows: int | Literal["auto"]) -> int:
    """Largest batch to try: images of several shards never share one."""
    size = SMALLEST
    while size < min(most_rows(shard_rows), LARGEST):
        size *= 2
    return size


def find_batch_size(
    run: Callable[[int], object],
    memory: DeviceMemory,
    largest: int = LARGEST,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """Find the smallest power of two that is about as fast as any that fits.

    Args:
        run: sends one batch of that many images through the models; returns when the device has finished.
        largest: where to stop at the latest.
        clock: seconds.

    Raises:
        Exception: whatever `run` raises for another reason than memory.
    """
    budget = memory.budget()
    trials: list[Trial] = []
    size, left_s = SMALLEST, _TRIALS_S
    while size <= largest and (not trials or _can_go_on(trials[-1], size, budget, left_s)):
        trial = _try(run, memory, size, clock)
        memory.release()
        if trial is None or trial.peak_bytes > budget:
            break
        trials.append(trial)
        left_s -= (_TIMED + 1) * size / trial.images_per_s
        size *= 2
    if not trials:
        return Found(1, budget, ())
    best = max(t.images_per_s for t in trials)
    return Found(next(t.size for t in trials if t.images_per_s * _GAIN >= best), budget, tuple(trials))


def _can_go_on(last: Trial, size: int, budget: int, left_s: float) -> bool:
    """Memory and time grow in proportion to the images, or a little less."""
    return last.peak_bytes * size / last.size <= budget and (_TIMED + 1) * size / last.images_per_s <= left_s


def _try(run: Callable[[int], object], memory: DeviceMemory, size: int, clock: Callable[[], float]) -> Trial | None:
    """None: the device is full."""
    try:
        peak = memory.peak_of(lambda: run(size))  # the first pass also loads kernels, and compiles
        seconds = []
        for _ in range(_TIMED):
            began = clock()
            run(size)
            seconds.append(clock() - began)
    except (MemoryError, RuntimeError) as e:  # torch's errors are RuntimeErrors
        if not is_out_of_memory(e):
            raise
        return None
    return Trial(size, peak, size / max(min(seconds), 1e-9))


class CudaMemory:
    """The current CUDA device, of which this process may take a share."""

    def __init__(self, share: float) -> None:
        """`share` of the device: what an actor was promised, 0 < share <= 1; others may use the rest at any time."""
        import torch

        self._cuda: Any = torch.cuda
        self._share = share

    def name(self) -> str:
        return str(self._cuda.get_device_name())

    def budget(self) -> int:
        """Return the smaller of what is free now and of the share, less a reserve."""
        free, total = self._cuda.mem_get_info()
        reserved, allocated = self._cuda.memory_reserved(), self._cuda.memory_allocated()
        return max(0, int(_USABLE * min(free + reserved - allocated, self._share * total - allocated)))

    def peak_of(self, call: Callable[[], object]) -> int:
        before = self._cuda.memory_allocated()
        self._cuda.reset_peak_memory_stats()
        call()
        return int(self._cuda.max_memory_allocated() - before)

    def release(self) -> None:
        self._cuda.empty_cache()
