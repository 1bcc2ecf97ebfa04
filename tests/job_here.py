"""`python -m MODULE ARGUMENTS` in this process: for tests of what a job says and does, not of how a process ends.

Jobs that would start a Ray of their own are for real processes.
"""

import contextlib
import io
import runpy
import signal
import subprocess
import sys

import pytest

from aistudio.jobs import common


def job_here(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Exit code and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            patch.setattr(common, "leave", sys.exit)  # which ends the process at once where something hangs
            patch.setattr(sys, "argv", [module, *arguments])
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = ended.value.code
    return subprocess.CompletedProcess(
        [module, *arguments], 0 if code is None else code, out.getvalue(), err.getvalue()
    )
