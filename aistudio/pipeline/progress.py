"""What a person sees while a run works and when it ends: live on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aistudio.pipeline.start_up import announce
from aistudio.pipeline.start_up import say as say
from aistudio.run_record import Sources, Timings
from aistudio.schema import Reused, Status
from aistudio.timings import RATE_S, STEADY_S, speed

_STATUSES = tuple(s.value for s in Status)
_POLL_S = 0.5
_PLAIN_POLL_S = 5.0  # where nobody watches, after some minutes: asking takes a millisecond of three processes
_PLAIN_EVERY_S = 10.0
_TIMELINE_POINTS = 500


class Progress:
    """Polls counts in a thread, shows them, keeps the timeline. A context manager."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, float]],
        total: int,
        already: int,
        out: TextIO | None = None,
        held_up: Callable[[], str] = str,
    ) -> None:
        """`held_up`: names the host that holds the run up most, and how; empty when none does."""
        self._held_up = held_up
        self._counts, self._total, self._already = counts, total, already
        self._console = Console(file=out or sys.stderr)
        self._live = (
            Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self.timeline: list[tuple[float, int, int]] = []  # seconds, rows done, rows ok
        self.started = time.monotonic()
        self._first_row: float | None = None
        self._first_done = 0

    def __enter__(self) -> "Progress":
        if self._live:
            with suppress(Exception):  # a display must never end a run: here and below
                self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        if self._live:
            with suppress(Exception):
                self._live.stop()

    def _run(self) -> None:
        printed = time.monotonic()
        while not self._stop.wait(self._pause_s()):
            with suppress(Exception):  # the engine reports its own failures
                counts = self._counts()
                self._note(counts)
                if self._live:
                    self._live.update(self._picture(counts), refresh=True)
                elif time.monotonic() - printed >= _PLAIN_EVERY_S:
                    printed = time.monotonic()
                    say(self._line(counts), self._console.file)

    def _pause_s(self) -> float:
        grown = (time.monotonic() - self.started) / 50
        return _POLL_S if self._live else min(_PLAIN_POLL_S, max(_POLL_S, grown))

    def _note(self, counts: Mapping[str, float]) -> None:
        done, ok = rows_done(counts), int(counts.get("ok", 0))
        if done and self._first_row is None:
            self._first_row, self._first_done = time.monotonic(), done
            if not self._live:
                announce("the first rows are scored")
        self.timeline.append((round(time.monotonic() - self.started, 1), done, ok))
        if len(self.timeline) > _TIMELINE_POINTS:
            del self.timeline[1:-1:2]

    def _rate(self, done: int) -> float:
        # Start-up is not speed: clock and count begin with the first rows.
        elapsed = time.monotonic() - (self._first_row or time.monotonic())
        return (done - self._first_done) / elapsed if elapsed >= RATE_S else 0.0

    def _rate_text(self, done: int) -> str:
        rate = self._rate(done)
        return f"{rate:.1f} images/s" if rate else "… images/s"

    def _eta(self, done: int) -> str:
        rate = self._rate(done)
        return duration((self._total - self._already - done) / rate) if rate else "…"

    def _line(self, counts: Mapping[str, float]) -> str:
        done = rows_done(counts)
        failed = ", ".join(f"{s} {n}" for s, n in by_status(counts) if s != "ok") or "none"
        host = self._slowest_host()
        return (
            f"{self._already + done:,}/{self._total:,} rows  {self._rate_text(done)}  "
            f"ETA {self._eta(done)}  failed: {failed}{_taken_over(counts)}{host and '  ' + host}"
        )

    def _slowest_host(self) -> str:
        found = ""
        with suppress(Exception):
            found = self._held_up()
        return f"slowest host {found}" if found else ""

    def _picture(self, counts: Mapping[str, float]) -> Table:
        done = rows_done(counts)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            ProgressBar(total=self._total, completed=self._already + done, width=32),
            Text(f"{self._already + done:,}/{self._total:,} rows", style="bold"),
            Text(self._rate_text(done)) if done else Text("starting the models …", style="dim"),
            Text(f"ETA {self._eta(done)}", style="cyan"),
        )
        failed = [f"{s} {n:,}" for s, n in by_status(counts) if s != "ok"]
        outer = Table.grid()
        outer.add_row(grid)
        outer.add_row(
            Text("failed: " + (", ".join(failed) or "none") + _taken_over(counts), style="yellow" if failed else "dim")
        )
        if host := self._slowest_host():
            outer.add_row(Text(host, style="dim"))
        return outer


