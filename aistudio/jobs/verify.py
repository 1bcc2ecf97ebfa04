"""Prove from the stored files alone that every manifest row has exactly one outcome."""

import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aistudio.jobs.common import run_parser

if TYPE_CHECKING:
    from aistudio.runs.ledger import Ledger
    from aistudio.store import Store

DESCRIPTION = """\
Verify a run from its stored files alone: every manifest row has exactly one outcome, every file is whole (row
counts, page checksums) and was scored by the run's one fingerprint. Exit code 1 names what is wrong.

With --repair what is wrong is made again: from the folder's other files where they hold it, else by scoring those
shards again, as `score` would. An unfinished run is finished by it."""


def build_parser() -> ArgumentParser:
    parser = run_parser("verify", DESCRIPTION)
    parser.add_argument("--repair", action="store_true", help="make again what is missing or damaged")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    from aistudio.errors import StoreError
    from aistudio.runs.ledger import Ledger
    from aistudio.runs.record import recorded, stored_settings
    from aistudio.store import open_store

    try:
        settings = stored_settings(args.run, args.overrides)
    except StoreError as e:
        print(f"NOT in order: {e}")
        print("Mend it: type the command that made this run again; it looks at the scores whether they are its own")
        return 1
    store = open_store(args.run, settings.store)
    fingerprint = recorded(store).fingerprint
    ledger: Ledger | str = _check(store, fingerprint)
    if isinstance(ledger, Ledger) and ledger.complete:
        return _report(store, ledger, fingerprint)
    if not args.repair:
        _report(store, ledger, fingerprint)
        again = shlex.join(sys.argv[1:] if argv is None else argv)
        print(f"Mend it: python -m aistudio verify {again} --repair")
        return 1
    _repair(args.run, args.overrides)
    return _report(store, _check(store, fingerprint), fingerprint)


def _check(store: "Store", fingerprint: str) -> "Ledger | str":
    """The ledger of a run, or why there is none."""
    from aistudio.errors import StoreError
    from aistudio.runs.ledger import check_run

    try:
        return check_run(store, deep=True, fingerprint=fingerprint)
    except StoreError as e:
        return str(e)


def _repair(run: str, overrides: Sequence[str]) -> None:
    from aistudio.pipeline.score import prepare, score
    from aistudio.runs.record import settings_to_score_again

    score(prepare(settings_to_score_again(run, overrides)), repair=True)


def _report(store: "Store", ledger: "Ledger | str", fingerprint: str) -> int:
    """Print what was found; returns the exit code."""
    from aistudio.pipeline.progress import print_ledger
    from aistudio.runs.examples import examples
    from aistudio.runs.ledger import taken_over

    if isinstance(ledger, str):
        print(f"NOT in order: {ledger}")
        return 1
    print_ledger(ledger.counts, examples(store, ledger), ledger.num_manifest, ledger.num_rejected)
    if ledger.complete:
        print(f"verified: {ledger.num_stored:,} rows, each stored once, all files whole")
        print(f"fingerprint {fingerprint}")
        if taken := taken_over(ledger.reused):
            print(f"of these, taken over from a base run: {taken}")
        return 0
    print(f"NOT in order: {ledger.num_missing:,} rows missing, {ledger.num_doubled:,} doubled")
    for problem in ledger.problems[:20]:
        print(f"  {problem}")
    return 1
