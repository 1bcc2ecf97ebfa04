"""The same benchmark in two checkouts, in pairs side by side: what a change cost or gained.

    git worktree add ../old 8b17918
    python benchmarks/before_after.py --old ../old -- benchmarks/engine.py --rounds 1 --rows 20000
    python benchmarks/before_after.py --old ../old -- benchmarks/throughput.py --rounds 1 --ways ours --num 1000
    python benchmarks/before_after.py --old ../old --time -- -m jobs.verify --run RUN

Each pair runs what stands behind `--` once in each checkout, in turn who is first, with this Python and the checkout's
own code. The rates are read from the table that the benchmark prints (its column "rows/s" or "images/s"); with --time
CPU and wall seconds of the command are compared instead. Prints the median of new / old for each line of the table,
with the interval between two order statistics of the ratios that holds the true median in at least 95 % of cases
(needs 6 pairs; seven pairs: their lowest and highest, 98.4 %). Run it while nothing else runs.
"""

import argparse
import math
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RATES = ("rows/s", "images/s")  # names of columns begin so
KEYS = ("plan", "rows", "way")  # columns that name a line
COVERAGE = 0.95

Numbers = dict[str, float]  # name of a line -> its number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--new", type=Path, default=ROOT, metavar="CHECKOUT", help="default: this one")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--time", action="store_true", help="compare the command's CPU and wall seconds")
    parser.add_argument("--timeout-s", type=float, default=1800, help="of one run")
    parser.add_argument("command", nargs="+", help="what Python is given, e.g. benchmarks/engine.py --rounds 1")
    args = parser.parse_args()
    pairs: list[tuple[Numbers, Numbers]] = []
    for number in range(args.pairs):
        found: dict[str, Numbers] = {}
        for name in ("old", "new") if number % 2 == 0 else ("new", "old"):
            checkout = getattr(args, name).resolve()
            found[name] = run(checkout, args.command, timed=args.time, timeout_s=args.timeout_s)
            print(f"pair {number + 1} {name}: {found[name]}", file=sys.stderr, flush=True)
        pairs.append((found["old"], found["new"]))
    print_ratios(pairs)


def run(checkout: Path, command: list[str], *, timed: bool, timeout_s: float) -> Numbers:
    """Run the command in a checkout and return its numbers. Raises SystemExit when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=checkout, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    wall_s, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    if timed:
        return {"CPU s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "wall s": wall_s}
    numbers = rates(done.stdout)
    if not numbers:
        raise SystemExit(f"{checkout}: no table with a column {' or '.join(RATES)} in what it printed:\n{done.stdout}")
    return numbers


def rates(text: str) -> Numbers:
    """Read the rates of every table in a benchmark's output; a line of text above a table is part of its name."""
    found, title, header = Numbers(), "", list[str]()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            title, header = line.strip() or title, []
        elif not header:
            header = cells
        elif number := next((_number(c) for h, c in zip(header, cells, strict=False) if h.startswith(RATES)), None):
            named = [c for h, c in zip(header, cells, strict=False) if h in KEYS]
            found[" ".join(filter(None, [title, *named]))] = number
    return found


def _number(cell: str) -> float | None:
    match = re.match(r"[\d,]+(\.\d+)?", cell)
    return float(match[0].replace(",", "")) if match else None


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the narrowest pair of order statistics, and how often it holds the true median: at least COVERAGE.

    With fewer than 6 values there is none; lowest, highest and their coverage are returned.
    """
    ordered, n = sorted(values), len(values)
    for k in reversed(range(n // 2)):
        covered = 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        if covered >= COVERAGE:
            return ordered[k], ordered[n - 1 - k], covered
    return ordered[0], ordered[-1], 1 - 2 / 2**n


def print_ratios(pairs: list[tuple[Numbers, Numbers]]) -> None:
    """Print a line for each number that every run gave."""
    print("| | old | new | new / old | interval | covers |\n|---|--:|--:|--:|--:|--:|")
    names = [name for name in pairs[0][0] if all(name in run for pair in pairs for run in pair)]
    for name in names:
        old, new = ([pair[i][name] for pair in pairs] for i in (0, 1))
        ratios = [b / a for a, b in zip(old, new, strict=True)]
        low, high, covered = interval(ratios)
        print(
            f"| {name} | {statistics.median(old):,.4g} | {statistics.median(new):,.4g} "
            f"| {statistics.median(ratios):.3f} | {low:.3f} .. {high:.3f} | {covered:.1%} |"
        )


if __name__ == "__main__":
    main()