def _taken_over(counts: Mapping[str, float]) -> str:
    """Rows of finished shards that were taken over from the base run; "" where there are none."""
    found = [f"{how} {int(n):,}" for how in list(Reused)[1:] if (n := counts.get(f"reused_{how}"))]
    return f"  reused: {', '.join(found)}" if found else ""


def rows_done(counts: Mapping[str, float]) -> int:
    """Rows with an outcome."""
    return int(sum(counts.get(s, 0) for s in _STATUSES))


def by_status(counts: Mapping[str, float]) -> list[tuple[str, int]]:
    """(status, rows), `ok` first, then the most frequent."""
    found = [(s, int(counts[s])) for s in _STATUSES if counts.get(s)]
    return sorted(found, key=lambda x: (x[0] != "ok", -x[1], x[0]))


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    s = round(max(0.0, seconds))
    return f"{s // 3600}:{s % 3600 // 60:02}:{s % 60:02}" if s >= 3600 else f"{s // 60}:{s % 60:02}"


def print_ledger(counts: Mapping[str, int], examples: Mapping[str, str], total: int, rejected: int) -> None:
    """The table that ends a run; an example's text is cut to the terminal's width, or 120 columns elsewhere."""
    console = Console(highlight=False)
    width = console.width if console.is_terminal else 120
    console.print(f"[bold]{'status':<20}{'rows':>12}{'share':>8}  example[/]", soft_wrap=True)
    for status, n in by_status(counts):
        example = Text(examples.get(status, "")[: max(0, width - 42)], style="dim")
        colour = "green" if status == "ok" else "yellow"
        line = Text.assemble((f"{status:<20}", colour), f"{n:>12,}{n / max(total, 1):>8.1%}  ", example)
        console.print(line, soft_wrap=True)
    console.print(
        f"[bold]{'sum':<20}{sum(counts.values()):>12,}[/]          of {total:,} manifest rows", soft_wrap=True
    )
    if rejected:
        console.print(f"{'rejected lines':<20}{rejected:>12,}          see rejected/", soft_wrap=True)


def where_time_went(timings: Timings, sources: Sources) -> str:
    """Say in one sentence what the model actors did with their time, what to change, and how sure that is."""
    model, wait, write = timings.model_s, timings.wait_s, timings.write_s
    total = model + wait + write
    if total <= 0:
        return "actors: no time was measured"
    shares = f"actors: model {model / total:.0%}, waiting for images {wait / total:.0%}, storing {write / total:.0%}"
    steady_s = speed(timings).steady_s
    if steady_s is None or steady_s < STEADY_S:
        told = "an unknown time" if steady_s is None else f"{steady_s:.0f} s"
        return f"{shares}; {told} of steady work is too little to say what the limit is ({STEADY_S:.0f} s are enough)"
    startup_s = speed(timings).startup_s or 0.0
    if startup_s > steady_s:
        return f"{shares}; {startup_s:.0f} s of start-up took longer than {steady_s:.0f} s of work: see to that first"
    part, advice = max((wait, _about_waiting(timings, sources)), (write, _STORING), (model, _MODEL))
    share = part / total
    sure = "clearly" if share >= _CLEAR else "probably" if share >= _PROBABLE else "perhaps"
    return f"{shares}; {sure} {advice}"


_CLEAR, _PROBABLE = 0.8, 0.6  # share of the actors' time that a limit takes
_STORING = "storing is the limit: lower images.thumbnail_px or use store.embedding_dtype=float16"
_MODEL = "the model is the limit: more cores or GPUs make it faster"
_MOSTLY = 0.8  # of the rows looked at


def _about_waiting(timings: Timings, sources: Sources) -> str:
    host = sources.silent_host
    if host:
        return (
            f"the host {host.host} is the limit: it did not answer for {host.rows:,} of "
            f"{sources.looked_at:,} rows looked at, and everything waited for it; see to it first"
        )
    if sources.kinds.get("file", 0) >= _MOSTLY * sum(sources.kinds.values()) > 0:
        return "reading and decoding local files is the limit: more CPU workers, or a quicker disk, make it faster"
    if timings.decode_s > _MOSTLY * timings.wait_s:
        return "decoding is the limit: add CPU workers, or images.decode=fast"
    return "the network or the decoding is the limit: raise download.concurrency or add CPU workers"
