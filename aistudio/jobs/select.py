"""The best images of each item, from stored scores: recall gate, ranking order, near-duplicates out."""

from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
Give each item its best images, from stored scores alone: a recall gate (is it a picture of the thing?), then the
ranking order (which will be clicked?), near-duplicates out, and a reason for every image in selection/*.parquet, with
your own columns of the manifest beside it.

Settings: select.num_images, select.recall_threshold, select.recall_top_m, select.duplicate_cosine."""


_ORDERS = {
    "rank_score": "rank_score (the ranking model):",
    "recall_score": "recall_score (image against its text):",
    "row_id": "row_id alone:",
}


def build_parser() -> ArgumentParser:
    parser = run_parser("select", DESCRIPTION)
    parser.add_argument("--csv", action="store_true", help="write selection_csv/*.csv too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.select import select_run
    from aistudio.runs import layout
    from aistudio.runs.next_command import next_command
    from aistudio.runs.record import recorded, stored_settings
    from aistudio.store import open_store

    config = stored_settings(args.run, args.overrides)
    store = open_store(args.run, config.store)
    result = select_run(store, config, csv=args.csv)
    print(f"{result.num_selected:,} images selected for {result.num_items:,} items, of {result.num_rows:,} rows")
    for reason, n in sorted(result.reasons.items(), key=lambda x: -x[1]):
        print(f"  {reason:<16}{n:>12,}")
    order = ", ".join(f"{_ORDERS[name]} {n:,}" for name, n in result.ordered_by.items())
    print(f"ordered by {order or 'nothing: no image is ok'}")
    if "recall_score" in result.ordered_by and (warning := recorded(store).texts.warning):
        print(f"  warning: {warning}")
    if "row_id" in result.ordered_by:
        print("  rows without any score have no text and no ranking model: their order means nothing")
    if result.num_doubtful:
        print(
            f"{result.num_doubtful:,} selected images have a recall_score of 0 or less, so little speaks for their "
            "showing the item; a gate leaves such out, e.g. --set select.recall_threshold=0.1 (see the score curves)"
        )
    if result.numbers:
        print(f"columns of text that are numbers here, as all their values are: {', '.join(result.numbers)}")
    print(f"written: {store.path(layout.SELECTION)} ({len(result.files)} file(s))")
    print(f"next: {next_command('report', args.run, config.store)}")
    return 0
