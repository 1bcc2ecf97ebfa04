"""Decodes pictures of strangers in a process that may die: a crash or a hang costs the picture, never the server.

The process imports the image room alone and is started anew after a crash, a time-out or `RENEW` pictures.
"""

import multiprocessing
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.images.decode import Decoded, decode
from aistudio.schema import Status

RENEW = 1_000
MEMORY_BYTES = 6 * 2**30  # address space of the process
START_S = 60.0


class SafeDecoder:
    """One process; callers take turns."""

    def __init__(self, settings: ImagesSettings, timeout_s: float) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        self._context: Any = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._process: Any = None
        self._link: Connection | None = None
        self._num = 0

    def decode(self, body: bytes, specs: Sequence[ImageSpec]) -> Decoded:
        """As `images.decode.decode`; a process that dies or takes too long is `unsupported_image`."""
        with self._lock:
            try:
                link = self._started()
                link.send((body, tuple(specs), self._settings))
                if not link.poll(self._timeout_s):
                    self._end()
                    return Decoded(Status.UNSUPPORTED_IMAGE, f"decoding took longer than {self._timeout_s:g} s")
                found: Decoded = link.recv()
            except (EOFError, OSError):
                self._end()
                return Decoded(Status.UNSUPPORTED_IMAGE, "decoding ended the process that tried it")
            self._num += 1
            if self._num >= RENEW:
                self._end()
            return found

    def warm_up(self) -> None:
        """Start the process, so that the first visitor need not wait for it."""
        with self._lock, suppress(EOFError, OSError):
            self._started()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _started(self) -> Connection:
        if self._link is None:
            ours, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_work, args=(theirs,), daemon=True, name="decoder")
            self._process.start()
            theirs.close()
            self._link, self._num = ours, 0
            if not ours.poll(START_S):
                self._end()
                raise OSError("the decoding process does not start")
            ours.recv()
        return self._link

    def _end(self) -> None:
        if self._link is not None:
            self._link.close()
            self._process.kill()
            self._process.join(5)
        self._link = self._process = None


def _work(link: Connection) -> None:
    """Serve requests in the process until its link is closed."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(EOFError, OSError, KeyboardInterrupt):
        link.send("ready")
        while True:
            body, specs, settings = link.recv()
            link.send(decode(body, specs, settings))
