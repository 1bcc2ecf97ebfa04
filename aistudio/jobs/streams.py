"""Standard output and error that may be closed, full, or of an encoding that lacks our letters. A job goes on.

`prepare` is called once, before anything is printed. What standard output could not take is said once, at the end, by
`complaint`; standard error has nobody to complain to, and writes to a copy of its file descriptor: what keeps the core
of Ray silent turns descriptor 2 away for seconds, and a line of ours must not go with it.
"""

import contextlib
import io
import os
import sys
from typing import TextIO


class PatientStream(io.TextIOWrapper):
    """A text stream over an open file descriptor whose writes never raise, but for a reader that has gone.

    Letters that its encoding lacks are written as escapes. After the first failure everything goes to /dev/null.
    """

    def __init__(self, stream: TextIO, number: int) -> None:
        # With PYTHONUNBUFFERED there is only the raw file, whose write takes what the pipe has room for; the text layer
        # would drop the rest.
        raw = io.FileIO(os.dup(number), "w") if number == 2 else stream.buffer
        self._at_once = isinstance(stream.buffer, io.RawIOBase)
        super().__init__(
            io.BufferedWriter(raw) if isinstance(raw, io.RawIOBase) else raw,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.isatty() or number == 2,
        )
        self._replaced = stream  # else its end would close the descriptor
        self._hears_broken_pipe = number == 1
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            written = super().write(text)
            if self._at_once:
                super().flush()
            return written
        except OSError as e:
            self._give_up(e)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as e:
            self._give_up(e)

    def _give_up(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error
            with contextlib.suppress(OSError):
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, self.fileno())  # what is still in the buffers has somewhere to go
                os.close(sink)
        if isinstance(error, BrokenPipeError) and self._hears_broken_pipe:
            raise error


def prepare() -> None:
    """Open what is closed, and put patient streams in the place of the interpreter's own."""
    for number in (0, 1, 2):
        _open_if_closed(number)
    sys.stdout = _patient(sys.stdout, 1)
    sys.stderr = _patient(sys.stderr, 2)


def complaint() -> str | None:
    """Flush; one sentence if standard output did not take everything, None if it did or its reader has left."""
    for stream in (sys.stderr, sys.stdout):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    failure = sys.stdout.failure if isinstance(sys.stdout, PatientStream) else None
    if failure is None or isinstance(failure, BrokenPipeError):
        return None
    return f"standard output could not be written ({failure.strerror}): the summary is cut"


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _patient(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # the interpreter found the descriptor closed
        stream = os.fdopen(number, "w", encoding="utf-8", closefd=False)
    try:
        ours = isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    except (OSError, ValueError):
        ours = False
    if not ours or isinstance(stream, PatientStream):
        return stream  # a test's, a notebook's
    with contextlib.suppress(OSError):
        stream.flush()
    return PatientStream(stream, number)
