"""Prove from the stored files alone that every manifest row has exactly one outcome."""

from argparse import ArgumentParser
from collections.abc import Sequence

from aistudio.jobs.common import run_parser

DESCRIPTION = """\
Verify a run from its stored files alone: every manifest row has exactly one outcome, every file is whole (row
counts, page checksums) and was scored by the run's one fingerprint. Exit code 1 names what is wrong."""


def build_parser() -> ArgumentParser:
    return run_parser("verify", DESCRIPTION)


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.pipeline.progress import print_ledger
    from aistudio.pipeline.summary import examples
    from aistudio.runs.ledger import check_run
    from aistudio.runs.record import load_run, stored_settings
    from aistudio.store import open_store

    store = open_store(args.run, stored_settings(args.run, args.overrides).store)
    record = load_run(store) or {}
    ledger = check_run(store, deep=True, fingerprint=record["fingerprint"])
    print_ledger(ledger.counts, examples(store, ledger), ledger.num_manifest, ledger.num_rejected)
    if ledger.complete:
        print(f"verified: {ledger.num_stored:,} rows, each stored once, all files whole")
        print(f"fingerprint {record['fingerprint']}")
        return 0
    print(f"NOT in order: {ledger.num_missing:,} rows missing, {ledger.num_doubled:,} doubled")
    for problem in ledger.problems[:20]:
        print(f"  {problem}")
    return 1
