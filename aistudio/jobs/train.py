"""Train a model on your own data: rows of a run, a manifest or drawn pictures."""

import os
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import conf_parser

DESCRIPTION = """\
Train a model on your own data; `aistudio score` loads the result at once.

Typed again after any interruption, the same command goes on from the last checkpoint. A finished training says so.
Exit codes: 0 done; 2 settings, data or weights are wrong; 1 failed part-way. See docs/training.md."""


def build_parser() -> ArgumentParser:
    parser = conf_parser("train", DESCRIPTION)
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="lower this process's priority by N")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.config import load_train_config

    settings = load_train_config(args.conf, args.overrides)
    if args.nice:
        os.nice(args.nice)

    from aistudio.training import programs
    from aistudio.training.team import Team

    if args.dry_run:
        print("\n".join(programs.plan(settings, _say)))
        return 0
    command = f"python -m aistudio train {shlex.join(sys.argv[1:] if argv is None else argv)}"
    try:
        if settings.workers.num_workers == 1:
            found = programs.train(settings, Team(), _say, command)
        else:
            from aistudio.pipeline.train import train_on_workers

            found = train_on_workers(settings, _say, command)
    except KeyboardInterrupt:
        print(f"\nstopped; the last checkpoint is in {settings.output}. Go on with\n  {command}", file=sys.stderr)
        return 1
    print("\n".join(programs.summary(found.record, settings.output.rstrip("/"), found.was_finished)))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
