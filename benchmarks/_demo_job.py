"""A job over local pictures with the demo's models: a drawn catalogue, or a folder with a folder for each class."""

import csv
from pathlib import Path
from typing import Any

from aistudio.config import JobConfig, parse_config
from aistudio.demo.catalogue import write_catalogue
from aistudio.demo.sights import SIGHTS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "clothing" / "train"
PER_ITEM = 8  # pictures of a class that make an item
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def write_rows(folder: Path, images: Path | None, num: int) -> Path:
    """Write a manifest of at most `num` local pictures: of `images`, evenly over its folders, else drawn ones."""
    if images is None:
        write_catalogue(
            folder / "catalogue", images_per_sight=max(2, -(-num // len(SIGHTS))), num_pairs=10, broken=False
        )
        images = folder / "catalogue" / "images"
    folders = sorted(c for c in images.iterdir() if c.is_dir())
    names = {sight.item_id: sight.name for sight in SIGHTS}
    classes = [sorted(p for p in c.iterdir() if p.suffix.lower() in SUFFIXES) for c in folders]
    rows = [(paths[i], i // PER_ITEM) for i in range(max(map(len, classes))) for paths in classes if i < len(paths)]
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["item_id", "image_url", "text"])
        for file, item in rows[:num]:
            name = names.get(file.parent.name, file.parent.name.replace("_", " "))
            writer.writerow([f"{file.parent.name}-{item}", str(file.resolve()), name])
    return path


def demo_job(manifest: Path, output: Path, **sections: Any) -> JobConfig:
    """Return the job with the demo's recall and ranking models."""
    data = {
        "manifest": {"path": str(manifest), "format": "csv"},
        "output": str(output),
        "models": {
            "recall": "demo_recall",
            "ranking": "demo_ranking",
            "poi_table": str(ROOT / "weights/demo/poi_table.parquet"),
        },
    }
    return parse_config(data | sections, "benchmark")
