"""SIGINT and SIGTERM: the first asks Ray to shut down, the second ends the process. Stored files are complete.

And ends of processes in which something hangs.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from aistudio.pipeline._agent_stand_in import wait_for_the_end_of

_PATIENCE_S = 12.0  # for the engine to end; leaves time to print the ledger within 20 s of the signal
_ORDER_S = 30.0  # for what others do at the end of a process
_hanging = threading.Event()  # a thread of this process hangs in foreign code, whose way of ending may hang too


def leave_behind_at_exit() -> None:
    """Have `leave` end the process without waiting for threads and without the libraries' own clearing up."""
    _hanging.set()


def leave(code: int) -> NoReturn:
    """End the process with `code`, whatever foreign code does at its end.

    Threads are waited for and what is registered with atexit is called, for 30 s at most, or not at all where something
    hangs. Python does not take itself apart then: native threads of Ray, Arrow or a store that still run crash in that
    now and then, which would make a failure of a run that is stored, proved and told.
    """
    if not _hanging.is_set():
        _end_in_order(code)
    _end_at_once(code)


def _end_in_order(code: int) -> None:
    """What Python does first at its end, for at most `_ORDER_S`; a signal ends the waiting."""
    watch = threading.Timer(_ORDER_S, _end_at_once, (code,))
    watch.daemon = True
    watch.start()
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # what multiprocessing ends its processes with, too
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()


def _end_at_once(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


@contextmanager
def stop_signals() -> Iterator[Callable[[], None]]:
    """Within the block the first SIGINT or SIGTERM raises KeyboardInterrupt, a second one leaves at once (130).

    An engine that does not end in time after the first one is left behind (exit code 1). Does nothing outside the
    main thread. Yields a function that sets the handlers once more: Ray replaces that of SIGTERM when it starts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    late = threading.Timer(_PATIENCE_S, _leave_late)
    late.daemon = True

    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, _leave_now)
        signal.signal(signal.SIGTERM, _leave_now)
        late.start()
        raise KeyboardInterrupt

    def arm() -> None:
        for number in previous:
            signal.signal(number, stop)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arm()
    try:
        yield arm
    finally:
        late.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def signals_as_before() -> Iterator[Callable[[], None]]:
    """Yields a function that gives SIGINT and SIGTERM the handlers of now again: Ray replaces them when it starts."""
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def again() -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in previous.items():
                signal.signal(number, handler)

    yield again


def end_with_the_raylet(grace_s: float = 15.0) -> None:
    """Have this process, one of Ray's workers, end at most so many seconds after its raylet, whatever hangs.

    Ray asks its workers to end. But a call that is under way then may never return (in Ray 2.60 it turns in circles at
    the cost of a core), and Python waits for its thread.
    """
    raylet = os.environ.get("RAY_RAYLET_PID", "")
    if not raylet.isdigit() or os.getppid() != int(raylet):  # somebody is in between: nobody knows
        return

    def watch() -> None:
        wait_for_the_end_of(int(raylet))
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="raylet-watch", daemon=True).start()


def _leave_now(*_: object) -> NoReturn:
    os._exit(130)


def _leave_late() -> NoReturn:
    print(
        "\nStopped without waiting for the workers. What is stored is whole; the same command resumes.", file=sys.stderr
    )
    sys.stderr.flush()
    os._exit(1)
