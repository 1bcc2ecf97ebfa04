"""Search a run's stored vectors: items like items, pictures like a picture, pictures that a text describes."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aistudio.jobs.common import run_parser

if TYPE_CHECKING:
    from aistudio.pipeline.search import SearchPlan

DESCRIPTION = """\
Find for each query the best items of a run, exactly, from its stored vectors, into R/searches/<name>/.

--queries FILE   csv, tsv, jsonl or parquet: query_id and any of text, image_url, row_id, item_id; `relevant` (row or
                 item ids) gives metrics. A text asks the recall model, a picture any model, both a composer (--model).
                 fashioniq:ROOT, mitstates:ROOT and fashion200k:ROOT are the queries of those data sets.
--like WHAT      `items`: every item of the run asks for others like it; a picture's path or address; another run, whose
                 items ask this one.

The query's own item and copies of its pictures are left out (search.leave_out); settings: search.top_n, search.filter,
search.where, search.diversify, search.duplicate_cosine, search.item_score. Exit code 3: results are stored, but more
queries than engine.max_failed_share could not be asked."""


def build_parser() -> ArgumentParser:
    parser = run_parser("search", DESCRIPTION)
    parser.add_argument("--name", required=True, metavar="N", help="name of this search; one of that name is replaced")
    parser.add_argument("--model", metavar="NAME", help="an encoder of the run (default: its recall model)")
    asking = parser.add_mutually_exclusive_group(required=True)
    asking.add_argument("--queries", metavar="FILE", help="the query table, or DATASET:ROOT")
    asking.add_argument("--like", metavar="WHAT", help="items, a picture, or another run")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would be asked, search nothing"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.errors import TOO_MANY_FAILED
    from aistudio.pipeline.search import plan_search, run_search
    from aistudio.runs.next_command import next_command

    plan = plan_search(
        args.run, args.name, args.overrides, model=args.model, queries=args.queries, like=args.like
    )  # fmt: skip
    _print_plan(plan)
    if args.dry_run:
        return 0
    outcome = run_search(plan)
    _print(outcome.about, outcome.metrics)
    report = next_command("report", args.run, plan.config.store)
    print(f"\nwritten to {args.run}/searches/{args.name}/    next: {report}")
    if outcome.too_many_failed:
        print(
            f"error: {outcome.about['queries_failed']:,} queries could not be asked: queries.parquet", file=sys.stderr
        )
        return TOO_MANY_FAILED
    return 0


def _print_plan(plan: "SearchPlan") -> None:
    kinds = ", ".join(f"{n:,} by {kind}" for kind, n in plan.kinds().items())
    asking = f"every item of {plan.source.store.root}" if plan.every_item else f"{len(plan.asked):,} queries: {kinds}"
    print(
        f"{asking}\nmodel {plan.model.name} ({plan.model.kind}), {plan.rows:,} rows of {plan.width} numbers, "
        f"{plan.config.search.top_n} results of each query ({plan.per}s)\nleft out: "
        f"{', '.join(plan.leave_out) or 'nothing'}; about {plan.memory_bytes() / 2**20:,.0f} MiB beside the program"
    )


def _print(about: dict[str, Any], metrics: dict[str, dict[str, Any]]) -> None:
    print(f"\n{about['results']:,} results for {about['queries']:,} queries, {about['queries_failed']:,} not asked")
    for status, n in about["status"].items():
        if status != "ok":
            print(f"  {status:<20}{n:>10,}")
    width = max((len(name) for name in metrics), default=0)
    for name, m in metrics.items():
        interval = "" if m["low"] is None else f"{m['low']:.4f} .. {m['high']:.4f}"
        value = "-" if m["value"] is None else f"{m['value']:.4f}"
        print(f"  {name:<{width}}  {value:>9}  {interval:<18}  n={m['n']:,}".rstrip())
    for note in about["notes"]:
        print(f"note: {note}")
