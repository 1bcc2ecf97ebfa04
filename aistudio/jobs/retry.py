"""Score the failed rows of a finished run again and replace exactly those."""

import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
Score the failed rows of a finished run again, all of them or by status, and replace exactly those rows.
Other rows stay as they are, bit for bit; each score file is replaced atomically.

Exit codes as of score: 3 when more rows than engine.max_failed_share still fail."""


def build_parser() -> ArgumentParser:
    parser = run_parser("retry", DESCRIPTION)
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="S",
        help="only rows with this status: timeout, http_error, http_error:503, http_error:5xx; may be repeated",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.score import prepare, score
    from aistudio.pipeline.summary import exit_code, print_stopped, print_summary
    from aistudio.pipeline.tracking import check_tracking, track
    from aistudio.runs.record import settings_to_score_again
    from aistudio.runs.tracked import tracked_run
    from aistudio.status_filter import parse_status

    wanted = tuple(parse_status(text) for text in args.status)
    config = settings_to_score_again(args.run, args.overrides)
    check_tracking(config.log)
    prepared = prepare(config)
    try:
        result = score(prepared, retry=wanted)
    except KeyboardInterrupt:
        print_stopped(prepared.store, f"python -m aistudio retry {shlex.join(sys.argv[1:] if argv is None else argv)}")
        return 1
    print_summary(result, prepared.store, config.output)
    track(config.log, lambda: tracked_run(prepared.store))
    return exit_code(result)
