"""Does the fidelity gate tell the truth? What `--dry-run --probe N` predicts, beside the drift of the whole run.

    python benchmarks/fidelity.py --num 3000                    # ../shared/data/clothing where it is, else drawn ones
    python benchmarks/fidelity.py --num 3000 --images FOLDER    # pictures of one's own, a folder a class
    python benchmarks/fidelity.py --num 3000 --drawn            # the drawn catalogue
    python benchmarks/fidelity.py --num 1000 --px 1600          # enlarged: only large ones are decoded in part

For `images.decode: fast` and `engine.precision: bfloat16`: probes of several sizes, as the command does them, then both
whole runs, whose stored rows are compared by the same definitions. Told for each column: the change that 99 % of the
rows stay below, the drift (in standard deviations of the exact scores; of a vector: in lengths), flipped pairs and
changed best images. A gate is worth having where the drift of a probe is the whole run's within a factor of two or so.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from _demo_job import SHARED, demo_job, write_rows
from PIL import Image

from aistudio.config import JobConfig
from aistudio.evaluation.fidelity import Change, Fidelity
from aistudio.pipeline.cluster import connect
from aistudio.pipeline.fidelity import compare_runs
from aistudio.pipeline.probe import probe
from aistudio.pipeline.score import prepare, score
from aistudio.store import Store, open_store

SETTINGS: dict[str, dict[str, Any]] = {
    "images.decode: fast": {"images": {"decode": "fast"}},
    "engine.precision: bfloat16": {"engine": {"precision": "bfloat16"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=3000, help="pictures of the whole run")
    parser.add_argument("--probes", type=int, nargs="+", default=[50, 200, 800], metavar="N")
    parser.add_argument("--images", type=Path, help="folder with a folder for each class")
    parser.add_argument("--drawn", action="store_true", help="the drawn catalogue, even where photographs are")
    parser.add_argument("--px", type=int, help="pictures brought to this many pixels of their longer side")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    args = parser.parse_args()
    source = images = None if args.drawn else args.images or (SHARED if SHARED.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        if images and args.px:
            images = resized(images, folder / "pictures", args.px, args.num)
        manifest = write_rows(folder, images, args.num)
        exact = demo_job(manifest, folder / "exact")
        with connect(exact.engine):
            whole = scored(exact)
            tables = {}
            for label, sections in SETTINGS.items():
                config = demo_job(manifest, folder / label.split()[-1], **sections)
                found = {f"probe {n:,}": predicted(config, n) for n in args.probes}
                tables[label] = found | {"whole run": compare_runs(scored(config), whole)}
    print(f"\npictures: {source or 'drawn'}" + (f", {args.px} pixels" if source and args.px else ""))
    for label, found in tables.items():
        print_table(label, found)


def resized(images: Path, folder: Path, px: int, num: int) -> Path:
    """Write `num` pictures, evenly over the folders of `images`, as JPEGs of another size (bicubic, quality 92)."""
    classes = sorted(c for c in images.iterdir() if c.is_dir())
    for of_class in classes:
        (folder / of_class.name).mkdir(parents=True)
        for path in sorted(of_class.iterdir())[: -(-num // len(classes))]:
            with Image.open(path) as picture:
                scale = px / max(picture.size)
                size = round(picture.width * scale), round(picture.height * scale)
                picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
                    folder / of_class.name / f"{path.stem}.jpg", quality=92
                )
    return folder


def predicted(config: JobConfig, num: int) -> Fidelity:
    """What a probe of so many rows says."""
    found = probe(prepare(config), num).fidelity
    assert found is not None  # the settings are not exact
    return found


def scored(config: JobConfig) -> Store:
    """Score it all."""
    score(prepare(config))
    return open_store(config.output)


def print_table(label: str, found: dict[str, Fidelity]) -> None:
    """One setting: each column by each probe, and by the whole run."""
    print(f"\n{label}\n")
    print("| column | by | rows | 99 % below | drift | of the whole run's | pairs flipped | best changed |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    *_, whole = found.values()
    for last in whole.changes:
        for by, fidelity in found.items():
            change = next((c for c in fidelity.changes if c.column == last.column), None)
            if change is not None:
                print(f"| {last.column} | {by} | {change.num_rows:,} | {change.p99:.2g} | {change.drift:.3g} | "
                      f"{ratio(change, last)} | {shares(change)} |")  # fmt: skip
    said = ", ".join(f"{by} {f.drift:.3g}" for by, f in found.items())
    print(f"\nengine.max_drift is compared with: {said}")


def ratio(change: Change, last: Change) -> str:
    return f"{change.drift / last.drift:.2f}" if last.drift else "–"


def shares(change: Change) -> str:
    flipped = f"{change.flipped / change.pairs:.3%}" if change.pairs else "–"
    best = f"{change.best_changed / change.items:.1%} of {change.items:,}" if change.items else "–"
    return f"{flipped} | {best}"


if __name__ == "__main__":
    main()
