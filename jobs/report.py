"""`aistudio report --run R`: the HTML report of a run, written to R/report/ from stored files alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from aistudio.config import JobConfig, StoreSettings, parse_config
from aistudio.errors import ConfigError
from aistudio.pipeline.report import write_report
from aistudio.reports.page import num_bytes
from aistudio.store import Store, open_store
from jobs.common import run, run_parser


def build_parser() -> argparse.ArgumentParser:
    return run_parser("report", "HTML report of a run: R/report/index.html opens from disk, without server or network.")


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    store = open_store(args.run, _store_settings(args.run, args.overrides))
    config = _run_config(store, args.overrides)
    index = write_report(store, config.report)
    size = sum(e.size for e in store.list("report/"))
    link = Path(index).resolve().as_uri() if store.is_local else index
    print(f"{link}\n{num_bytes(size)} in {store.path('report')}; a summary for terminals is in report.md")
    return 0


def _store_settings(run_folder: str, overrides: Sequence[str]) -> StoreSettings:
    """How to reach the run folder before its own settings can be read: `--set store...` alone."""
    bare = {"manifest": {"path": "-", "format": "csv"}, "output": run_folder, "models": {"recall": "-"}}
    return parse_config(bare, "--set", [o for o in overrides if o.startswith("store.")]).store


def _run_config(store: Store, overrides: Sequence[str]) -> JobConfig:
    if not store.exists("run.json"):
        raise ConfigError(f"--run {store.root}: no run.json there; give the output folder of `score`")
    record = store.read_json("run.json")
    if not isinstance(record.get("config"), dict):
        raise ConfigError(f"{store.path('run.json')}: no config in it; it was not written by `score`")
    return parse_config(record["config"], store.path("run.json"), overrides)


if __name__ == "__main__":
    run(main)
