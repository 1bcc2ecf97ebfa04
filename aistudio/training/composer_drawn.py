"""The `drawn:` source of the task composer: pictures with what they show, from which the questions follow."""

import csv
import dataclasses
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from aistudio.config import ManifestSettings
from aistudio.config.train_data import DrawnData
from aistudio.demo.catalogue import save_picture
from aistudio.demo.draw import Attributes
from aistudio.demo.faults import BASE_URL
from aistudio.demo.sights import SIGHTS

SHOWN = "shown"  # column: Attributes as JSON


def drawn_pictures(settings: DrawnData, cache: Path) -> tuple[ManifestSettings, dict[str, str]]:
    """Draw pictures below `cache` unless they are there; return their manifest and the url_map that finds them."""
    asked = [settings.seed, settings.images_per_sight, settings.num_sights]
    folder = (cache / f"drawn-pictures-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}").absolute()
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".drawn-", dir=cache) as tmp:
            made = Path(tmp) / "pictures"
            _draw(made, settings)
            if not folder.is_dir():  # another process may have been faster
                shutil.move(made, folder)
    place = f"file://{folder}/"
    return ManifestSettings(path=str(folder / "pictures.csv"), format="csv"), {BASE_URL: place}


def _draw(folder: Path, settings: DrawnData) -> None:
    folder.mkdir(parents=True)
    with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("item_id", "image_url", "text", SHOWN))
        for sight in SIGHTS[: settings.num_sights]:
            for index in range(settings.images_per_sight):
                path, _, shown = save_picture(folder, sight, settings.seed, index)
                writer.writerow((sight.item_id, BASE_URL + path, sight.name, json.dumps(dataclasses.asdict(shown))))


def parse_shown(text: str) -> Attributes:
    """Parse what a picture shows, from its cell of the column."""
    return Attributes(**json.loads(text))
