"""The runs in a folder: state, rows, size, age; old ones are removed when asked."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aistudio.jobs.common import add_set

if TYPE_CHECKING:
    from aistudio.runs.run_list import Found

DESCRIPTION = """\
List the runs that lie in a folder or below a bucket's prefix, oldest first: state, rows, files, bytes, days since the
last attempt ended.

--prune DAYS removes those that are at least so old, after a question; --yes answers it. Runs that are running (or were
killed: type their command again first), whose run.json cannot be read, or whose age is not known stay. Other files in a
run's folder stay."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="aistudio runs", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", help="a folder, s3://, gs:// or az:// prefix")
    parser.add_argument("--prune", type=float, metavar="DAYS", help="remove runs that are at least DAYS days old")
    parser.add_argument("--yes", action="store_true", help="remove without a question")
    add_set(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from datetime import UTC, datetime

    from aistudio.errors import ConfigError
    from aistudio.places import require_place
    from aistudio.reports.page import num_bytes
    from aistudio.runs.record import opening_settings
    from aistudio.runs.run_list import list_runs, old_runs
    from aistudio.store import open_store

    if args.prune is not None and not args.prune >= 0:
        raise ConfigError(f"--prune {args.prune:g}: expected 0 days or more")
    store = open_store(require_place("FOLDER", args.folder), opening_settings(args.overrides))
    runs, now = list_runs(store), datetime.now(UTC)
    if not runs:
        print(f"no run in {store.root}")
        return 0
    print(f"{'state':<12}{'rows':>14}{'files':>10}{'size':>12}{'days old':>10}  run")
    for run in runs:
        age = run.age_days(now)
        rows, days = ("–" if run.rows is None else f"{run.rows:,}"), ("–" if age is None else f"{age:,.1f}")
        print(f"{run.state:<12}{rows:>14}{run.num_files:>10,}{num_bytes(run.num_bytes):>12}{days:>10}  {run.path}")
    print(f"{len(runs):,} run(s), {num_bytes(sum(r.num_bytes for r in runs))}")
    return 0 if args.prune is None else _prune(old_runs(runs, args.prune, now), args, store.settings)


def _prune(old: "list[Found]", args: Namespace, settings: object) -> int:
    from aistudio.config import StoreSettings
    from aistudio.errors import ConfigError
    from aistudio.reports.page import num_bytes
    from aistudio.runs.run_list import remove_run
    from aistudio.store import open_store

    assert isinstance(settings, StoreSettings)
    if not old:
        print(f"none is {args.prune:g} days old or older")
        return 0
    print(f"\nto be removed, {num_bytes(sum(r.num_bytes for r in old))}:")
    for run in old:
        print(f"  {run.path}")
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError("nobody can be asked here: --yes removes them")
        if input("remove them? type yes: ").strip().lower() != "yes":
            print("nothing was removed")
            return 0
    for run in old:
        left = remove_run(open_store(run.path, settings))
        print(f"removed {run.path}" + (f"; {len(left):,} other file(s) stay there, such as {left[0]}" if left else ""))
    return 0
