"""How long the package's parts take to import, and what the base install holds on the disk: two tables.

    python benchmarks/imports.py [--old ../old] [--rounds 5]      # git worktree add ../old 8b17918

Each import is a new process, this checkout and an older one in turn: seconds of the import alone, the median of the
rounds, and the modules there are then. The second table adds up the files (RECORD) of the packages that the base
requirements come to, as they are installed here, with and without CUDA's and Triton's. Run it while nothing else runs.
"""

import argparse
import importlib.metadata as metadata
import os
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PARTS = "", ".config", ".jobs.cli", ".api", ".catalogue", ".images.download", ".store", ".models", ".pipeline.score"
GPU_ONLY = ("nvidia-", "cuda-", "triton")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT", help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    places = {"now": ROOT} | ({"before": args.old.resolve()} if args.old else {})
    print("| import | " + " | ".join(f"{name}, s | modules" for name in places) + " |")
    print("|---|" + "--:|--:|" * len(places))
    for part in PARTS:
        found = [
            (name, imported(f"aistudio{part}", place)) for _ in range(args.rounds) for name, place in places.items()
        ]
        runs = {name: [run for other, run in found if other == name] for name in places}
        cells = [f"{statistics.median(s for s, _ in runs[name]):.2f} | {runs[name][0][1]:.0f}" for name in places]
        print(f"| `aistudio{part}` | " + " | ".join(cells) + " |", flush=True)
    print("\n| base install | packages | MB | MB without CUDA and Triton |\n|---|--:|--:|--:|")
    for name, place in places.items():
        sizes = {package: num_bytes(package) / 1e6 for package in closure(place)}
        lean = sum(size for package, size in sizes.items() if not package.startswith(GPU_ONLY))
        print(f"| {name} | {len(sizes)} | {sum(sizes.values()):,.0f} | {lean:,.0f} |")


def imported(part: str, checkout: Path) -> list[float]:
    """Seconds of an import, and the number of modules after it; not a number where there is no such part."""
    code = f"import sys, time; t = time.perf_counter(); import {part}; print(time.perf_counter() - t, len(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run([sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, timeout=120)
    return [float("nan")] * 2 if done.returncode else [float(word) for word in done.stdout.split()[-2:]]


def closure(checkout: Path) -> set[str]:
    """Names of the packages that a checkout's base requirements come to; those that are not installed are named."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    waiting, found = [Requirement(text) for text in project["dependencies"]], dict[str, set[str]]()
    while waiting:
        wanted = waiting.pop()
        name, extras = wanted.name.lower().replace("_", "-"), {"", *wanted.extras}
        if extras <= found.get(name, set()):
            continue
        found[name] = found.get(name, set()) | extras
        try:
            needs = [Requirement(text) for text in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed here: counted as nothing", file=sys.stderr)
            continue
        waiting += [n for n in needs if n.marker is None or any(n.marker.evaluate({"extra": e}) for e in extras)]
    return set(found)


def num_bytes(package: str) -> int:
    try:
        return sum(file.size or 0 for file in metadata.files(package) or ())
    except metadata.PackageNotFoundError:
        return 0


if __name__ == "__main__":
    main()
