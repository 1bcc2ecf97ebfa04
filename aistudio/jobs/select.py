"""The best images of each item, from stored scores: recall gate, ranking order, near-duplicates out."""

from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
Give each item its best images, from stored scores alone: a recall gate (is it a picture of the thing?), then the
ranking order (which will be clicked?), near-duplicates out, and a reason for every image in selection/*.parquet.

Settings: select.num_images, select.recall_threshold, select.recall_top_m, select.duplicate_cosine."""


def build_parser() -> ArgumentParser:
    parser = run_parser("select", DESCRIPTION)
    parser.add_argument("--csv", action="store_true", help="write selection/*.csv too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.select import select_run
    from aistudio.runs import layout
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    config = stored_settings(args.run, args.overrides)
    store = open_store(args.run, config.store)
    result = select_run(store, config, csv=args.csv)
    print(f"{result.num_selected:,} images selected for {result.num_items:,} items, of {result.num_rows:,} rows")
    for reason, n in sorted(result.reasons.items(), key=lambda x: -x[1]):
        print(f"  {reason:<16}{n:>12,}")
    print(f"written: {store.path(layout.SELECTION)} ({len(result.files)} file(s))")
    print(f"next: python -m jobs.report --run {args.run}")
    return 0
