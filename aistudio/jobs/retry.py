"""Score the failed rows of a finished run again and replace exactly those."""

from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
Score the failed rows of a finished run again, all of them or by status, and replace exactly those rows.
Other rows stay as they are, bit for bit; each score file is replaced atomically."""


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
    from aistudio.errors import ConfigError
    from aistudio.pipeline.score import prepare, score
    from aistudio.pipeline.summary import print_stopped, print_summary
    from aistudio.runs.record import settings_to_score_again
    from aistudio.schema import Status

    for status in args.status:
        if status.partition(":")[0] not in set(Status) - {Status.OK}:
            raise ConfigError(f"--status {status}: not a failure status; known: {', '.join(sorted(set(Status)))}")
    config = settings_to_score_again(args.run, args.overrides)
    prepared = prepare(config)
    try:
        result = score(prepared, retry=tuple(args.status))
    except KeyboardInterrupt:
        print_stopped(prepared.store, f"python -m jobs.retry --run {args.run}")
        return 1
    print_summary(result, prepared.store, config.output)
    return 0 if result.ledger.complete else 1
