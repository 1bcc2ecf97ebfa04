"""Metrics of a run from its stored rows; prints them with their intervals."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aistudio.jobs.common import run_parser

if TYPE_CHECKING:
    from aistudio.config import JobConfig
    from aistudio.runs.mapper import Mapper
    from aistudio.store import Store

DESCRIPTION = """\
Compute the metrics of a run from its stored rows into R/metrics/. Nothing is downloaded and no model runs, so other
K, slices or relevance judgements are a matter of seconds: --set metrics.k=[1,5,100] --set metrics.slices=[category].
Settings are those of the run (run.json) with --set on top. Aggregations of different kinds live beside each other in
R/metrics/<name>/ (--name; default: text or image, by metrics.query); the first one is in R/metrics/ too.

--set metrics.query=image --set metrics.relevant_by=[category,metal] judges similar images by columns, all at once, as
<column>/<protocol>/<metric>: every image against all others, items, a split of the rows (metrics.query_where,
metrics.gallery_where) and classes that training never saw (metrics.new_classes).

--scores FILE judges somebody else's numbers for the rows of R by the same metrics: csv, tsv, jsonl or parquet with
row_id (or item_id and image_url) and `vector`, `score`, or `query` and `score`. The run's own over the same rows lie
beside them (<name>_ours): compare --runs R --name <name>_ours <name>. Lines that fit no row are counted and listed in
unmatched.parquet (docs/metrics.md)."""

# The paper's names for two of the numbers; printed where the run is one of the paper's own experiments.
PAPER_NAMES = {"hit_rate@5": "recall@5 in the paper", "pairwise_accuracy": "AUC in the paper"}
PAPER_FORMATS = ("poi_recall", "ranking_pairs")


def build_parser() -> ArgumentParser:
    parser = run_parser("aggregate", DESCRIPTION)
    parser.add_argument("--name", metavar="N", help="name of this aggregation, e.g. by_colour (default: text or image)")
    parser.add_argument("--scores", metavar="FILE", help="judge the scores or vectors of this file, not the run's own")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.evaluation.aggregate import aggregate
    from aistudio.evaluation.place import first_name
    from aistudio.pipeline.mapping import mapper_for
    from aistudio.pipeline.tracking import check_tracking, track
    from aistudio.runs import layout
    from aistudio.runs.next_command import next_command
    from aistudio.runs.record import recorded, stored_settings
    from aistudio.runs.tracked import tracked_run
    from aistudio.store import open_store

    config = stored_settings(args.run, args.overrides)
    store = open_store(args.run, config.store)
    check_tracking(config.log)
    with mapper_for(sum(e.size for e in store.list(layout.SCORES)), config.engine) as mapper:
        if args.scores is not None:
            code = _judge(args, config, store, mapper)
            track(config.log, lambda: tracked_run(store))
            return code
        result = aggregate(store, config.metrics, mapper, name=args.name)
    paper = PAPER_NAMES if config.report.paper or config.manifest.format in PAPER_FORMATS else {}
    _print(result["metrics"], result["about"], config.metrics.confidence, paper)
    if (warning := recorded(store).texts.warning) and result["about"].get("query") == "text":
        print(f"\nwarning: {warning}")
    track(config.log, lambda: tracked_run(store))
    name = result["about"]["name"]
    shown = () if name == first_name(store) else ("--name", name)  # what the report would not show of itself
    print(f"\nwritten to {args.run}/metrics/{name}/    next: {next_command('report', args.run, config.store, *shown)}")
    return 0


def _judge(args: Namespace, config: "JobConfig", store: "Store", mapper: "Mapper") -> int:
    """Judge a file of scores: print what became of its lines, its metrics, and what the run's own are beside them."""
    from aistudio.evaluation.given import OURS, judge_given
    from aistudio.runs.next_command import next_command

    judged = judge_given(store, config.metrics, args.scores, mapper, name=args.name)
    about = judged.theirs["about"]
    name, given = about["name"], about["given"]
    print(
        f"{given['file']}: {given['lines']:,} lines of {given['kind']}, {given['used']:,} used, by "
        f"{' and '.join(given['key'])}; {given['rows_without']:,} ok rows have none"
    )
    for reason, n in given["not_used"].items():
        print(f"  {reason:<14} {n:>12,}")
    if given.get("spearman"):
        value = given["spearman"]["value"]
        shown = "not defined" if value is None else f"{value:.4f}"
        print(f"  rank correlation with the run's own score {shown} over {given['spearman']['n']:,} rows")
    print()
    _print(judged.theirs["metrics"], about, config.metrics.confidence, {})
    for note in judged.notes:
        print(f"\nnote: {note}")
    if judged.ours is not None and judged.ours["metrics"]:
        print("\nthe run's own over the same rows:\n")
        _print(judged.ours["metrics"], judged.ours["about"], config.metrics.confidence, {})
    print(f"\nwritten to {args.run}/metrics/{name}/; lines that were not used: unmatched.parquet there")
    if judged.ours is not None and judged.theirs["metrics"]:
        print(f"next: {next_command('compare', args.run, config.store, '--name', f'{name}{OURS}', name)}")
    return 0


def _print(metrics: dict[str, dict[str, Any]], about: dict[str, Any], confidence: float, paper: dict[str, str]) -> None:
    print(
        f"{about['rows']:,} rows, {about['gallery_rows']:,} images in the gallery, {about['failed_rows']:,} failed, "
        f"{about['queries']:,} queries; intervals {confidence:.0%}\n"
    )
    width = max((len(name) for name in metrics), default=0)
    for name, m in metrics.items():
        if "cmc@" in name or "/hits@" in name:
            continue  # the same number as hit_rate@K; in metrics.json under both names. hits@K/20 is nobody's headline
        interval = "" if m["low"] is None else f"{m['low']:.4f} .. {m['high']:.4f}"
        value = "-" if m["value"] is None else f"{m['value']:.4f}"
        print(f"  {name:<{width}}  {value:>9}  {interval:<18}  n={m['n']:<8,} {paper.get(name) or _beside(m)}".rstrip())
    for note in about["notes"]:
        print(f"\nnote: {note}")


def _beside(m: dict[str, Any]) -> str:
    """Return the mean of class means, and what a random order gives for both means, of metrics by a column."""
    shown = {"macro": m.get("macro"), "random": m.get("chance"), "random macro": m.get("chance_macro")}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)
