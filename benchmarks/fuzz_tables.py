"""Runs over tables of every Arrow type, alone and nested, with extreme values: no crash, no shard lost, no row lost.

    python benchmarks/fuzz_tables.py --tables 2000 --seed 1

Each table goes through manifest, score (a stub encoder), retry, verify, aggregate with all its columns as slices,
select, compare and report. Prints each failure with the seed that repeats it; exit code 1 if there was one.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.odd_tables import KINDS
from tests.pipeline.odd_runs import odd_table, run_all


def one(seed: int) -> tuple[str, str | None]:
    """Run one table; returns the kind of its first column and what went wrong."""
    rng = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            table = odd_table(rng, kind)
            counts = run_all(rng, table, Path(folder) / "run")
        except Exception:  # noqa: BLE001 - that is what is looked for
            return kind, traceback.format_exc()
    lost = counts.rows - counts.stored - counts.rejected
    return kind, f"{lost} of {counts.rows} rows lost" if lost else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="of the first table; the others follow")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    failed: Counter[str] = Counter()
    seen: set[str] = set()
    started = time.monotonic()
    for seed in range(args.seed, args.seed + args.tables):
        kind, problem = one(seed)
        seen.add(kind)
        if problem:
            failed[problem.strip().splitlines()[-1][:100]] += 1
            if failed.total() <= 20:
                print(f"--- seed {seed}, {kind}\n{problem}", flush=True)
    print(
        f"{args.tables} tables, seeds {args.seed} to {args.seed + args.tables - 1}; "
        f"{len(seen)} of {len(KINDS)} types of Arrow stood first in one"
    )
    print(f"{failed.total()} failed, {time.monotonic() - started:.0f} s")
    for problem, times in failed.most_common():
        print(f"  {times:4d}  {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
