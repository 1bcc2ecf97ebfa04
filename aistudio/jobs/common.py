"""What every job shares: its parser, its exit codes, its way of ending. No torch, no ray at import.

A job module has `build_parser()` and `main(argv) -> int`, and ends with `if __name__ == "__main__": run(main)`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from aistudio.errors import AIStudioError


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

    Our own errors come without a traceback.
    """
    try:
        code = main(argv)
    except AIStudioError as e:
        print(f"error: {e}", file=sys.stderr)
        code = e.exit_code
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:  # before or after the work; the jobs themselves handle one during it
        code = 130
    sys.exit(code)
