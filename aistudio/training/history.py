"""Records of a training: a progress line, metrics.csv always, TensorBoard files where that is installed."""

import csv
import io
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple, TextIO

from aistudio.storable import error_text
from aistudio.store import Store
from aistudio.training import layout
from aistudio.training.board import Board

COLUMNS = ("step", "epoch", "seconds", "name", "value")


class Entry(NamedTuple):
    """One logged number; `seconds` of training until then, over all attempts."""

    step: int
    epoch: int
    seconds: float
    name: str
    value: float


class History:
    """Collects numbers and writes them out with each checkpoint, so that both always tell of the same steps."""

    def __init__(self, store: Store, config: str = "") -> None:
        """`config`: the settings as text, for TensorBoard."""
        self.entries: list[Entry] = []
        self._store, self._config = store, config
        self.board = Board(store)

    def resume(self, step: int) -> float:
        """Read what an earlier attempt wrote, up to `step`; return the seconds that it had trained."""
        if self._store.exists(layout.HISTORY):
            text = io.StringIO(self._store.read_bytes(layout.HISTORY).decode("utf-8"))
            rows = list(csv.reader(text))[1:]
            read = [Entry(int(r[0]), int(r[1]), float(r[2]), r[3], float(r[4])) for r in rows]
            self.entries = [e for e in read if e.step <= step]
        self.board.begin(step)
        self.board.text("config", self._config)
        return max((e.seconds for e in self.entries), default=0.0)

    def add(self, step: int, epoch: int, seconds: float, numbers: Mapping[str, float]) -> None:
        """Log numbers by their TensorBoard tags."""
        new = [Entry(step, epoch, round(seconds, 3), name, float(value)) for name, value in numbers.items()]
        self.entries += new
        for entry in new:
            self.board.scalar(entry.name, entry.value, entry.step)

    def write(self) -> None:
        """Write metrics.csv and hand TensorBoard's file over. Raises StoreError."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.entries)
        self._store.write_bytes(layout.HISTORY, out.getvalue().encode())
        self.board.write()

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of one number."""
        return [(e.step, e.value) for e in self.entries if e.name == name]


class ProgressLine:
    """One line now and then: step, loss, rate, time left, the last validation."""

    def __init__(self, unit: str, total_steps: int, out: TextIO | None = None) -> None:
        self._unit, self._total, self._out = unit, total_steps, out or sys.stderr
        self._last: tuple[float, int] | None = None
        self.validation = ""

    def show(self, step: int, epoch: int, loss: float, rows_per_s: float, steps_per_s: float) -> None:
        """Print the line."""
        left = (self._total - step) / steps_per_s if steps_per_s > 0 else float("nan")
        eta = "" if left != left else f"  {_clock(left)} left"
        line = (
            f"step {step:,}/{self._total:,}  epoch {epoch + 1}  loss {loss:.4f}  {rows_per_s:,.0f} {self._unit}/s{eta}"
        )
        print(f"{line}{'  ' if self.validation else ''}{self.validation}", file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Print a message of its own."""
        print(error_text(text, 2_000), file=self._out, flush=True)


class Clock:
    """Seconds of training, over all attempts."""

    def __init__(self, before_s: float = 0.0) -> None:
        self._started = time.monotonic() - before_s

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return time.monotonic() - self._started


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
