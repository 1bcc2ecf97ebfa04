"""Train a model on your own data: rows of a run, a manifest or drawn pictures."""

import json
import os
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aistudio.jobs.common import conf_parser

if TYPE_CHECKING:
    from aistudio.config.train import TrainSettings
    from aistudio.config.train_grid import GridRun
    from aistudio.training.programs import Finished

DESCRIPTION = """\
Train a model on your own data; `aistudio score` loads the result at once.

Typed again after any interruption, the same command goes on from the last checkpoint. A finished training says so.
With a section `grid` every combination of its values is a training of its own, in a folder below `output`, and one
table is made of all of them.
Exit codes: 0 done; 2 settings, data or weights are wrong; 1 failed part-way. See docs/training.md."""


def build_parser() -> ArgumentParser:
    parser = conf_parser("train", DESCRIPTION)
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="lower this process's priority by N")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.config import load_trainings
    from aistudio.pipeline.tracking import check_tracking

    runs = load_trainings(args.conf, args.overrides)
    for run in runs:
        check_tracking(run.settings.log)
    if args.nice:
        os.nice(args.nice)
    command = f"python -m aistudio train {shlex.join(sys.argv[1:] if argv is None else argv)}"
    if args.dry_run:
        return _dry_run(runs)
    try:
        return _train_grid(runs, command) if runs[0].name else _train(runs[0].settings, command)
    except KeyboardInterrupt:
        print(f"\nstopped; the last checkpoint is stored. Go on with\n  {command}", file=sys.stderr)
        return 1


def _dry_run(runs: list["GridRun"]) -> int:
    from aistudio.training import grid, programs

    if runs[0].name:
        print("\n".join([*grid.state_lines(runs), f"the first, {runs[0].name}:"]))
    print("\n".join(programs.plan(runs[0].settings, _say)))
    return 0


def _train(settings: "TrainSettings", command: str) -> int:
    from aistudio.training import programs

    found = _finished(settings, command)
    print("\n".join(programs.summary(found.record, settings.output.rstrip("/"), found.was_finished)))
    return 0


def _train_grid(runs: list["GridRun"], command: str) -> int:
    """Train each; 1 where one failed. The table is there in any case."""
    from aistudio.training import grid

    def train(run: "GridRun") -> "Finished":
        return _finished(run.settings, _own_command(command, run))

    folder = runs[0].settings.output.removesuffix(f"/{runs[0].name}")
    outcomes = grid.run_grid(runs, runs[0].settings.model_copy(update={"output": folder}), train, _say)
    print("\n".join(grid.summary_lines(outcomes, folder)))
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _own_command(command: str, run: "GridRun") -> str:
    """Return the command that trains one of a grid alone, for its card."""
    values = {"grid": None, "output": run.settings.output} | run.values
    return command + "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in values.items())


def _finished(settings: "TrainSettings", command: str) -> "Finished":
    from aistudio.pipeline.tracking import track
    from aistudio.runs.tracked import tracked_training
    from aistudio.training import layout, programs
    from aistudio.training.team import Team

    if settings.workers.num_workers == 1:
        found = programs.train(settings, Team(), _say, command)
    else:
        from aistudio.pipeline.train import train_on_workers

        found = train_on_workers(settings, _say, command)
    output = settings.output.rstrip("/")
    track(settings.log, lambda: tracked_training(found.record, output, f"{output}/{layout.REPORT_INDEX}"))
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
