"""Score a manifest of image URLs: download, decode, encode, one stored Parquet row per manifest row."""

import json
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aistudio.imports import uncollected
from aistudio.jobs.common import conf_parser
from aistudio.pipeline.start_up import announce

if TYPE_CHECKING:
    from aistudio.config import JobConfig

DESCRIPTION = """\
Score a manifest of image URLs: one stored row per manifest row, with a status, embeddings and scores.

Typed again after any interruption, the same command scores only what is missing. A finished run says so.
Exit codes: 0 done and the ledger adds up; 2 settings, manifest or weights are wrong; 1 failed part-way, or stopped
because the first rows already show that too many fail; 3 everything is stored, but more rows failed than
engine.max_failed_share (0.25; null: any number)."""


def build_parser() -> ArgumentParser:
    parser = conf_parser("score", DESCRIPTION)
    parser.add_argument("--yes", action="store_true", help="really empty the run folder (with start_over: true)")
    parser.add_argument(
        "--base", metavar="R", help="an earlier run: what of it still holds is not computed again (base)"
    )
    parser.add_argument(
        "--probe",
        type=int,
        metavar="N",
        help="with --dry-run: score N rows, predict time, bytes and failures, and tell what fast settings change",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.config import load_config
    from aistudio.errors import ConfigError

    base = [] if args.base is None else [f"base={json.dumps(args.base)}"]
    config = load_config(args.conf, [*args.overrides, *base])
    if config.start_over and not args.yes:
        raise ConfigError("start_over empties the run folder; say --yes as well to mean it")

    announce("checking output and manifest")
    from aistudio.pipeline import early_ray

    with early_ray.abandoned_on_error():
        if not args.dry_run:
            _begin_ray(config)
        return _run(config, args, f"python -m aistudio score {shlex.join(sys.argv[1:] if argv is None else argv)}")


def _begin_ray(config: "JobConfig") -> None:
    """Begin to start a local Ray where the run is certainly new: the program is imported, and checks, meanwhile."""
    from aistudio.pipeline import early_ray
    from aistudio.pipeline.cluster import check_engine
    from aistudio.places import in_bucket
    from aistudio.runs.layout import RUN

    if not in_bucket(config.output) and not os.path.lexists(Path(config.output) / RUN):
        check_engine(config.engine)
        early_ray.begin(config.engine)


def _run(config: "JobConfig", args: Namespace, command: str) -> int:
    """Do what the command line asks for; `command`: what to type to go on."""
    with uncollected():
        from aistudio.errors import AIStudioError, ConfigError
        from aistudio.pipeline.score import prepare, score
        from aistudio.pipeline.summary import exit_code, print_dry_run, print_stopped, print_summary
        from aistudio.pipeline.tracking import check_tracking, track
        from aistudio.runs.tracked import tracked_run

    if args.probe is not None and (args.probe < 1 or not args.dry_run):
        raise ConfigError("--probe N (1 or more) goes with --dry-run")
    check_tracking(config.log)
    if args.dry_run:
        prepared = prepare(config, fetch=args.probe is not None)
        print_dry_run(prepared)
        if args.probe:
            from aistudio.pipeline.probe import print_probe

            print_probe(prepared, args.probe)
        return 0
    prepared = prepare(config, start=True)
    try:
        if config.engine.max_drift is not None:
            from aistudio.pipeline.probe import check_drift

            check_drift(prepared)
        result = score(prepared)
    except KeyboardInterrupt:
        print_stopped(prepared.store, command)
        return 1
    except AIStudioError:
        track(config.log, lambda: tracked_run(prepared.store))
        raise
    print_summary(result, prepared.store, config.output)
    track(config.log, lambda: tracked_run(prepared.store))
    return exit_code(result)
