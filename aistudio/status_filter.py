"""Which failed rows are meant: `timeout`, `http_error:404`, `http_error:5xx`. One parser for every --status."""

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.errors import ConfigError
from aistudio.schema import Status

_CODE = re.compile(r"([1-5])(\d\d|xx)")


class StatusFilter(NamedTuple):
    """Rows of one failure status; of `http_error` perhaps only those with some answers."""

    status: Status
    codes: range | None = None  # of http_status; None: any

    def rows(self, status: pa.ChunkedArray, http_status: pa.ChunkedArray) -> np.ndarray:
        """Say for each row whether it is meant: (N,) bool."""
        match = np.asarray(pc.equal(status, self.status.value).fill_null(False), bool)
        if self.codes is None:
            return match
        codes = np.asarray(http_status.fill_null(-1))
        return match & (codes >= self.codes.start) & (codes < self.codes.stop)


def parse_status(text: str) -> StatusFilter:
    """Read what a user wrote after --status.

    Raises:
        ConfigError: not a failure status, or a code where none is known.
    """
    name, colon, code = text.partition(":")
    failures = sorted(set(Status) - {Status.OK})
    if name not in failures:
        raise ConfigError(f"--status {text}: not a failure status; known: {', '.join(failures)}")
    status = Status(name)
    if not colon:
        return StatusFilter(status)
    if status is not Status.HTTP_ERROR:
        raise ConfigError(f"--status {text}: only http_error has codes; write --status {name}")
    match = _CODE.fullmatch(code)
    if match is None:
        raise ConfigError(f"--status {text}: {code!r} is no HTTP status; write http_error:404 or http_error:5xx")
    if match[2] == "xx":
        first = int(match[1]) * 100
        return StatusFilter(status, range(first, first + 100))
    return StatusFilter(status, range(int(code), int(code) + 1))


def failed_rows(scores: pa.Table, wanted: tuple[StatusFilter, ...]) -> np.ndarray:
    """Return the row numbers of failed rows: all, or those that any of `wanted` means."""
    if not wanted:
        return np.flatnonzero(np.asarray(pc.not_equal(scores["status"], Status.OK.value), bool))
    chosen = np.zeros(scores.num_rows, bool)
    for one in wanted:
        chosen |= one.rows(scores["status"], scores["http_status"])
    return np.flatnonzero(chosen)
