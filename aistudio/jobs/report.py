"""`aistudio report --run R`: the HTML report of a run, written to R/report/ from stored files alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
HTML report of a run: R/report/index.html opens from disk, without server or network. --into writes it to another
folder, so that the report of a run on S3 opens here; nothing is written to the run then.

--against EARLIER adds a page of what is different from an earlier run of the same catalogue: statuses and scores with
tests and the size of the difference, new and gone items. Which run is better: `compare`.

The page of similar items needs searches (search --like items); --set metrics.relevant_by=[COLUMN] says what is right.

"More like this" at every picture needs stored neighbours: aggregate --run R --set metrics.query=image."""


def build_parser() -> argparse.ArgumentParser:
    parser = run_parser("report", DESCRIPTION)
    parser.add_argument("--name", metavar="N", help="show the aggregation N (default: the run's first one)")
    parser.add_argument("--into", metavar="FOLDER", help="write the report here, not to R/report/")
    parser.add_argument("--against", metavar="EARLIER", help="an earlier run, for the page `drift`")
    parser.add_argument(
        "--beside", metavar="RUN", action="append", default=[],
        help="another run, whose searches of similar items stand beside this run's; may be repeated",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.report import write_report_to
    from aistudio.pipeline.report_place import ReportPlace
    from aistudio.pipeline.report_similar import image_aggregation
    from aistudio.reports.page import num_bytes
    from aistudio.runs.next_command import next_command
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    config = stored_settings(args.run, args.overrides)
    store = open_store(args.run, config.store)
    opening = [o for o in args.overrides if o.startswith("store.")]
    against = open_store(args.against, stored_settings(args.against, opening).store) if args.against else None
    beside = [open_store(run, stored_settings(run, opening).store) for run in args.beside]
    place = ReportPlace(store, args.into)
    index = write_report_to(place, store, config.report, against, args.name, metrics=config.metrics, beside=beside)
    print(Path(index).resolve().as_uri() if place.store.is_local else index)
    print(f"{num_bytes(place.size())} in {place.folder}; report.md beside it is for terminals")
    if not place.store.is_local:
        print(f"to open it here: {next_command('report', args.run, config.store, '--into', 'FOLDER')}")
    if config.report.similar_pictures and image_aggregation(store) is None:
        command = next_command("aggregate", args.run, config.store, "--set", "metrics.query=image")
        print(f'for "more like this" at each picture: {command}, then report again')
    return 0
