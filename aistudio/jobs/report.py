"""`aistudio report --run R`: the HTML report of a run, written to R/report/ from stored files alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from aistudio.jobs.common import run_parser


def build_parser() -> argparse.ArgumentParser:
    return run_parser("report", "HTML report of a run: R/report/index.html opens from disk, without server or network.")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.report import write_report
    from aistudio.reports.page import num_bytes
    from aistudio.runs import layout
    from aistudio.runs.record import stored_settings
    from aistudio.store import open_store

    config = stored_settings(args.run, args.overrides)
    store = open_store(args.run, config.store)
    index = write_report(store, config.report)
    size = sum(e.size for e in store.list(layout.REPORT))
    print(Path(index).resolve().as_uri() if store.is_local else index)
    print(f"{num_bytes(size)} in {store.path('report')}; report.md beside it is for terminals")
    return 0
