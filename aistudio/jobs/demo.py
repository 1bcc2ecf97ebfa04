"""The whole job on a drawn catalogue, end to end: draw, serve, score, search, aggregate, select, report."""

import os
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="aistudio demo", description=__doc__)
    parser.add_argument("--out", default="reports/demo", metavar="DIR", help="results (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the drawing (default: %(default)s)")
    parser.add_argument("--images-per-sight", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--num-pairs", type=int, default=400, metavar="N", help="default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.demo import run_demo
    from aistudio.pipeline.summary import print_summary
    from aistudio.places import require_place
    from aistudio.runs.next_command import next_command
    from aistudio.store import open_store

    out = require_place("--out", args.out, ())
    demo = run_demo(out, seed=args.seed, images_per_sight=args.images_per_sight, num_pairs=args.num_pairs)
    for name, part in demo.runs.items():
        print(f"\n{name}")
        print_summary(part.result, open_store(part.folder), part.folder, next_step=False)
    print("\nmetrics (95 % interval)")
    _line(demo.runs["sights"].metrics, "hit_rate@5", f"chance {demo.catalogue.chance_hit_rate_at_5:.3f}")
    best = demo.catalogue.best_possible.pairwise_accuracy
    _line(demo.runs["pairs"].metrics, "pairwise_accuracy", f"chance 0.5, best possible {best:.3f}")
    if demo.composed is not None:
        print(f'\n{demo.composed.num_questions} composed questions, such as a picture and "the same place at night"')
        _line({"hit_rate@1": demo.composed.hit_rate_at_1}, "hit_rate@1", "sights/report/composed.html")
    print("\nreports")
    for part in demo.runs.values():
        print(f"  {Path(part.report).absolute().as_uri()}")
    if not demo.as_expected:
        print(f"\nNOT as expected: the broken pictures should have given {demo.catalogue.expected_status}")
        return 1
    by_make = "MAKELEVEL" in os.environ and args.out == build_parser().get_default("out")
    command = "make serve" if by_make else next_command("serve", demo.runs["sights"].folder)
    print(f"\nlook for pictures in it: {command}")
    return 0


def _line(metrics: dict[str, Any], name: str, beside: str) -> None:
    m = metrics[name]
    print(f"  {name:<18} {m['value']:.3f}  ({m['low']:.3f} .. {m['high']:.3f})   {beside}")
