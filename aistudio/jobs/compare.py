"""Is run B better than run A? Prints paired differences with intervals and corrected p-values."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aistudio.jobs.common import add_set

DESCRIPTION = """\
Compare aggregated runs, query by query: B (and C, ...) against A. For each metric the difference with its confidence
interval, a paired randomisation test, Holm's correction across the metrics, and on how many queries each run is better.
Writes metrics/compare_<name of A>.json into B. Settings are those of A with --set metrics.… on top.

--runs R --name N M compares two aggregations of one run: somebody else's scores with the run's own, for one.

Runs whose metrics were computed from different things (qrels, kind or sample of queries, gallery, items) are refused,
exit code 2; --recompute aggregates both again as A's settings say, over the images that are ok in both.

--selections A B shows instead which items' chosen images changed from A's selection to B's, and why: a page with the
pictures of both, and every change as Parquet and CSV, in B/selection_changes/<name of A>/ or --into a folder."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="aistudio compare", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--runs", nargs="+", metavar="R", help="A B [C ...]: run folders, the first is compared with")
    asked.add_argument(
        "--selections", nargs=2, metavar=("A", "B"), help="two runs: what is chosen otherwise in B than in A, and why"
    )
    parser.add_argument(
        "--name", metavar="N", nargs="+",
        help="compare the aggregations N (default: each run's first one); of two names the second is that in B",
    )  # fmt: skip
    parser.add_argument("--recompute", action="store_true", help="aggregate both again, alike, before comparing")
    parser.add_argument("--into", metavar="FOLDER", help="write the page of --selections here, not into B")
    add_set(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return _selections(args) if args.selections else _metrics(args)


def _metrics(args: Namespace) -> int:
    from aistudio.errors import ConfigError
    from aistudio.evaluation.compare import compare
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    first, *others = args.runs
    if args.into:
        raise ConfigError("--into is where --selections writes its page; with --runs leave it out")
    if not others and len(args.name or ()) != 2:
        raise ConfigError(f"--runs {first}: one run alone cannot be compared; give A B [C ...], or --name N M")
    if args.name and args.recompute:
        raise ConfigError("--recompute computes what it compares: leave --name out")
    if args.name and len(args.name) > 2:
        raise ConfigError(f"--name {' '.join(args.name)}: one name, or one for A and one for B")
    name, name_b = (args.name or [None])[0], (args.name or [None])[-1]
    settings = stored_settings(first, args.overrides)
    a = open_store(first, settings.store)
    for other in others or [first]:
        b = open_store(other, stored_settings(other, args.overrides).store)
        _print(compare(a, b, settings.metrics, name=name, name_b=name_b, recompute=args.recompute))
    return 0


def _selections(args: Namespace) -> int:
    from aistudio.errors import ConfigError
    from aistudio.pipeline.changes import write_changes
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    if args.name or args.recompute:
        raise ConfigError("--name and --recompute belong to --runs: a run has one selection")
    settings = [stored_settings(run, args.overrides) for run in args.selections]
    a, b = (open_store(run, s.store) for run, s in zip(args.selections, settings, strict=True))
    if a.root == b.root:
        raise ConfigError(f"--selections {a.root} {b.root}: the same run twice; a run has one selection")
    found = write_changes(a, b, settings[1].report, args.into)
    print(f"A  {a.root}\nB  {b.root}\n\n{found.changes.answer}\n")
    for note in found.changes.notes:
        print(f"note: {note}\n")
    _print_reasons(found.changes.reasons)
    print(f"table: {found.tables[0]}" + (f" and {len(found.tables) - 1:,} more" if len(found.tables) > 1 else ""))
    print(f"page: {Path(found.page).resolve().as_uri() if found.is_local else found.page}")
    return 0


def _print_reasons(reasons: dict[tuple[str, str], int]) -> None:
    from aistudio.reports.changes import reason_rows

    rows = reason_rows(reasons)
    for row in rows:
        print(f"  {row['side']:<22}  {row['words']:<40}{row['images']:>10,}")
    if rows:
        print()


def _print(result: dict[str, Any]) -> None:
    print(f"A  {result['a']}\nB  {result['b']}\n\n{result['answer']}\n")
    for warning in result["warnings"]:
        print(f"warning: {warning}\n")
    for what in ("queries", "pairs"):
        counts = result.get(what)
        if counts:
            print(
                f"{what}: {counts['paired']:,} in both, {counts['only_a']:,} only in A, {counts['only_b']:,} only in B"
            )
    for key, counts in result.get("relevant_by", {}).items():
        print(f"{key}: {counts['paired']:,} in both, {counts['only_a']:,} only in A, {counts['only_b']:,} only in B")
    names = result["metrics"]
    width = max(len(name) for name in names)
    print(
        f"\n  {'metric':<{width}}  {'A':>7}  {'B':>7}  {'B - A':>8}  {result['confidence']:.0%} interval       "
        f"{'p':>7}  {'p Holm':>7}  wins/ties/losses"
    )
    for name, m in names.items():
        interval = "" if m["low"] is None else f"{m['low']:+.4f} .. {m['high']:+.4f}"
        print(
            f"  {name:<{width}}  {m['a']:7.4f}  {m['b']:7.4f}  {m['difference']:+8.4f}  {interval:<18}  "
            f"{m['p_value']:7.4f}  {m['p_holm']:7.4f}  {m['wins']:,}/{m['ties']:,}/{m['losses']:,}"
        )
    if result["changed"]:
        print(f"\nchanged most ({result['changed_metric']}):")
    for query in result["changed"][:5]:
        first, second = (query[k] or "none" for k in ("first_rank_a", "first_rank_b"))
        ranks = f"first hit at {first} -> {second}"
        print(f"  {query['difference']:+.4f}  {query['query_id']}  {query['text'][:40]}  {ranks}")
    print()
