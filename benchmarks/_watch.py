"""Watching a process and all its descendants: processor time and memory, sampled while it works.

Processor time counts what has ended as well, as far as a sample saw it: helpers that live between two samples are
missed.
"""

import subprocess
import threading
import time
from typing import Any, NamedTuple

import psutil


class Sample(NamedTuple):
    """One look at the family."""

    time_s: float  # time.time()
    cpu_s: float  # used since the start by every process seen so far
    root_bytes: int  # memory that the first process alone holds


class Watch:
    """`with Watch(pid) as watch: ...`; then `watch.samples`, `watch.cpu_between(a, b)` and the peaks.

    The sum over all processes is of proportional shares (PSS), so that pages which processes share count once. The
    kernel walks every page for it, which holds the process up: so it is asked for seldom.
    """

    def __init__(self, pid: int, every_s: float = 0.5, memory_every_s: float = 5.0) -> None:
        self.samples: list[Sample] = []
        self.peak_all_bytes = 0
        self._memory_every_s = memory_every_s
        self._root, self._every_s = psutil.Process(pid), every_s
        self._cpu: dict[tuple[int, float], float] = {}  # by process and its birth
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    @property
    def cpu_s(self) -> float:
        """Processor seconds in all."""
        return self.samples[-1].cpu_s if self.samples else 0.0

    @property
    def peak_root_bytes(self) -> int:
        """Most that the first process held."""
        return max((s.root_bytes for s in self.samples), default=0)

    def cpu_between(self, start_s: float, end_s: float) -> float:
        """Processor seconds used between two times (time.time()), interpolated between samples."""
        return self._cpu_at(end_s) - self._cpu_at(start_s)

    def _cpu_at(self, time_s: float) -> float:
        before = after = None
        for sample in self.samples:
            if sample.time_s <= time_s:
                before = sample
            else:
                after = sample
                break
        if before is None or after is None:
            known = before or after
            return known.cpu_s if known else 0.0
        share = (time_s - before.time_s) / (after.time_s - before.time_s)
        return before.cpu_s + share * (after.cpu_s - before.cpu_s)

    def _run(self) -> None:
        next_memory_s = 0.0
        while not self._stop.wait(self._every_s):
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            held = [self._look(p) for p in family]
            self.samples.append(Sample(time.time(), sum(self._cpu.values()), held[0]))
            if time.monotonic() >= next_memory_s:
                self.peak_all_bytes = max(self.peak_all_bytes, sum(map(_share_bytes, family)))
                next_memory_s = time.monotonic() + self._memory_every_s

    def _look(self, process: psutil.Process) -> int:
        try:
            times = process.cpu_times()
            self._cpu[process.pid, process.create_time()] = times.user + times.system
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return 0
        return memory.rss - memory.shared


def run_watched(command: list[str], timeout_s: float, **options: Any) -> tuple[int, Watch]:
    """Run a command to its end, or stop it after `timeout_s`; exit code and what was seen. `options` as Popen's."""
    with subprocess.Popen(command, **options) as process, Watch(process.pid) as watch:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()
    return process.returncode, watch


def _share_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
