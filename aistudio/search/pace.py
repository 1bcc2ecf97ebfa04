"""How far a long search of `aggregate` is, as lines on stderr.

Leaves out: the progress of scoring (progress.py), which polls many workers.
"""

import sys
import time
from typing import TextIO

EVERY_S = 10.0
LONG_S = 600.0  # longer searches suggest a sample of the queries
SAMPLE = 5_000  # queries: a share is then known to 1.4 points or better (95 %)


class Pace:
    """Counts pairs of image and query; prints a line every EVERY_S seconds, and none for a search shorter than that."""

    def __init__(self, num_rows: int, num_queries: int, out: TextIO | None = None) -> None:
        self._rows, self._queries, self._out = num_rows, num_queries, out
        self._done, self._advised = 0, False
        self._started = self._printed = time.monotonic()

    def add(self, rows: int, queries: int) -> None:
        """Add a number of rows that were compared with a number of queries."""
        self._done += rows * queries
        now = time.monotonic()
        if now - self._printed >= EVERY_S and self._done:
            self._printed = now
            print(self._line(now - self._started), file=self._out or sys.stderr, flush=True)

    def _line(self, elapsed: float) -> str:
        share = min(self._done / (self._rows * self._queries), 1.0)
        whole = elapsed / share
        line = f"search: {self._queries:,} queries in {self._rows:,} images, {share:.0%}, {whole - elapsed:,.0f} s left"
        if whole > LONG_S and self._queries > 2 * SAMPLE and not self._advised:
            self._advised = True
            sampled = whole * SAMPLE / self._queries
            line += f"; a sample would take about {sampled:,.0f} s: --set metrics.max_queries={SAMPLE}"
        return line
