"""What every job shares: its parser, its exit codes, its way of ending. No torch, no ray at import.

A job module has `build_parser()` and `main(argv) -> int`, and ends with `if __name__ == "__main__": run(main)`.
"""

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from aistudio.errors import AIStudioError
from aistudio.jobs import streams
from aistudio.pipeline.stopping import leave
from aistudio.secrets import redact


def conf_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Parser of a job that is described by a conf file: --conf, --set, --dry-run."""
    parser = _parser(verb, description)
    parser.add_argument("--conf", required=True, metavar="FILE", help="the job's settings, e.g. conf/demo.yaml")
    add_set(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the plan, start nothing")
    return parser


def run_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Parser of a job that works on a stored run: --run, --set."""
    parser = _parser(verb, description)
    parser.add_argument("--run", required=True, metavar="R", help="run folder, local or s3://bucket/prefix")
    add_set(parser)
    return parser


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one setting (value is YAML); may be repeated",
    )


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"aistudio {verb}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a job and exit: 0 done, 2 wrong settings or manifest, 1 failed part-way, 3 too many rows failed.

    Our own errors come without a traceback. Ctrl-C ends with 130 and SIGTERM with 143, from the first moment on;
    `score` has its own answer while it works.
    """
    streams.prepare()
    _keep_warnings_harmless()
    _name_a_home()
    terminated = _hear_sigterm()
    try:
        code = main(argv)
    except AIStudioError as e:
        print(f"error: {redact(str(e))}", file=sys.stderr)
        code = e.exit_code
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:  # before or after the work; the jobs themselves handle one during it
        code = 143 if terminated else 130
    except SystemExit as e:  # argparse
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 2
    if problem := streams.complaint():
        whole = "; the run and what it stored are whole" if code == 0 else ""
        print(f"error: {problem}{whole}", file=sys.stderr)
        code = code or 1
    leave(code)


def _hear_sigterm() -> list[int]:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does; returns a list that is empty until it comes."""
    seen: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        seen.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    return seen


def _name_a_home() -> None:
    """Where nobody knows a home (no HOME, a user id without a name), have `~` mean a folder that is not there."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"  # as Debian has it; this run's own workers take it over


def _keep_warnings_harmless() -> None:
    """PYTHONWARNINGS=error is for one's own code: a library's warning is shown, here and in the workers, not raised."""
    if any(option.partition(":")[0] == "error" for option in sys.warnoptions):
        os.environ["PYTHONWARNINGS"] = "default,ignore::ResourceWarning"
        warnings.resetwarnings()
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", ResourceWarning)
